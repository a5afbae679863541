"""The contact sheet and the table of a batch, in the words of the form of its workflow.

`render` is called in a worker process: it draws many pictures, and needs Pillow.
"""

from __future__ import annotations

import csv
import functools
import html
import io
import itertools
import json
import math
import pickle
import unicodedata
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from ..files.thumbnails import JPEG_MAGIC, SIDE
from ..graphs.form import MEDIA_KINDS, page_value, words, workflow_form
from ..graphs.inputs import apply_inputs
from ..graphs.outline import node_names
from ..util.jsons import loads
from ..util.markup import data_url, html_table, value_text
from .plan import Axis, with_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from ..comfyui.definitions import DefinitionSet
    from ..graphs.definitions import NodeDefinitions
    from ..graphs.form import FormField
    from ..util.jsons import RawJSON

T = TypeVar("T")
Kind = Literal["png", "webp", "html", "csv", "json"]

UNITS = {"width": "px", "height": "px", "megapixels": "MP", "seconds": "s"}
"""The units of numbers, by the name of the input or the last word of its label."""

FILE_KINDS = frozenset({"combo", *MEDIA_KINDS})
"""The kinds of form field whose values may be the names of files."""


class ShownPoint(NamedTuple):
    """A point, as a sheet and a table show it."""

    point: int
    values: dict[str, Any]
    status: str
    error: str
    prompt_id: str
    seconds: float | None
    files: list[str]
    texts: list[str]
    starred: bool
    file: dict[str, Any] | None = None  # the picture that stands for it, as pages get files
    picture: bytes | None = None  # a small copy of it, as JPEG or WebP
    ended: bool = False

    @property
    def shown(self) -> str | None:
        """What is shown without a picture: texts, names of files or its error; None: not ended."""
        if not self.ended:
            return None
        if self.status != "success":
            return self.error or self.status
        return "\n".join(map(value_text, [*self.texts, *self.files])) or "no output"


class Shown(NamedTuple):
    """What is shown of a batch."""

    points: list[bytes]  # each pickled, one after the other, see `ShownPoint`
    copies: list[bytes | None]  # of their pictures; none for a table
    axes: RawJSON
    graph: bytes  # in API format; of a list of prompts, the first one
    workflow: bytes | None
    inputs: dict[str, Any]  # the same at all points
    seeds: list[str]
    headline: str


def render(shown: Shown, kind: Kind, definitions: DefinitionSet) -> bytes:
    """Return the contact sheet or the table of a batch."""
    points = list(_unpacked(shown.points))
    if shown.copies:
        points = [p._replace(picture=c) for p, c in zip(points, shown.copies, strict=True)]
    found: Any = shown.axes  # a worker process gets it parsed
    axes = [Axis(tuple(axis["names"]), list(map(tuple, axis["values"]))) for axis in found]
    labels = Words(points, shown, definitions.nodes)
    sheet = ContactSheet(points, axes, labels)
    if kind == "csv":
        return table_csv(points, labels).encode("utf-8", "backslashreplace")
    if kind == "json":
        return table_json(points, labels, sheet.headings)
    if kind == "html":
        return (
            f'<div style="max-width:100%"><div style="margin-bottom:4px">'
            f"{html.escape(shown.headline)}</div>{sheet.to_html()}"
            f"{table_html(points, labels)}</div>"
        ).encode("utf-8", "xmlcharrefreplace")
    return sheet.encoded(kind.upper())


def _unpacked(portions: Sequence[bytes]) -> Iterator[ShownPoint]:
    for portion in portions:
        content = io.BytesIO(portion)
        while content.tell() < len(portion):
            yield pickle.load(content)  # noqa: S301 - ours


