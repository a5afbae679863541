"""What a sweep shows: its words, its table and its contact sheet."""

from __future__ import annotations

import csv
import functools
import html
import io
import math
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import ComfyDeployError, InvalidRequestError
from ...graphs.form import MEDIA_KINDS, page_value, words
from ...util.markup import data_url, html_table
from ..stream import FINAL
from ..text import text_table
from .plan import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from ...graphs.form import FormField
    from ..results import OutputFile
    from .plan import Axis, Grid, Plan
    from .runner import Point


UNITS = {"width": "px", "height": "px", "megapixels": "MP", "seconds": "s"}
"""The units of numbers, by the name of the input or the last word of its label."""

FILE_KINDS = frozenset({"combo", *MEDIA_KINDS})
"""The kinds of form field whose values may be the names of files."""


class Words:
    """Names the swept inputs and their values as the form of the workflow shows them.

    The form is read when it is first needed, which requests the node definitions of ComfyUI.
    Without these, names and kinds are guessed from the graph.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def name(self, key: str) -> str:
        """Return the label of a swept input, e.g. ``"KSampler: cfg"``."""
        return self.names.get(key, words(key))

    def value(self, key: str, value: Any) -> str:
        """Return a value on one line, shortened, with its unit."""
        return value_text(self.whole(key, value)) or "(empty)"

    def whole(self, key: str, value: Any) -> str:
        """Return a value as `value` does, but with all its lines."""
        field = self._fields.get(key)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return self._short_files.get((key, value), value)
        if not isinstance(value, (int, float)):
            return value_text(value)
        text = value_text(value) if field is None else str(page_value(field, value))
        unit = "" if field is None or field.kind == "color" else _unit(field)
        return f"{text} {unit}".rstrip()

    def cell(self, key: str, value: Any) -> str | int | float:
        """Return a value for a table of data: a number without its unit, all else as `whole`."""
        field = self._fields.get(key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_color = field is not None and field.kind == "color"
        return value if is_number and not is_color else self.whole(key, value)

    def label(self, values: Mapping[str, Any]) -> str:
        """Return the values of a point on one line, e.g. ``"Seed 3, Width 512 px"``."""
        return ", ".join(f"{self.name(key)} {self.value(key, v)}" for key, v in values.items())

    def axis_name(self, axis: Axis) -> str:
        """Return the labels of the inputs of an axis, separated by commas."""
        return ", ".join(map(self.name, axis.names))

    def axis_values(self, axis: Axis) -> list[str]:
        """Return a heading for each position of an axis."""
        return [
            ", ".join(self.value(name, value) for name, value in zip(axis.names, row, strict=True))
            for row in axis.values
        ]

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """The labels of all swept inputs by their names, in order; no two are the same."""
        found: dict[str, str] = {}
        for key in dict.fromkeys(key for point in self._plan.grid.points for key in point):
            field = self._fields.get(key)
            label = self._guessed(key) if field is None else field.label
            found[key] = f"{label} ({key})" if label in found.values() else label
        return found

    @functools.cached_property
    def _targets(self) -> dict[str, list[tuple[str, str]]]:
        return self._plan.targets(self._plan.grid.points)

    @functools.cached_property
    def _fields(self) -> dict[str, FormField]:
        """The field of each swept input, unless it sets several inputs or the form has none."""
        form = self._plan.workflow.form
        by_key = {key: field for field in form for key in field.keys}
        by_target = {(field.node_id, field.input_name): field for field in form}
        only = {
            key: by_target.get(found[0]) for key, found in self._targets.items() if len(found) == 1
        }
        fields = {key: by_key.get(key, only.get(key)) for key in self._targets}
        return {key: field for key, field in fields.items() if field is not None}

    @functools.cached_property
    def _short_files(self) -> dict[tuple[str, str], str]:
        """The names of files in folders, without the folders where these are not needed."""
        values: dict[str, set[str]] = {}
        for point in self._plan.grid.points:
            for key, value in point.items():
                field = self._fields.get(key)
                if isinstance(value, str) and field is not None and field.kind in FILE_KINDS:
                    values.setdefault(key, set()).add(value)
        short: dict[tuple[str, str], str] = {}
        for key, paths in values.items():
            names = {path: PurePosixPath(path.replace("\\", "/")).name or path for path in paths}
            if len(set(names.values())) == len(names):
                short.update({(key, path): name for path, name in names.items()})
        return short

    def _guessed(self, key: str) -> str:
        """Return a label for an input that the form does not have as one field."""
        targets = self._targets.get(key, [])
        if len(targets) != 1:
            return words(key).capitalize()
        node_id, name = targets[0]
        return f"{self._plan.source.name(node_id).short}: {words(name)}"


def _unit(field: FormField) -> str:
    last = field.label.lower().split()[-1:]
    return UNITS.get(field.input_name) or (UNITS.get(last[0], "") if last else "")


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of texts that spreadsheets take for formulas, also in full width (OWASP, CSV
injection)."""

