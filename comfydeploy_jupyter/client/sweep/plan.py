"""The points of a sweep as users define them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import InvalidRequestError

MAX_POINTS = 100_000
"""The most points of a sweep; more are likely a mistake, such as a range without an end."""

Points: TypeAlias = Mapping[Any, Iterable[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: inputs that change together, and their values."""

    names: tuple[str, ...]  # the names of the inputs
    values: tuple[tuple[Any, ...], ...]  # the values of these inputs at each position of the axis


@dataclass(frozen=True)
class Grid:
    """The points of a sweep, in the order in which they run."""

    axes: tuple[Axis, ...]  # empty where the points were given one by one
    # the values by input. Of a grid, the last axis changes fastest, as in nested loops
    points: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, points: Points | object) -> Grid:
        """Return the grid that the argument ``points`` of ``comfy.sweep`` describes."""
        if isinstance(points, Mapping):
            return cls.from_axes([_axis(key, values) for key, values in points.items()])
        if isinstance(points, (str, bytes)) or not isinstance(points, Iterable):
            raise InvalidRequestError.of_field(
                "points", "must be a dict of inputs to their values, or a list of dicts"
            )
        listed = _limited(points, "points")
        for number, point in enumerate(listed):
            if not isinstance(point, Mapping):
                raise InvalidRequestError.of_field(
                    f"points[{number}]", f"must be a dict, not a {type(point).__name__}"
                )
        return cls((), tuple({str(key): value for key, value in p.items()} for p in listed))

    @classmethod
    def from_axes(cls, axes: Iterable[Axis]) -> Grid:
        """Return the grid with every combination of the values on the axes."""
        axes = tuple(axes)
        names = [name for axis in axes for name in axis.names]
        if not names:
            raise InvalidRequestError.of_field("points", "are missing: no input has values")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidRequestError.of_field(f"points.{twice}", "is given twice")
        if math.prod(len(axis.values) for axis in axes) > MAX_POINTS:
            raise _too_many("points")
        rows = itertools.product(*(axis.values for axis in axes))
        points = (dict(zip(names, itertools.chain(*row), strict=True)) for row in rows)
        return cls(axes, tuple(points))

    def map(self, change: Callable[[Any], Any]) -> Grid:
        """Return the grid with each value replaced by ``change(value)``."""
        if self.axes:
            return self.from_axes(
                Axis(axis.names, tuple(tuple(map(change, row)) for row in axis.values))
                for axis in self.axes
            )
        return Grid(
            (), tuple({key: change(value) for key, value in p.items()} for p in self.points)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the request that have the points."""
        if not self.axes:
            return {"points": list(self.points)}
        inputs: dict[str, Any] = {}
        for axis in self.axes:
            for name, values in zip(axis.names, zip(*axis.values, strict=True), strict=True):
                together = {} if name == axis.names[0] else {"$with": axis.names[0]}
                inputs[name] = {"$vary": list(values), **together}
        return {"inputs": inputs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """Return the grid that a batch, or the file of an earlier version, has."""
        if data.get("axes"):
            return cls.from_axes(
                Axis(tuple(axis["names"]), tuple(map(tuple, axis["values"])))
                for axis in data["axes"]
            )
        return cls((), tuple(map(dict, data["points"])))


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
    return _limited(values, field)


def _limited(values: Iterable[Any], field: str) -> list[Any]:
    found = list(itertools.islice(values, MAX_POINTS + 1))
    if not found:
        raise InvalidRequestError.of_field(field, "is empty")
    if len(found) > MAX_POINTS:
        raise _too_many(field)
    return found


def _too_many(field: str) -> InvalidRequestError:
    return InvalidRequestError.of_field(
        field, f"more than the {MAX_POINTS} points that a sweep can have"
    )
