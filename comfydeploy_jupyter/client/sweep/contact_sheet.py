"""The contact sheet of a sweep: a small picture for each point, labelled."""

from __future__ import annotations

import base64
import functools
import html
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .fonts import lettering
from .thumbnails import Thumbnails, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from .grid import Grid
    from .points import Point
    from .words import Words

SIDE = 192
"""Longest side of a picture, pixels."""

SMALLEST_SIDE = 32
MAX_WIDTH = 4096
"""Largest width of a sheet, pixels, unless pictures would be smaller than `SMALLEST_SIDE`."""

MAX_PIXELS = 30_000_000
"""Largest area of all its pictures, under the same condition; a pixel takes three bytes."""

MAX_WEBP = 16_383
"""Largest width and height of a WebP file, pixels."""

MAX_INLINE = 300
"""The most points whose pictures are embedded one by one; a larger sheet is one picture."""

ROW_LENGTH = 8
"""The most values of a single input that are in one row."""

LINE, ASCENT, GAP = 17, 13, 8
PAPER, INK, FAINT = "#ffffff", "#212121", "#757575"
CELLS = {"failed": "#fdecea", "cancelled": "#fff3e0", "success": "#f5f5f5"}
EMPTY = "#f0f0f0"
STAR, STAR_SIZE = "★", 26
GOLD, GOLD_LINE = "#ffb300", "#5d4037"