MAX_ROWS = 500
"""How many points the table has as text and as HTML."""


def table_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return for each point its values and its outcome; see `Sweep.rows`."""
    return [{**point.values, **_outcome(point)} for point in points]


def table_text(points: Sequence[Point]) -> str:
    """Return the table as aligned lines of text."""
    return text_table([[str(cell) for cell in row] for row in _cells(points)])


def table_csv(points: Sequence[Point], words: Words) -> str:
    """Return the table as CSV with headings in words and whole values.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    outcomes = ("Starred", "Status", "Seconds", "Files", "Texts", "Error", "Run")
    names = words.names
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(map(_plain, ["Point", *names.values(), *outcomes]))
    for point in points:
        result = point.result
        values = [words.cell(name, point[name]) if name in point.values else "" for name in names]
        row = [
            point.index,
            *values,
            "yes" if point.starred else "no",
            point.status,
            "" if result is None else result.execution_time,
            "\n".join(file.filename for file in result.files) if result else "",
            "\n".join(result.texts) if result else "",
            point.error,
            point.prompt_id,
        ]
        writer.writerow(map(_plain, row))
    return content.getvalue()


def _plain(cell: Any) -> Any:
    """Return a cell as a spreadsheet shows it, never as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def table_html(points: Sequence[Point], words: Words) -> str:
    """Return the table as HTML that is folded at first, with headings in words."""
    head, *body = _cells(points, words)
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer">Table</summary>'
        f"{html_table(head, body)}</details>"
    )


def _outcome(point: Point) -> dict[str, Any]:
    result = point.result
    outcome = {
        "status": point.status,
        "seconds": None if result is None else result.execution_time,
        "images": [] if result is None else [f.filename for f in result.files if f.is_image],
        "texts": [] if result is None else result.texts,
        "error": point.error,
        "prompt_id": point.prompt_id,
    }
    return {f"_{k}" if k in point.values else k: value for k, value in outcome.items()}


def _cells(points: Sequence[Point], words: Words | None = None) -> list[list[str]]:
    """Return the table as texts, the headings first: in words, or with the names of inputs."""
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = [[*(words.names[n] if words else n for n in names), "status", "seconds", "output"]]
    for point in points[:MAX_ROWS]:
        result = point.result
        output, seconds = "", None
        if result is not None:
            seconds = result.execution_time
            files = [file.filename for file in result.files]
            output = ", ".join([*files, *map(value_text, result.texts)])
        shown = words.value if words else lambda _, value: value_text(value)
        values = [shown(n, point[n]) if n in point.values else "" for n in names]
        time = "" if seconds is None else f"{seconds:.2f}"
        table.append([*values, point.status, time, point.error or output])
    return table


FETCH_AT_ONCE = 4


class Thumbnails:
    """The small pictures of points; each is fetched once. Safe to use from several threads."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._known: dict[str, bytes | str] = {}

    def fetch(self, points: Iterable[Point]) -> None:
        """Fetch what is missing of the points whose runs have ended."""
        missing = {key: p for p in points if (key := key_of(p)) and key not in self._known}
        with ThreadPoolExecutor(FETCH_AT_ONCE, "comfydeploy-sheet") as pool:
            self._known.update(zip(missing, pool.map(self._shown, missing.values()), strict=True))

    def of(self, key: str | None) -> bytes | str | None:
        """Return the picture of an outcome as WebP, or a text; None if it was not fetched."""
        return None if key is None else self._known.get(key)

    def _shown(self, point: Point) -> bytes | str:
        picture = picture_of(point)
        if picture is None:
            return text_of(point)
        try:
            return picture.thumbnail(self._side)
        except InvalidRequestError:
            return text_of(point)  # the server cannot make a small copy of it
        except ComfyDeployError as error:
            return str(error)


