"""The order in which the points of a sweep run, so that ComfyUI has to execute few nodes.

ComfyUI keeps the outputs of the nodes of the last prompt (its classic cache, ``execution.py``). A
node is executed again if one of its inputs, or of the nodes before it, has another value than in
the last prompt.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from ...graphs.formats import inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

T = TypeVar("T")


def run_order(
    points: Sequence[Mapping[str, T]],
    graph: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Collection[str]],
) -> list[int]:
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
    list of int
        The indexes of the points. If nothing can be shared, they are in order.
    """
    readers: dict[str, list[str]] = defaultdict(list)
    for node_id, node in graph.items():
        for value in inputs_of(node).values():
            if is_link(value):
                readers[str(value[0])].append(node_id)
    names = list(dict.fromkeys(chain.from_iterable(points)))
    dependents = {name: frozenset(_reachable(targets.get(name, ()), readers)) for name in names}
    if len(set(dependents.values())) < 2:
        return list(range(len(points)))
    names.sort(key=lambda name: len(dependents[name]), reverse=True)
    return _back_and_forth(list(range(len(points))), points, names)


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


def _reachable(begin: Iterable[str], readers: Mapping[str, Iterable[str]]) -> set[str]:
    """Return nodes and all that read their outputs, directly or not."""
    found: set[str] = set()
    waiting = list(begin)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting.extend(readers.get(node_id, ()))
    return found