class ContactSheet:
    """The contact sheet of a sweep, as a picture and as HTML.

    The values of the first of two axes are the rows, those of the second the columns. A single axis
    with few values is one row. In all other cases the pictures are in rows, each with its values.
    Points that are marked as the best have a star. Safe to use from several threads.

    Parameters
    ----------
    points : list of Point
        The points.
    grid : Grid
        Their grid; if it has no axes, each picture has its values below it.
    words : Words
        The headings.
    """

    def __init__(self, points: Sequence[Point], grid: Grid, words: Words) -> None:
        self._points = points
        self._axes = grid.axes
        self._words = words

    @functools.cached_property
    def headings(self) -> Headings:
        """The headings of its rows and columns; requests the node definitions at first."""
        axes = self._axes
        one_row = len(axes) == 1 and len(self._points) <= ROW_LENGTH
        if not one_row and len(axes) != 2:
            return Headings()
        names = [self._words.axis_name(axis) for axis in axes]
        values = [self._words.axis_values(axis) for axis in axes]
        rows = ("", []) if one_row else (names[0], values[0])
        return Headings(*rows, names[-1], values[-1])

    @property
    def thumbnails(self) -> Thumbnails:
        """The pictures on it that were fetched."""
        return self._thumbnails

    def encoded(self, file_format: str) -> bytes:
        """Return the present sheet as ``PNG`` or ``WEBP``."""
        content = io.BytesIO()
        options: dict[str, Any] = {"quality": 85, "method": 2} if file_format == "WEBP" else {}
        image = self.image()
        if file_format == "WEBP":
            image.thumbnail((MAX_WEBP, MAX_WEBP))
        image.save(content, file_format, **options)
        return content.getvalue()

    def fetch(self) -> None:
        """Fetch the small pictures of the points whose runs have ended."""
        self._thumbnails.fetch(self._points)

    def to_html(self) -> str:
        """Return the sheet as HTML with its labels as text; a large sheet is one picture."""
        if len(self._points) > MAX_INLINE:
            content = base64.b64encode(self.encoded("WEBP")).decode()
            return (
                f'<img alt="contact sheet" src="data:image/webp;base64,{content}" '
                'style="max-width:100%">'
            )
        self.fetch()
        cells = [self._cell(point) for point in self._points]
        if not self.headings.columns:
            figures = "".join(
                f'<figure style="margin:0;width:{SIDE}px">{cell}'
                f'<figcaption style="overflow-wrap:anywhere">{html.escape(self._label(point))}'
                "</figcaption></figure>"
                for point, cell in zip(self._points, cells, strict=True)
            )
            return f'<div style="display:flex;flex-wrap:wrap;gap:{GAP}px">{figures}</div>'
        return f'<div style="overflow-x:auto"><table>{"".join(self._table(cells))}</table></div>'

    def _table(self, cells: Sequence[str]) -> Iterator[str]:
        style = f'style="text-align:center;max-width:{SIDE}px;overflow-wrap:anywhere"'
        heads = self.headings
        side = "<td></td>" if heads.rows else ""
        name = html.escape(heads.column_title)
        yield f'<tr>{side}<th colspan="{self._across}" {style}>{name}</th></tr>'
        texts = "".join(f'<th scope="col" {style}>{html.escape(c)}</th>' for c in heads.columns)
        corner = f"<th>{html.escape(heads.row_title)}</th>" if heads.rows else ""
        yield f"<tr>{corner}{texts}</tr>"
        for start in range(0, len(cells), self._across):
            label = ""
            if heads.rows:
                text = html.escape(heads.rows[start // self._across])
                label = f'<th scope="row" {style}>{text}</th>'
            row = "".join(
                f'<td style="padding:2px;text-align:center">{cell}</td>'
                for cell in cells[start : start + self._across]
            )
            yield f"<tr>{label}{row}</tr>"

    def _label(self, point: Point) -> str:
        label = self._words.label(point.values)
        return f"{STAR} {label}" if point.starred else label

    def _cell(self, point: Point) -> str:
        picture = self._thumbnails.of(key_of(point))
        label = html.escape(self._label(point), quote=True)
        star = f'<span aria-hidden="true">{STAR}</span><br>' if point.starred else ""
        if isinstance(picture, bytes):
            source = f"data:image/webp;base64,{base64.b64encode(picture).decode()}"
            return (
                f'{star}<img alt="{label}" title="{label}" src="{source}" '
                f'style="max-width:{SIDE}px;height:auto;margin:0">'
            )
        text = point.status if picture is None else picture
        return (
            f'{star}<div title="{label}" style="width:{SIDE}px;height:{SIDE // 2}px;'
            "overflow:hidden;box-sizing:border-box;padding:6px;white-space:pre-wrap;"
            "overflow-wrap:anywhere;"
            f"text-align:left;color:{INK};background:{CELLS.get(point.status, EMPTY)}"
            f'">{html.escape(text)}</div>'
        )

    def image(self) -> Image:
        """Return the present sheet; fetches the pictures that are missing."""
        import PIL.Image
        import PIL.ImageDraw

        layout = self._layout
        canvas = PIL.Image.new("RGB", layout.size, PAPER)
        draw = PIL.ImageDraw.Draw(canvas)
        self._draw_heads(draw, layout)
        self.fetch()
        for place in range(len(self._points)):
            self._draw_point(draw, canvas, layout, place)
        return canvas

    def _draw_heads(self, draw: ImageDraw, layout: _Layout) -> None:
        middle = layout.left + (layout.size[0] - layout.left) // 2
        if layout.column_labels:
            title = _fitting(self.headings.column_title, layout.size[0] - layout.left)
            _text(draw, (middle, GAP), [title], FAINT, "ms")
        if layout.row_labels:
            title = _fitting(self.headings.row_title, layout.left - GAP)
            _text(draw, (GAP, layout.top - LINE - GAP // 2), [title], FAINT, "ls")
        for column, lines in enumerate(layout.column_labels):
            x = layout.corner(column)[0] + layout.side // 2
            top = layout.top - len(lines) * LINE - GAP // 2
            _text(draw, (x, top), lines, INK, "ms")
        for row, lines in enumerate(layout.row_labels):
            y = layout.corner(row * self._across)[1]
            top = y + max(0, layout.side - len(lines) * LINE) // 2
            _text(draw, (layout.left - GAP, top), lines, INK, "rs")
        for place, point in enumerate(self._points if layout.caption_lines else ()):
            x, y = layout.corner(place)
            label = self._words.label(point.values)
            lines = _wrap(label, layout.side, layout.caption_lines)
            _text(draw, (x, y + layout.side + 2), lines, INK, "ls")

    def _draw_point(self, draw: ImageDraw, canvas: Image, layout: _Layout, place: int) -> None:
        import PIL.Image

        point = self._points[place]
        x, y = layout.corner(place)
        side = layout.side
        shown = self._thumbnails.of(key_of(point))
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
            lines = _wrap(shown or point.status, side - 2 * GAP, max(1, side // LINE - 1))
            _text(draw, (x + GAP, y + GAP), lines, INK if ended else FAINT, "ls")
        if point.starred:
            size = min(STAR_SIZE, side // 2)
            corners = _star(x + side - size // 2 - 4, y + size // 2 + 4, size / 2)
            draw.polygon(corners, fill=GOLD, outline=GOLD_LINE)

    @functools.cached_property
    def _thumbnails(self) -> Thumbnails:
        # A large sheet shows smaller pictures, and is never shown as HTML.
        return Thumbnails(SIDE if len(self._points) <= MAX_INLINE else self._layout.side)

    @functools.cached_property
    def _across(self) -> int:
        count = len(self._points)
        return len(self.headings.columns) or min(count, math.ceil(math.sqrt(1.5 * count)))

    @functools.cached_property
    def _layout(self) -> _Layout:
        across = self._across
        heads = self.headings
        down = math.ceil(len(self._points) / across)
        most = int(math.sqrt(MAX_PIXELS / (across * down)))
        side = max(SMALLEST_SIDE, min(SIDE, MAX_WIDTH // across - GAP, most - GAP))
        columns = [_wrap(label, side, 3) for label in heads.columns]
        rows = [_wrap(label, SIDE, max(1, side // LINE)) for label in heads.rows]
        title = [_fitting(heads.row_title, 2 * SIDE)]
        widths = [_width(line) for lines in [*rows, title] for line in lines]
        left = GAP + (math.ceil(max(widths)) + GAP if rows else 0)
        top = GAP
        if columns:
            top += LINE + max(map(len, columns)) * LINE + GAP // 2
        captions = 0
        if not columns:
            labels = (self._words.label(point.values) for point in self._points)
            captions = max(len(_wrap(label, side, 3)) for label in labels)
        step_y = side + GAP + captions * LINE
        size = (left + across * (side + GAP), top + down * step_y)
        return _Layout(size, left, top, side, across, step_y, captions, columns, rows)


@dataclass(frozen=True)
class Headings:
    """The headings of a sheet in words; empty lists where pictures have captions instead."""

    row_title: str = ""
    rows: list[str] = field(default_factory=list)
    column_title: str = ""
    columns: list[str] = field(default_factory=list)


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


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of a star with five points."""
    return [
        (
            x + (radius if n % 2 == 0 else 0.45 * radius) * math.sin(n * math.pi / 5),
            y - (radius if n % 2 == 0 else 0.45 * radius) * math.cos(n * math.pi / 5),
        )
        for n in range(10)
    ]


def _width(text: str) -> float:
    font, shown = lettering(text)
    return float(font.getlength(shown))


def _text(
    draw: ImageDraw, position: tuple[int, int], lines: Sequence[str], colour: str, anchor: str
) -> None:
    x, y = position
    for number, line in enumerate(lines):
        font, shown = lettering(line)
        # Fonts of different heights are on the same base lines.
        base = (x, y + number * LINE + ASCENT)
        draw.text(base, shown, fill=colour, font=font, anchor=anchor)


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