def key_of(point: Point) -> str | None:
    """Return a key for the outcome of a point; None while its run has not ended."""
    return f"{point.prompt_id} {point.status}" if point.status in FINAL else None


def picture_of(point: Point) -> OutputFile | None:
    """Return the picture that stands for a point; one that was saved is preferred to a preview."""
    result = point.result
    if point.status != "success" or result is None:
        return None
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    pictures.sort(key=lambda file: (file.type != "output", file.is_hdr))
    return pictures[0] if pictures else None


def text_of(point: Point) -> str:
    """Return what is shown of a point without a picture: texts, names of files, or its error."""
    result = point.result
    if point.status != "success" or result is None:
        return point.error or point.status
    outputs = [*result.texts, *(file.filename for file in result.files)]
    return "\n".join(map(value_text, outputs)) or "no output"


FONT_SIZE = 13
"""Height of the letters, pixels."""

LATIN = "AZaz09?…"
"""Characters of every font that is used: numbers and names of inputs are beside other writing."""

FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "FreeSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "segoeui.ttf",
    "arial.ttf",
    "msyh.ttc",
    "meiryo.ttc",
    "malgun.ttf",
)
"""Fonts of Linux, macOS and Windows, which Pillow looks for in the font folders of the system."""

UNASSIGNED = "\U0010ffff"
"""A code point that is never a character, so that no font has it."""


def lettering(text: str) -> tuple[FreeTypeFont, str]:
    """Return a font for a line of text, and the line as that font can show it.

    Pillow's own font if it has all characters, else the first of `FILES` that has them, else the
    one that lacks the fewest; these lose their accents or are question marks.
    """
    if text.isascii() and text.isprintable():
        return _own_font(), text
    text = unicodedata.normalize("NFC", text)
    chars = {c for c in text if not c.isascii() and c.isprintable()}
    lacking = {font: sum(not _has(font, c) for c in chars) for font in (_own_font(), *_others())}
    font = min(lacking, key=lambda each: lacking[each])  # the first of equal ones
    return font, "".join(_in_place_of(font, char) for char in text)


@functools.cache
def _own_font() -> FreeTypeFont:
    import PIL.ImageFont

    # Without a size it would be a bitmap font where Pillow has no FreeType.
    font = PIL.ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, PIL.ImageFont.FreeTypeFont)
    return font


@functools.cache
def _others() -> tuple[FreeTypeFont, ...]:
    """Return the fonts of the system among `FILES` that have Latin letters."""
    import PIL.ImageFont

    fonts = []
    for name in FILES:
        with suppress(OSError):  # there is none, or it has pictures of another size only
            fonts.append(PIL.ImageFont.truetype(name, FONT_SIZE))
    return tuple(font for font in fonts if all(_has(font, char) for char in LATIN))


