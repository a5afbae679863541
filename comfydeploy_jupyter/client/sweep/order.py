"""The order in which the points of a sweep run, so that ComfyUIs have to execute few nodes.

ComfyUI keeps the outputs of the nodes of the last prompt (its classic cache, ``execution.py``). A
node is executed again if one of its inputs, or of the nodes before it, has another value than in
the last prompt.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ...graphs.partial import nodes_behind, readers_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

T = TypeVar("T")


class Order(NamedTuple):
    """The order of the points of a sweep.

    Attributes
    ----------
    indexes : list of int
        The indexes of the points, in the order in which they run.
    levels : list of int
        For each of them, the first input that has another value than at the point before, among
        all swept inputs in the order in which they change; 0 changes least often. Empty if the
        points have no work in common.
    """

    indexes: list[int]
    levels: list[int]


def run_order(
    points: Sequence[Mapping[str, T]],
    graph: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Collection[str]],
) -> Order:
    """Return the order in which points share as much work as possible with the one before.

    The input that most nodes depend on changes least often. Each time that it changes, the others
    go back through their values from the last one to the first, so that these stay the same.

    Parameters
    ----------
    points : sequence of dict
        The value of each input that is swept, by its name.
    graph : Graph
        The workflow in API format.
    targets : dict of str to collection of str
        The nodes that each name sets an input of.

    Returns
    -------
    Order
        If nothing can be shared, the points are in order.
    """
    readers = readers_of(graph)
    names = list(dict.fromkeys(chain.from_iterable(points)))
    dependents = {name: frozenset(nodes_behind(targets.get(name, ()), readers)) for name in names}
    if len(set(dependents.values())) < 2:
        return Order(list(range(len(points))), [])
    names.sort(key=lambda name: len(dependents[name]), reverse=True)
    indexes = _back_and_forth(list(range(len(points))), points, names)
    levels = [0]
    for before, after in pairwise(points[index] for index in indexes):
        changed = (before.get(name) != after.get(name) for name in names)
        levels.append(next((level for level, has in enumerate(changed) if has), len(names)))
    return Order(indexes, levels)


class Branches(Generic[T]):
    """Divides the points of a sweep among machines, so that each gets points with shared work.

    Each machine has a branch: points that follow each other in the order of `run_order`. When it
    has taken them all, it gets the last half of the longest other branch.

    Parameters
    ----------
    items : sequence
        One for each point, in the order of `Order.indexes`.
    levels : sequence of int
        As in `Order`. If it is empty, the points are not divided.
    count : int
        The number of machines.
    """

    def __init__(self, items: Sequence[T], levels: Sequence[int], count: int) -> None:
        count = count if levels else 1
        pairs = zip(levels or [0] * len(items), items, strict=True)
        self._left: list[deque[tuple[int, T]]] = [
            deque(pairs),
            *(deque() for _ in range(count - 1)),
        ]
        self._taken = [0] * count  # how many points of each branch have not ended

    def __len__(self) -> int:
        return sum(map(len, self._left))

    def take(self) -> tuple[int, T] | None:
        """Return the next item of the branch with the fewest that have not ended; None at the end.

        Returns
        -------
        tuple
            The number of the branch, for `ended`, and the item.
        """
        branch = self._taken.index(min(self._taken))
        if not self._left[branch]:
            longest = max(self._left, key=len)
            kept = _cut([level for level, _ in longest]) if longest else 0
            self._left[branch] = deque(list(longest)[kept:])
            for _ in self._left[branch]:
                longest.pop()
        if not self._left[branch]:
            return None
        self._taken[branch] += 1
        return branch, self._left[branch].popleft()[1]

    def ended(self, branch: int) -> None:
        """Record that an item of a branch has ended."""
        self._taken[branch] -= 1


def _cut(levels: Sequence[int]) -> int:
    """Return where to divide points: near the middle, where they have the least in common."""
    middle = len(levels) // 2
    near = range(middle - middle // 2, middle + middle // 2 + 1)
    return min(near, key=lambda index: (levels[index], abs(index - middle)))


def _back_and_forth(
    indexes: list[int], points: Sequence[Mapping[str, T]], names: Sequence[str]
) -> list[int]:
    """Sort points by the values of their inputs, of which the last one changes most often."""
    groups = [indexes]
    for name in names:
        split: list[list[int]] = []
        for group in groups:
            by_value: dict[str, list[int]] = {}
            for index in group:
                by_value.setdefault(repr(points[index].get(name)), []).append(index)
            if split:  # begin with the value that the group before has ended with
                last = repr(points[split[-1][0]].get(name))
                if last in by_value:
                    by_value = {last: by_value.pop(last), **by_value}
            split += by_value.values()
        groups = split
    return list(chain.from_iterable(groups))