class Words:
    """Names the inputs that vary, and their values, as the form of the workflow shows them."""

    def __init__(
        self, points: Sequence[ShownPoint], shown: Shown, definitions: NodeDefinitions
    ) -> None:
        self._points, self._shown = points, shown
        self._definitions = definitions
        self._graph: dict[str, Any] = loads(shown.graph)

    def name(self, key: str) -> str:
        """Return the label of a varied input, e.g. ``"KSampler: cfg"``."""
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

    def row(self, point: ShownPoint, shown: Callable[[str, Any], T]) -> list[T | str]:
        """Return the values of a point in the order of all names, empty where it has none."""
        values = point.values
        return [shown(name, values[name]) if name in values else "" for name in self.names]

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
        """The labels of all inputs that vary, by their names in order; no two are the same."""
        found: dict[str, str] = {}
        for key in dict.fromkeys(key for point in self._points for key in point.values):
            field = self._fields.get(key)
            label = self._guessed(key) if field is None else field.label
            found[key] = f"{label} ({key})" if label in found.values() else label
        return found

    @functools.cached_property
    def _targets(self) -> dict[str, list[tuple[str, str]]]:
        """The inputs of the graph that each name sets."""
        shown, seeds = self._shown, set(self._shown.seeds)
        found: dict[str, dict[tuple[str, str], None]] = {}
        for values in {tuple(point.values): point.values for point in self._points}.values():
            inputs = with_seeds({**shown.inputs, **values}, shown.seeds)
            applied = apply_inputs(self._graph, inputs, strict=False, definitions=self._definitions)
            for target, key in applied.given.items():
                name = "seed" if key in seeds and key not in values else key
                if name in values:
                    found.setdefault(name, {})[target] = None
        return {name: list(targets) for name, targets in found.items()}

    @functools.cached_property
    def _fields(self) -> dict[str, FormField]:
        """The field of each varied input, unless it sets several inputs or the form has none."""
        ui = None if self._shown.workflow is None else loads(self._shown.workflow)
        form = workflow_form(self._graph, self._definitions, ui).fields
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
        for point in self._points:
            for key, value in point.values.items():
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
        return f"{node_names(self._graph)[node_id].short}: {words(name)}"


def _unit(field: FormField) -> str:
    last = field.label.lower().split()[-1:]
    return UNITS.get(field.input_name) or (UNITS.get(last[0], "") if last else "")


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of texts that spreadsheets take for formulas, also in full width (OWASP, CSV
injection)."""

MAX_ROWS = 500
"""How many points the table has as HTML."""


def table_csv(points: Sequence[ShownPoint], labels: Words) -> str:
    """Return the table as CSV with headings in words and whole values.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    outcomes = ("Starred", "Status", "Seconds", "Files", "Texts", "Error", "Run")
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(map(_plain, ["Point", *labels.names.values(), *outcomes]))
    for point in points:
        row = [
            point.point,
            *labels.row(point, labels.cell),
            "yes" if point.starred else "no",
            point.status,
            "" if point.seconds is None else point.seconds,
            "\n".join(point.files),
            "\n".join(point.texts),
            point.error,
            point.prompt_id,
        ]
        writer.writerow(map(_plain, row))
    return content.getvalue()


def _plain(cell: Any) -> Any:
    """Return a cell as a spreadsheet shows it, never as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def table_json(points: Sequence[ShownPoint], labels: Words, headings: Headings) -> bytes:
    """Return the table, and the headings of the sheet, in words."""
    rows = [
        {
            "point": point.point,
            "label": labels.label(point.values),
            "values": labels.row(point, labels.whole),
            "starred": point.starred,
            "status": point.status,
            "seconds": point.seconds,
            "files": point.files,
            "texts": point.texts,
            "error": point.error,
            "prompt_id": point.prompt_id,
            "picture": point.file,
        }
        for point in points
    ]
    names = {"keys": [*labels.names], "labels": [*labels.names.values()]}
    return json.dumps({**names, "heads": asdict(headings), "points": rows}).encode()


def table_html(points: Sequence[ShownPoint], labels: Words) -> str:
    """Return the table as HTML that is folded at first, with headings in words."""
    rows = []
    for point in points[:MAX_ROWS]:
        output = ", ".join([*point.files, *map(value_text, point.texts)])
        seconds = "" if point.seconds is None else f"{point.seconds:.2f}"
        cells = labels.row(point, labels.value)
        rows.append([*cells, point.status, seconds, point.error or output])
    table = html_table([*labels.names.values(), "status", "seconds", "output"], rows)
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer">Table</summary>'
        f"{table}</details>"
    )


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
    # the first of those that lack equally few
    font = min(_fonts(), key=lambda font: sum(not _has(font, char) for char in chars))
    return font, "".join(_in_place_of(font, char) for char in text)


@functools.cache
def _own_font() -> FreeTypeFont:
    import PIL.ImageFont

    # Without a size it would be a bitmap font where Pillow has no FreeType.
    font = PIL.ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, PIL.ImageFont.FreeTypeFont)
    return font


@functools.cache
def _fonts() -> tuple[FreeTypeFont, ...]:
    """Return Pillow's own font, and those of the system among `FILES` that have Latin letters."""
    import PIL.ImageFont

    fonts = [_own_font()]
    for name in FILES:
        with suppress(OSError):  # there is none, or it has pictures of another size only
            font = PIL.ImageFont.truetype(name, FONT_SIZE)
            if all(_has(font, char) for char in LATIN):
                fonts.append(font)
    return tuple(fonts)