@functools.lru_cache(maxsize=4096)
def _has(font: FreeTypeFont, char: str) -> bool:
    """Return whether a font shows a character, or knows a format character without a shape."""
    glyph = _glyph(font, char)
    shows = any(glyph[1]) or unicodedata.category(char) == "Cf"
    return shows and glyph != _glyph(font, UNASSIGNED)


def _glyph(font: FreeTypeFont, char: str) -> tuple[object, bytes]:
    mask = _in_basic_layout(font).getmask(char)
    return mask.size, bytes(mask)


@functools.cache
def _in_basic_layout(font: FreeTypeFont) -> FreeTypeFont:
    """Return a font so that it shows the same glyph for each character that it lacks."""
    import PIL.ImageFont

    return font.font_variant(layout_engine=PIL.ImageFont.Layout.BASIC)


def _in_place_of(font: FreeTypeFont, char: str) -> str:
    """Return a character, or what is shown instead of one that a font lacks."""
    if _has(font, char):
        return char
    if char.isspace():
        return " "
    if unicodedata.category(char) in ("Cc", "Cf", "Me", "Mn"):
        return ""
    return "".join(c for c in unicodedata.normalize("NFD", char) if _has(font, c)) or "?"


SIDE = 192
"""Longest side of a picture, pixels."""

MIN_SIDE = 32
MAX_WIDTH = 4096
"""Largest width of a sheet, pixels, unless pictures would be smaller than `MIN_SIDE`."""

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

    @functools.cached_property
    def thumbnails(self) -> Thumbnails:
        """The pictures on it that were fetched."""
        # A large sheet shows smaller pictures, and is never shown as HTML.
        return Thumbnails(SIDE if len(self._points) <= MAX_INLINE else self._layout.side)

    def encoded(self, file_format: str) -> bytes:
        """Return the present sheet as ``PNG`` or ``WEBP``."""
        content, image = io.BytesIO(), self.image()
        if file_format == "WEBP":
            image.thumbnail((MAX_WEBP, MAX_WEBP))
            image.save(content, "WEBP", quality=85, method=2)
        else:
            image.save(content, file_format)
        return content.getvalue()

    def fetch(self) -> None:
        """Fetch the small pictures of the points whose runs have ended."""
        self.thumbnails.fetch(self._points)

    def to_html(self) -> str:
        """Return the sheet as HTML with its labels as text; a large sheet is one picture."""
        if len(self._points) > MAX_INLINE:
            source = data_url("image/webp", self.encoded("WEBP"))
            return f'<img alt="contact sheet" src="{source}" style="max-width:100%">'
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
        picture = self.thumbnails.of(key_of(point))
        label = html.escape(self._label(point), quote=True)
        star = f'<span aria-hidden="true">{STAR}</span><br>' if point.starred else ""
        if isinstance(picture, bytes):
            return (
                f'{star}<img alt="{label}" title="{label}" src="{data_url("image/webp", picture)}" '
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
        shown = self.thumbnails.of(key_of(point))
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
    def _across(self) -> int:
        count = len(self._points)
        return len(self.headings.columns) or min(count, math.ceil(math.sqrt(1.5 * count)))

    @functools.cached_property
    def _layout(self) -> _Layout:
        across = self._across
        heads = self.headings
        down = math.ceil(len(self._points) / across)
        most = int(math.sqrt(MAX_PIXELS / (across * down)))
        side = max(MIN_SIDE, min(SIDE, MAX_WIDTH // across - GAP, most - GAP))
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


@dataclass(frozen=True)
class _Layout:
    """The positions and sizes of a sheet, pixels."""

    size: tuple[int, int]
    left: int
    top: int
    side: int
    across: int  # number of columns
    step_y: int
    caption_lines: int
    column_labels: list[list[str]]
    row_labels: list[list[str]]

    def corner(self, index: int) -> tuple[int, int]:
        """Return the upper left corner of a cell."""
        row, column = divmod(index, self.across)
        return self.left + column * (self.side + GAP), self.top + row * self.step_y


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
