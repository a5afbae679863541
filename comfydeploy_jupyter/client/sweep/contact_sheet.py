"""The contact sheet of a sweep: a small picture for each point, labelled."""

from __future__ import annotations

import base64
import functools
import html
import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ...errors import ComfyDeployError, InvalidRequestError
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from .grid import Grid
    from .points import Point

SIDE = 192
"""Longest side of a picture, pixels."""

SMALLEST_SIDE = 32
MAX_WIDTH = 4096
"""Largest width of a sheet, pixels, unless pictures would be smaller than `SMALLEST_SIDE`."""

MAX_INLINE = 300
"""The most points whose pictures are embedded one by one; a larger sheet is one picture."""

ROW_LENGTH = 8
"""The most values of a single input that are in one row."""

FETCH_AT_ONCE = 4
FONT_SIZE, LINE, GAP = 13, 17, 8
PAPER, INK, FAINT = "#ffffff", "#212121", "#757575"
CELLS = {"failed": "#fdecea", "cancelled": "#fff3e0", "success": "#f5f5f5"}
EMPTY = "#f0f0f0"


class ContactSheet:
    """The contact sheet of a sweep; each point is drawn once, when its run has ended.

    The values of the first of two axes are the rows, those of the second the columns. A single axis
    with few values is one row. In all other cases the pictures are in rows, each with its values.
    Safe to use from several threads.

    Parameters
    ----------
    points : list of Point
        The points.
    grid : Grid
        Their grid.
    """

    def __init__(self, points: Sequence[Point], grid: Grid) -> None:
        self._points = points
        self._rows: list[str] = []
        self._columns: list[str] = []
        self._axes = [axis.label for axis in grid.axes]
        if len(grid.axes) == 1 and len(points) <= ROW_LENGTH:
            self._columns = grid.axes[0].labels()
        elif len(grid.axes) == 2:
            self._rows, self._columns = (axis.labels() for axis in grid.axes)
        self._captioned = not self._columns
        self._across = len(self._columns) or math.ceil(math.sqrt(1.5 * len(points)))
        self._lock = threading.Lock()
        self._pictures: dict[str, bytes | str] = {}
        self._drawn: dict[int, str] = {}
        self._canvas: Image | None = None

    def image(self) -> Image:
        """Return a copy of the present sheet."""
        with self._lock:
            return self._draw().copy()

    def encoded(self, file_format: str) -> bytes:
        """Return the present sheet as ``PNG`` or ``WEBP``."""
        content = io.BytesIO()
        options: dict[str, Any] = {"quality": 85, "method": 2} if file_format == "WEBP" else {}
        self.image().save(content, file_format, **options)
        return content.getvalue()

    def to_html(self) -> str:
        """Return the sheet as HTML with its labels as text; a large sheet is one picture."""
        if len(self._points) > MAX_INLINE:
            content = base64.b64encode(self.encoded("WEBP")).decode()
            return (
                f'<img alt="contact sheet" src="data:image/webp;base64,{content}" '
                'style="max-width:100%">'
            )
        self._fetch([point for point in self._points if _key(point) is not None])
        cells = [self._cell(point) for point in self._points]
        if self._captioned:
            figures = "".join(
                f'<figure style="margin:0;width:{SIDE}px">{cell}'
                f'<figcaption style="overflow-wrap:anywhere">{html.escape(point.label)}'
                "</figcaption></figure>"
                for point, cell in zip(self._points, cells, strict=True)
            )
            return f'<div style="display:flex;flex-wrap:wrap;gap:{GAP}px">{figures}</div>'
        return f'<div style="overflow-x:auto"><table>{"".join(self._table(cells))}</table></div>'

    def _table(self, cells: Sequence[str]) -> Iterator[str]:
        style = f'style="text-align:center;max-width:{SIDE}px;overflow-wrap:anywhere"'
        side = "<td></td>" if self._rows else ""
        name = html.escape(self._axes[-1])
        yield f'<tr>{side}<th colspan="{self._across}" {style}>{name}</th></tr>'
        heads = "".join(f'<th scope="col" {style}>{html.escape(c)}</th>' for c in self._columns)
        corner = f"<th>{html.escape(self._axes[0])}</th>" if self._rows else ""
        yield f"<tr>{corner}{heads}</tr>"
        for start in range(0, len(cells), self._across):
            label = ""
            if self._rows:
                text = html.escape(self._rows[start // self._across])
                label = f'<th scope="row" {style}>{text}</th>'
            row = "".join(
                f'<td style="padding:2px;text-align:center">{cell}</td>'
                for cell in cells[start : start + self._across]
            )
            yield f"<tr>{label}{row}</tr>"

    def _cell(self, point: Point) -> str:
        key = _key(point)
        picture = None if key is None else self._pictures.get(key)
        label = html.escape(point.label, quote=True)
        if isinstance(picture, bytes):
            source = f"data:image/webp;base64,{base64.b64encode(picture).decode()}"
            return (
                f'<img alt="{label}" title="{label}" src="{source}" '
                f'style="max-width:{SIDE}px;height:auto;margin:0">'
            )
        text = point.status if picture is None else picture
        return (
            f'<div title="{label}" style="width:{SIDE}px;height:{SIDE // 2}px;overflow:hidden;'
            "box-sizing:border-box;padding:6px;white-space:pre-wrap;overflow-wrap:anywhere;"
            f"text-align:left;color:{INK};background:{CELLS.get(point.status, EMPTY)}"
            f'">{html.escape(text)}</div>'
        )

    def _fetch(self, points: Sequence[Point]) -> None:
        """Fetch the pictures and texts of the points that have not been fetched yet."""
        missing = {key: p for p in points if (key := _key(p)) and key not in self._pictures}
        with ThreadPoolExecutor(FETCH_AT_ONCE, "comfydeploy-sheet") as pool:
            self._pictures.update(zip(missing, pool.map(_shown, missing.values()), strict=True))

    def _draw(self) -> Image:
        """Draw the points that have changed; return the sheet."""
        import PIL.Image
        import PIL.ImageDraw

        layout = self._layout
        if self._canvas is None:
            self._canvas = PIL.Image.new("RGB", layout.size, PAPER)
            self._draw_heads(PIL.ImageDraw.Draw(self._canvas), layout)
        # Read once: a point whose run ends meanwhile is drawn the next time.
        states = {point.index: _key(point) or point.status for point in self._points}
        changed = [p for p in self._points if self._drawn.get(p.index) != states[p.index]]
        self._fetch(changed)
        draw = PIL.ImageDraw.Draw(self._canvas)
        for point in changed:
            self._draw_point(draw, self._canvas, layout, point, states[point.index])
        self._drawn.update(states)
        return self._canvas

    def _draw_heads(self, draw: ImageDraw, layout: _Layout) -> None:
        middle = layout.left + (layout.size[0] - layout.left) // 2
        if self._columns:
            _text(draw, (middle, GAP), [self._axes[-1]], FAINT, "ma")
        if self._rows:
            _text(draw, (GAP, layout.top - LINE - GAP // 2), [self._axes[0]], FAINT, "la")
        for column, lines in enumerate(layout.column_labels):
            x = layout.corner(column)[0] + layout.side // 2
            top = layout.top - len(lines) * LINE - GAP // 2
            _text(draw, (x, top), lines, INK, "ma")
        for row, lines in enumerate(layout.row_labels):
            y = layout.corner(row * self._across)[1]
            top = y + max(0, layout.side - len(lines) * LINE) // 2
            _text(draw, (layout.left - GAP, top), lines, INK, "ra")
        for point in self._points if self._captioned else ():
            x, y = layout.corner(point.index)
            lines = _wrap(point.label, layout.side, layout.caption_lines)
            _text(draw, (x, y + layout.side + 2), lines, INK, "la")

    def _draw_point(
        self, draw: ImageDraw, canvas: Image, layout: _Layout, point: Point, state: str
    ) -> None:
        import PIL.Image

        x, y = layout.corner(point.index)
        side = layout.side
        shown = self._pictures.get(state)
        ended = shown is not None
        colour = CELLS.get(point.status, EMPTY) if ended else EMPTY
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=colour)
        if isinstance(shown, bytes):
            with PIL.Image.open(io.BytesIO(shown)) as picture:
                picture.thumbnail((side, side))
                corner = (x + (side - picture.width) // 2, y + (side - picture.height) // 2)
                rgba = picture.convert("RGBA")
                canvas.paste(rgba, corner, rgba)
        elif side >= SIDE // 3:
            lines = _wrap(shown or state, side - 2 * GAP, max(1, side // LINE - 1))
            _text(draw, (x + GAP, y + GAP), lines, INK if ended else FAINT, "la")

    @functools.cached_property
    def _layout(self) -> _Layout:
        across = self._across
        side = max(SMALLEST_SIDE, min(SIDE, MAX_WIDTH // across - GAP))
        down = math.ceil(len(self._points) / across)
        columns = [_wrap(label, side, 3) for label in self._columns]
        rows = [_wrap(label, SIDE, max(1, side // LINE)) for label in self._rows]
        widths = [_width(line) for lines in [*rows, self._axes[:1]] for line in lines]
        left = GAP + (math.ceil(max(widths)) + GAP if rows else 0)
        top = GAP
        if columns:
            top += LINE + max(map(len, columns)) * LINE + GAP // 2
        captions = 0
        if self._captioned:
            captions = max(len(_wrap(p.label, side, 3)) for p in self._points)
        step_y = side + GAP + captions * LINE
        size = (left + across * (side + GAP), top + down * step_y)
        return _Layout(size, left, top, side, across, step_y, captions, columns, rows)


class _Layout:
    """The positions and sizes of a sheet, pixels."""

    def __init__(
        self,
        size: tuple[int, int],
        left: int,
        top: int,
        side: int,
        across: int,
        step_y: int,
        caption_lines: int,
        column_labels: list[list[str]],
        row_labels: list[list[str]],
    ) -> None:
        self.size = size
        self.left = left
        self.top = top
        self.side = side
        self.caption_lines = caption_lines
        self.column_labels = column_labels
        self.row_labels = row_labels
        self._across = across
        self._step_y = step_y

    def corner(self, index: int) -> tuple[int, int]:
        """Return the upper left corner of a cell."""
        row, column = divmod(index, self._across)
        return self.left + column * (self.side + GAP), self.top + row * self._step_y


def _key(point: Point) -> str | None:
    """Return a key for the outcome of a point; None while its run has not ended."""
    return f"{point.prompt_id} {point.status}" if point.status in CELLS else None


def _shown(point: Point) -> bytes | str:
    """Return a picture of a point as WebP, or a text where it has none."""
    result = point.result
    if point.status != "success" or result is None:
        return point.error or point.status
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    # A saved picture is preferred to a preview.
    pictures.sort(key=lambda file: (file.type != "output", file.is_hdr))
    if pictures:
        try:
            return pictures[0].thumbnail(SIDE)
        except InvalidRequestError:
            pass  # the server cannot make a small copy of it; its name is shown
        except ComfyDeployError as error:
            return str(error)
    outputs = [*result.texts, *(file.filename for file in result.files)]
    return "\n".join(map(value_text, outputs)) or "no output"


@functools.cache
def _font() -> Any:
    import PIL.ImageFont

    return PIL.ImageFont.load_default(FONT_SIZE)


def _width(text: str) -> float:
    return float(_font().getlength(text))


def _text(
    draw: ImageDraw, position: tuple[int, int], lines: Sequence[str], colour: str, anchor: str
) -> None:
    x, y = position
    for number, line in enumerate(lines):
        draw.text((x, y + number * LINE), line, fill=colour, font=_font(), anchor=anchor)


def _wrap(text: str, width: int, most: int) -> list[str]:
    """Return a text as lines of a width; the last one is shortened if there are more."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if _width(longer) <= width or not line:
                line = longer
            else:
                lines.append(line)
                line = word
        lines.append(line)
    cut = [*lines[: most - 1], f"{lines[most - 1]} …"] if len(lines) > most else lines
    return [_fitting(line, width) for line in cut]


def _fitting(line: str, width: int) -> str:
    if _width(line) <= width:
        return line
    while line and _width(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