@functools.lru_cache(maxsize=4096)
def _has(font: FreeTypeFont, char: str) -> bool:
    """Return whether a font shows a character, or knows a format character without a shape."""
    mask, lacking = (_in_basic_layout(font).getmask(text) for text in (char, UNASSIGNED))
    shows = any(mask) or unicodedata.category(char) == "Cf"
    return shows and (mask.size, bytes(mask)) != (lacking.size, bytes(lacking))


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


MIN_SIDE = 32  # pixels of the longest side of a picture, as `SIDE` is the most
MAX_WIDTH = 4096  # pixels of a sheet, unless pictures would be smaller than `MIN_SIDE`
MAX_PIXELS = 30_000_000  # of all its cells, a pixel takes three bytes
READABLE = SIDE // 3  # pixels of the longest side of a picture that has a text
MAX_WEBP = 16_383  # pixels, the largest width and height of a WebP file
MAX_INLINE = 300  # points whose pictures HTML has one by one; a larger sheet is one picture
ROW_LENGTH = 8  # values of a single input that are in one row
LINE, ASCENT, GAP, THIN_GAP = 17, 13, 8, 2
MAX_LABELLED = MAX_PIXELS // (MIN_SIDE + GAP) ** 2  # points; pictures of more are smaller, alone
PAPER, INK, FAINT = "#ffffff", "#212121", "#757575"
CELLS = {"failed": "#fdecea", "cancelled": "#fff3e0", "success": "#f5f5f5"}
EMPTY = "#f0f0f0"
STAR, STAR_SIZE = "★", 26
GOLD, GOLD_LINE = "#ffb300", "#5d4037"


class Cells(NamedTuple):
    """The cells of a sheet: how many there are, the longest side of a picture, and gaps, pixels."""

    across: int
    down: int
    side: int
    gap: int


