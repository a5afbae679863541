"""The points of a sweep as users define them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from ...errors import InvalidRequestError
from ...graphs.inputs import MAX_POINTS, VARY, WITH

Points: TypeAlias = Mapping[Any, Iterable[Any]] | Sequence[Mapping[str, Any]]


class Axis(NamedTuple):
    """One axis of a grid: inputs that change together, and their values."""

    names: tuple[str, ...]
    """The names of the inputs."""
    values: tuple[tuple[Any, ...], ...]
    """The values of these inputs at each position of the axis."""


class Grid:
    """The points of a sweep: axes, of which every combination runs, or points one by one."""

    def __init__(self, axes: Iterable[Axis], points: Iterable[Mapping[str, Any]] = ()) -> None:
        self.axes = tuple(axes)
        """Empty where the points were given one by one."""
        self._points = points

    @cached_property
    def points(self) -> tuple[dict[str, Any], ...]:
        """The values of each point by input. The last axis changes fastest, as in nested loops."""
        if not self.axes:
            return tuple(map(dict, self._points))
        names = [name for axis in self.axes for name in axis.names]
        rows = itertools.product(*(axis.values for axis in self.axes))
        return tuple(dict(zip(names, itertools.chain(*row), strict=True)) for row in rows)

    @property
    def names(self) -> set[str]:
        """The inputs that have values."""
        listed = () if self.axes else self.points
        return {name for axis in self.axes for name in axis.names}.union(*listed)

    def values(self) -> Iterator[Any]:
        """Yield the values, those on axes once."""
        for axis in self.axes:
            yield from itertools.chain(*axis.values)
        for point in () if self.axes else self.points:
            yield from point.values()

    @classmethod
    def of(cls, points: Points | object) -> Grid:
        """Return the grid that the argument ``points`` of ``comfy.sweep`` describes."""
        if isinstance(points, Mapping):
            axes = [_axis(key, values) for key, values in points.items()]
            names = [name for axis in axes for name in axis.names]
            if not names:
                raise InvalidRequestError.of_field("points", "are missing: no input has values")
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InvalidRequestError.of_field(f"points.{twice}", "is given twice")
            return cls(axes)
        if isinstance(points, (str, bytes)) or not isinstance(points, Iterable):
            raise InvalidRequestError.of_field(
                "points", "must be a dict of inputs to their values, or a list of dicts"
            )
        listed = _listed(points, "points")
        for number, point in enumerate(listed):
            if not isinstance(point, Mapping):
                raise InvalidRequestError.of_field(
                    f"points[{number}]", f"must be a dict, not a {type(point).__name__}"
                )
        return cls((), [{str(key): value for key, value in p.items()} for p in listed])

    def map(self, change: Callable[[Any], Any]) -> Grid:
        """Return the grid with each value replaced by ``change(value)``."""
        axes = [
            Axis(names, tuple(tuple(map(change, row)) for row in rows)) for names, rows in self.axes
        ]
        listed = () if axes else self.points
        return Grid(axes, [{key: change(value) for key, value in p.items()} for p in listed])

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the request that have the points."""
        if not self.axes:
            return {"points": list(self.points)}
        inputs: dict[str, Any] = {}
        for first, *others in (
            zip(axis.names, zip(*axis.values, strict=True), strict=True) for axis in self.axes
        ):
            inputs[first[0]] = {VARY: list(first[1])}
            inputs |= {name: {VARY: list(values), WITH: first[0]} for name, values in others}
        return {"inputs": inputs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """Return the grid that a batch, or the file of an earlier version, has."""
        axes = [
            Axis(tuple(axis["names"]), tuple(map(tuple, axis["values"])))
            for axis in data.get("axes") or ()
        ]
        return cls(axes, () if axes else data["points"])


def _axis(key: Any, values: Any) -> Axis:
    if isinstance(key, str):
        return Axis((key,), tuple((value,) for value in _values(key, values)))
    if not isinstance(key, tuple) or not key or not all(isinstance(name, str) for name in key):
        raise InvalidRequestError.of_field(
            "points", f"{key!r} must be the name of an input, or a tuple of names"
        )
    rows = []
    for row in _values(", ".join(key), values):
        if isinstance(row, (str, bytes)) or not isinstance(row, Sequence) or len(row) != len(key):
            raise InvalidRequestError.of_field(
                f"points.{', '.join(key)}", f"each value must have {len(key)} parts, not {row!r}"
            )
        rows.append(tuple(row))
    return Axis(key, tuple(rows))


def _values(name: str, values: Any) -> list[Any]:
    field = f"points.{name}"
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidRequestError.of_field(field, f"must be a list of values, not {values!r}")
    return _listed(values, field)


def _listed(values: Iterable[Any], field: str) -> list[Any]:
    """Return values as a list; of an iterable without an end one more than the server takes."""
    found = list(itertools.islice(values, MAX_POINTS + 1))
    if not found:
        raise InvalidRequestError.of_field(field, "is empty")
    return found
