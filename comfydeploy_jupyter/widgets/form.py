"""The form of a workflow's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..errors import InvalidRequestError
from .base import GAP, LABEL_WIDTH, close_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..graphs.inputs import FormField

SHOWN = 12
"""How many fields a form shows at once; the others wait under "More inputs"."""

EXACT = 2**53
"""Whole numbers beyond it are not exact in a browser; they are edited as text."""

LONGEST_SLIDER = 1000
"""A slider has at most so many steps; with more, a number is easier to type."""


class Form:
    """Widgets for the inputs of a workflow.

    Parameters
    ----------
    fields : sequence of FormField
        What to show, the most likely first.

    Attributes
    ----------
    box : ipywidgets.VBox
        All widgets.
    """

    def __init__(self, fields: Sequence[FormField]) -> None:
        self._inputs = [_Input(field) for field in fields]
        plain = [entry for entry in self._inputs if not entry.field.advanced][:SHOWN]
        more = [entry for entry in self._inputs if entry not in plain]
        children: list[w.Widget] = [entry.widget for entry in plain]
        if more:
            rest = w.VBox(
                [entry.widget for entry in more], layout=w.Layout(grid_gap="4px", width="100%")
            )
            accordion = w.Accordion([rest], titles=(f"More inputs ({len(more)})",))
            accordion.layout.margin = f"{GAP} 0 0"
            children.append(accordion)
        self.box = w.VBox(children, layout=w.Layout(grid_gap="4px", width="100%"))

    @property
    def has_seed(self) -> bool:
        """Whether one of the fields is a seed."""
        return any(entry.field.kind == "seed" for entry in self._inputs)

    def values(self, *, seeds: bool = True) -> dict[str, Any]:
        """Return the inputs that the user changed, by their keys.

        Parameters
        ----------
        seeds : bool
            Whether seeds are among them.

        Raises
        ------
        InvalidRequestError
            A text that should be a number is none; the message names the field.
        """
        changed = {}
        for entry in self._inputs:
            if entry.field.kind == "seed" and not seeds:
                continue
            value = entry.value()
            if value != entry.field.value:
                changed[entry.field.key] = value
        return changed

    def set(self, key: str, value: object) -> None:
        """Set one input by its key.

        Raises
        ------
        KeyError
            There is no such input.
        """
        for entry in self._inputs:
            if entry.field.key == key:
                entry.set(value)
                return
        raise KeyError(key)

    def close(self) -> None:
        """Remove all widgets."""
        close_tree(self.box)


class _Input:
    """One field and its widget."""

    def __init__(self, field: FormField) -> None:
        self.field = field
        self._read: Callable[[Any], Any] = _same
        self._write: Callable[[Any], Any] = _same
        self.widget = self._make()
        self.widget.description = field.label
        self.widget.tooltip = field.tooltip or field.label
        self.widget.style.description_width = LABEL_WIDTH
        self.widget.layout.width = "100%"
        self.widget.layout.margin = "0"

    def value(self) -> Any:
        """Return what the user has set."""
        try:
            return self._read(self.widget.value)
        except ValueError as error:
            raise InvalidRequestError.of_field(self.field.label, "must be a number") from error

    def set(self, value: object) -> None:
        """Show a value."""
        self.widget.value = self._write(value)

    def _make(self) -> w.Widget:
        field = self.field
        kind, value = field.kind, field.value
        if kind in {"combo", "image"} and field.options:
            options = list(field.options)
            return w.Dropdown(
                options=options if value in options else [value, *options], value=value
            )
        if kind == "bool":
            return w.Checkbox(value=bool(value))
        if kind == "multiline":
            return w.Textarea(value=str(value), rows=3)
        if kind == "color" and isinstance(value, int) and 0 <= value <= 0xFFFFFF:
            self._read, self._write = _number_of, _colour_of
            return w.ColorPicker(value=_colour_of(value))
        if kind in {"int", "seed", "color"} and isinstance(value, int):
            return self._whole(value)
        if kind == "float" and isinstance(value, (int, float)):
            return self._real(float(value))
        return w.Text(value=str(value), continuous_update=False)

    def _whole(self, value: int) -> w.Widget:
        field = self.field
        if field.kind == "seed" or abs(value) > EXACT:
            self._read, self._write = int, str
            return w.Text(value=str(value), continuous_update=False)
        step = max(1, int(field.step or 1))
        if field.min is None or field.max is None or not field.min <= value <= field.max:
            return w.IntText(value=value, step=step)
        low, high = max(int(field.min), -EXACT), min(int(field.max), EXACT)
        if (high - low) / step <= LONGEST_SLIDER:
            return w.IntSlider(value=value, min=low, max=high, step=step)
        return w.BoundedIntText(value=value, min=low, max=high, step=step)

    def _real(self, value: float) -> w.Widget:
        field = self.field
        step = float(field.step or 0.01)
        if field.min is None or field.max is None or not field.min <= value <= field.max:
            return w.FloatText(value=value, step=step)
        low, high = float(field.min), float(field.max)
        if (high - low) / step <= LONGEST_SLIDER:
            places = max(0, min(4, len(f"{step:.4f}".rstrip("0").partition(".")[2])))
            return w.FloatSlider(
                value=value, min=low, max=high, step=step, readout_format=f".{places}f"
            )
        return w.BoundedFloatText(value=value, min=low, max=high, step=step)


def _same(value: Any) -> Any:
    return value


def _colour_of(number: int) -> str:
    return f"#{number:06x}"


def _number_of(colour: str) -> int:
    return int(colour.removeprefix("#"), 16)