def cells(count: int, axes: Sequence[int]) -> Cells:
    """Return the cells of a sheet with so many points, and axes with so many values."""
    if _has_headings(count, axes):
        across = max(1, axes[-1])
    else:
        across = max(1, min(count, math.ceil(math.sqrt(1.5 * count))))
    down = max(1, math.ceil(count / across))
    room = math.isqrt(MAX_PIXELS // (across * down))
    if count > MAX_LABELLED:
        return Cells(across, down, room - THIN_GAP, THIN_GAP)
    side = min(room, MAX_WIDTH // across) - GAP
    return Cells(across, down, max(MIN_SIDE, min(SIDE, side)), GAP)


def side_of_copies(count: int, axes: Sequence[int]) -> int:
    """Return the longest side of the copies that a sheet needs, pixels."""
    return SIDE if count <= MAX_INLINE else cells(count, axes).side


def _has_headings(count: int, axes: Sequence[Any]) -> bool:
    if len(axes) == 2:
        return count <= MAX_LABELLED
    return len(axes) == 1 and count <= ROW_LENGTH


@dataclass(frozen=True)
class Headings:
    """The headings of a sheet in words; empty lists where pictures have captions instead."""

    row_title: str = ""
    rows: list[str] = field(default_factory=list)
    column_title: str = ""
    columns: list[str] = field(default_factory=list)


class ContactSheet:
    """The contact sheet of a batch, as a picture and as HTML.

    The values of the first of two axes are the rows, those of the second the columns. A single axis
    with few values is one row. In all other cases the pictures are in rows, each with its values if
    there is room for a text. Points that are marked as the best have a star.
    """

    def __init__(self, points: Sequence[ShownPoint], axes: Sequence[Axis], labels: Words) -> None:
        self._points = points
        self._words = labels
        self._cells = cells(len(points), [len(axis.values) for axis in axes])
        self.headings = Headings()
        if _has_headings(len(points), axes):
            heads = [(labels.axis_name(axis), labels.axis_values(axis)) for axis in axes]
            self.headings = Headings(*(heads[0] if len(axes) == 2 else ("", [])), *heads[-1])

    # -- HTML ----------------------------------------------------------------------------------

    def to_html(self) -> str:
        """Return the sheet as HTML with its labels as text; a large sheet is one picture."""
        if len(self._points) > MAX_INLINE:
            source = data_url("image/webp", self.encoded("WEBP"))
            return f'<img alt="contact sheet" src="{source}" style="max-width:100%">'
        if self.headings.columns:
            return f'<div style="overflow-x:auto"><table>{"".join(self._table())}</table></div>'
        figures = "".join(
            f'<figure style="margin:0;width:{SIDE}px">{self._cell(point)}'
            f'<figcaption style="overflow-wrap:anywhere">{html.escape(self._label(point))}'
            "</figcaption></figure>"
            for point in self._points
        )
        return f'<div style="display:flex;flex-wrap:wrap;gap:{GAP}px">{figures}</div>'

    def _table(self) -> Iterator[str]:
        style = f'style="text-align:center;max-width:{SIDE}px;overflow-wrap:anywhere"'
        heads, across = self.headings, self._cells.across
        side, corner = "", ""
        if heads.rows:
            side, corner = "<td></td>", f"<th>{html.escape(heads.row_title)}</th>"
        name = html.escape(heads.column_title)
        yield f'<tr>{side}<th colspan="{across}" {style}>{name}</th></tr>'
        texts = "".join(f'<th scope="col" {style}>{html.escape(c)}</th>' for c in heads.columns)
        yield f"<tr>{corner}{texts}</tr>"
        for start in range(0, len(self._points), across):
            yield "<tr>"
            if heads.rows:
                yield f'<th scope="row" {style}>{html.escape(heads.rows[start // across])}</th>'
            for point in self._points[start : start + across]:
                yield f'<td style="padding:2px;text-align:center">{self._cell(point)}</td>'
            yield "</tr>"

    def _label(self, point: ShownPoint) -> str:
        label = self._words.label(point.values)
        return f"{STAR} {label}" if point.starred else label

    def _cell(self, point: ShownPoint) -> str:
        label = html.escape(self._label(point), quote=True)
        star = f'<span aria-hidden="true">{STAR}</span><br>' if point.starred else ""
        if point.picture is not None:
            kind = "image/jpeg" if point.picture.startswith(JPEG_MAGIC) else "image/webp"
            return (
                f'{star}<img alt="{label}" title="{label}" src="{data_url(kind, point.picture)}" '
                f'style="max-width:{SIDE}px;height:auto;margin:0">'
            )
        text = html.escape(point.shown or point.status)
        return (
            f'{star}<div title="{label}" style="width:{SIDE}px;height:{SIDE // 2}px;'
            "overflow:hidden;box-sizing:border-box;padding:6px;white-space:pre-wrap;"
            f"overflow-wrap:anywhere;text-align:left;color:{INK};"
            f'background:{CELLS.get(point.status, EMPTY)}">{text}</div>'
        )

    # -- a picture -----------------------------------------------------------------------------

    def encoded(self, file_format: str) -> bytes:
        """Return the present sheet as ``PNG`` or ``WEBP``."""
        content, image = io.BytesIO(), self.image()
        if file_format == "WEBP":
            image.thumbnail((MAX_WEBP, MAX_WEBP))
            image.save(content, "WEBP", quality=85, method=2)
        else:  # pictures hardly get smaller with more effort
            image.save(content, file_format, compress_level=1)
        return content.getvalue()

    def image(self) -> Image:
        import PIL.Image
        import PIL.ImageDraw

        heads, (across, down, side, gap) = self.headings, self._cells
        columns = [_wrap(label, side, 3) for label in heads.columns]
        rows = [_wrap(label, SIDE, max(1, side // LINE)) for label in heads.rows]
        captions: list[list[str]] = []
        if not columns and side >= READABLE:
            captions = [_wrap(self._words.label(p.values), side, 3) for p in self._points]
        row_title = _fitting(heads.row_title, 2 * SIDE)
        left, top = GAP, GAP
        if rows:
            left += math.ceil(max(map(_width, [*itertools.chain(*rows), row_title]))) + GAP
        if columns:
            top += LINE + max(map(len, columns)) * LINE + GAP // 2
        step_x, step_y = side + gap, side + gap + max(map(len, captions), default=0) * LINE
        width = left + across * step_x
        canvas = PIL.Image.new("RGB", (width, top + down * step_y), PAPER)
        draw = PIL.ImageDraw.Draw(canvas)
        if columns:
            title = _fitting(heads.column_title, width - left)
            _text(draw, (left + (width - left) // 2, GAP), [title], FAINT, "ms")
        if rows:
            _text(draw, (GAP, top - LINE - GAP // 2), [row_title], FAINT, "ls")
        for column, lines in enumerate(columns):
            corner = left + column * step_x + side // 2, top - len(lines) * LINE - GAP // 2
            _text(draw, corner, lines, INK, "ms")
        for row, lines in enumerate(rows):
            middle = max(0, side - len(lines) * LINE) // 2
            _text(draw, (left - GAP, top + row * step_y + middle), lines, INK, "rs")
        for place, point in enumerate(self._points):
            row, column = divmod(place, across)
            x, y = left + column * step_x, top + row * step_y
            _draw_point(draw, canvas, point, x, y, side)
            if captions:
                _text(draw, (x, y + side + 2), captions[place], INK, "ls")
        return canvas


def _draw_point(
    draw: ImageDraw, canvas: Image, point: ShownPoint, x: int, y: int, side: int
) -> None:
    import PIL.Image

    colour = CELLS.get(point.status, EMPTY) if point.ended else EMPTY
    draw.rectangle((x, y, x + side - 1, y + side - 1), fill=colour)
    if point.picture is not None:
        with PIL.Image.open(io.BytesIO(point.picture), formats=("JPEG", "WEBP")) as picture:
            picture.draft(None, (side, side))
            picture.thumbnail((side, side), PIL.Image.Resampling.BILINEAR)
            corner = x + (side - picture.width) // 2, y + (side - picture.height) // 2
            canvas.paste(picture, corner, picture if picture.mode == "RGBA" else None)
    elif side >= READABLE:
        lines = _wrap(point.shown or point.status, side - 2 * GAP, max(1, side // LINE - 1))
        _text(draw, (x + GAP, y + GAP), lines, INK if point.ended else FAINT, "ls")
    if point.starred:
        size = min(STAR_SIZE, side // 2)
        corners = _star(x + side - size // 2 - 4, y + size // 2 + 4, size / 2)
        draw.polygon(corners, fill=GOLD, outline=GOLD_LINE)


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of a star with five points."""
    radii = [radius, 0.45 * radius] * 5
    angles = [n * math.pi / 5 for n in range(10)]
    return [(x + r * math.sin(a), y - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


@functools.lru_cache(maxsize=100_000)
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
        line, used = "", 0.0
        for word in paragraph.split():
            more = _width(word) + (_width(" ") if line else 0)
            if line and used + more > width:
                lines.append(line)
                line, used = word, _width(word)
            else:
                line, used = f"{line} {word}" if line else word, used + more
        lines.append(line)
    cut = [*lines[: most - 1], f"{lines[most - 1]} …"] if len(lines) > most else lines
    return [_fitting(line, width) for line in cut]


def _fitting(line: str, width: int) -> str:
    if _width(line) <= width:
        return line
    while line and _width(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
