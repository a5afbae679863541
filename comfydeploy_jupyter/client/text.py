"""Texts for people: tables, durations, lines and pictures of a terminal."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from ..errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL.Image import Image


PICTURE_COLUMNS = 60
"""Widest picture, columns."""

PICTURE_ROWS = 20
"""Highest picture, rows."""

_KITTY_CHUNK = 4096  # most characters that Kitty's protocol allows at once
_TRUE_COLOUR = re.compile(r"kitty|ghostty|alacritty|foot|wezterm|direct", re.IGNORECASE)
_LINKS = re.compile(r"kitty|ghostty|alacritty|foot|wezterm", re.IGNORECASE)
_LINK_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "Tabby", "rio"})
_KITTY_PROGRAMS = frozenset({"ghostty", "WezTerm"})


class Terminal:
    """A terminal and its abilities, as far as environment variables describe them.

    The terminal is not queried, since its replies would mix with what the user types.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        self.stream = stream
        self._environ = os.environ if environ is None else environ

    @classmethod
    def of(cls, stream: TextIO | None) -> Terminal | None:
        """Return the terminal of a stream; None for a file, a pipe or a dumb terminal."""
        if stream is None or stream.closed or not stream.isatty():
            return None
        term = os.environ.get("TERM", "")
        if sys.platform == "win32" and not term:  # only some consoles there know escape sequences
            return cls(stream) if "WT_SESSION" in os.environ else None
        return None if term in {"", "dumb", "unknown"} else cls(stream)

    @property
    def width(self) -> int:
        """Its width, columns."""
        return shutil.get_terminal_size().columns

    def can_write(self, text: str) -> bool:
        """Return whether its encoding has all characters of a text."""
        try:
            text.encode(self.stream.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def writable(self, text: str) -> str:
        """Return a text with escapes for characters that its encoding does not have."""
        encoding = self.stream.encoding or "ascii"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def link(self, text: str, url: str) -> str:
        """Return a text as a link (OSC 8), or unchanged if the terminal does not support links."""
        text = self.writable(one_line(text))
        if not self._knows_links:
            return text
        address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")
        return f"\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"

    def picture(self, image: Image) -> str | None:
        """Return the escape sequences that show a picture; None if the terminal can show none.

        They use Kitty's protocol if the terminal supports it, otherwise coloured half blocks.
        """
        columns, rows = self._fit(image)
        if self._environ.get("NO_COLOR"):
            return None
        if self._has_kitty_graphics:
            return _kitty(image, columns, rows)
        colours = self._colours
        if colours and self.can_write("▀"):
            return _half_blocks(image, columns, rows, true_colour=colours > 256)
        return None

    def _fit(self, image: Image) -> tuple[int, int]:
        """Return the size of a picture in columns and rows; cells are twice as high as wide."""
        most = max(1, min(PICTURE_COLUMNS, self.width - 1))
        scale = min(most / image.width, 2 * PICTURE_ROWS / image.height)
        return max(1, round(image.width * scale)), max(1, round(image.height * scale / 2))

    @property
    def _name(self) -> str:
        return self._environ.get("TERM", "")

    @property
    def _is_multiplexed(self) -> bool:
        """Whether tmux or screen is used, which hide the abilities of the terminal."""
        return self._name.startswith(("tmux", "screen")) or "TMUX" in self._environ

    @property
    def _knows_links(self) -> bool:
        if self._is_multiplexed:
            return False
        vte = self._environ.get("VTE_VERSION", "")
        return (
            (vte.isdecimal() and int(vte) >= 5000)
            or self._environ.get("TERM_PROGRAM") in _LINK_PROGRAMS
            or bool({"WT_SESSION", "KONSOLE_VERSION", "KITTY_WINDOW_ID"} & self._environ.keys())
            or bool(_LINKS.search(self._name))
        )

    @property
    def _has_kitty_graphics(self) -> bool:
        return not self._is_multiplexed and (
            "KITTY_WINDOW_ID" in self._environ
            or self._environ.get("TERM_PROGRAM") in _KITTY_PROGRAMS
            or self._name in {"xterm-kitty", "xterm-ghostty"}
        )

    @property
    def _colours(self) -> int:
        if (
            self._environ.get("COLORTERM") in {"truecolor", "24bit"}
            or "WT_SESSION" in self._environ
            or _TRUE_COLOUR.search(self._name)
        ):
            return 1 << 24
        return 256 if "256color" in self._name else 0


def one_line(text: str) -> str:
    """Return a text on one line, with escapes for control characters."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def columns_of(text: str) -> int:
    """Return the width of a text in a terminal, columns."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Return a text, shortened to a width in columns."""
    if columns_of(text) <= width:
        return text
    while text and columns_of(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _half_blocks(image: Image, columns: int, rows: int, *, true_colour: bool) -> str:
    pixels = _opaque(image).resize((columns, 2 * rows)).tobytes()

    def colour(row: int, column: int) -> str:
        at = 3 * (row * columns + column)
        red, green, blue = pixels[at : at + 3]
        if true_colour:
            return f"2;{red};{green};{blue}"
        red, green, blue = (round(part / 255 * 5) for part in (red, green, blue))
        return f"5;{16 + 36 * red + 6 * green + blue}"

    lines = []
    for row in range(0, 2 * rows, 2):
        cells = (f"\x1b[38;{colour(row, c)};48;{colour(row + 1, c)}m▀" for c in range(columns))
        lines.append(f"{''.join(cells)}\x1b[0m\n")
    return "".join(lines)


def _kitty(image: Image, columns: int, rows: int) -> str:
    """Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/ ."""
    content = io.BytesIO()
    _opaque(image).save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode()
    parts, first = [], f"a=T,f=100,q=2,c={columns},r={rows},"
    for at in range(0, len(data), _KITTY_CHUNK):
        more = int(at + _KITTY_CHUNK < len(data))
        parts.append(f"\x1b_G{first}m={more};{data[at : at + _KITTY_CHUNK]}\x1b\\")
        first = ""
    return f"{''.join(parts)}\n"


def _opaque(image: Image) -> Image:
    """Return a picture in RGB; transparent parts become black."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    import PIL.Image

    ground = PIL.Image.new("RGBA", image.size, "black")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def counted(number: float, noun: str) -> str:
    """Return a number and a noun in singular or plural, e.g. ``"2 files"``."""
    shown = number if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time span with units, e.g. ``"0.29 s"``, ``"1 min 05 s"``, ``"2 h 03 min"``."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned lines of printable characters."""
    lines = [["".join(c if c.isprintable() else " " for c in cell) for cell in row] for row in rows]
    columns = []
    for column in zip(*lines, strict=True):
        width = max(map(columns_of, column))
        columns.append([cell + " " * (width - columns_of(cell)) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def ipython_shell() -> Any:
    """Return the shell of IPython in which this code runs; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook that can show widgets."""
    if getattr(ipython_shell(), "kernel", None) is None:
        return False
    try:
        import ipywidgets  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True
