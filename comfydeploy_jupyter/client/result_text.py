"""A result as text, for terminals, pipes and files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ..errors import ComfyDeployError, printable
from .graph_text import counted, duration
from .terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .output_files import OutputFile
    from .results import Result
    from .terminal import Terminal

NAMED_FILES = 3
"""The most files that are named on one line; `Result.files` has all."""

PICTURES = 4
"""The most pictures that are drawn in a terminal."""


def summary(result: Result) -> str:
    """Return a result on one line, as its ``repr``."""
    parts = [result.status]
    if result.execution_time is not None:
        parts.append(f"{result.execution_time:.2f} s")
    parts.extend(file.filename for file in result.files[:NAMED_FILES])
    if len(result.files) > NAMED_FILES:
        parts.append(f"and {counted(len(result.files) - NAMED_FILES, 'file')} more")
    if result.texts:
        parts.append(counted(len(result.texts), "text"))
    if result.status == "failed":
        parts.append(result.failure)
    return printable(f"<Result {result.prompt_id}: {', '.join(parts)}>")


def result_text(result: Result, terminal: Terminal | None) -> Iterator[str]:
    """Yield a result piece by piece: status, pictures and names of files, texts.

    Parameters
    ----------
    result : Result
        The result.
    terminal : Terminal or None
        The terminal it is written to; None: plain text, for a pipe or a file.
    """
    facts = [result.status.capitalize()]
    if result.execution_time is not None:
        facts.append(duration(result.execution_time))
    if result.status == "failed":
        facts.append(result.failure)
    yield _lines(" · ".join(facts), terminal)
    shown = 0
    for file in result.files:
        picture = None
        is_picture = file.is_image or file.is_hdr
        if terminal is not None and is_picture and shown < PICTURES:
            picture = _picture(file, terminal)
        if picture is not None:
            shown += 1
            yield picture
        name = one_line(file.filename)
        yield f"{name if terminal is None else terminal.link(name, file.url)}\n"
    for text in [*result.left_out, *result.texts]:
        yield _lines(text, terminal)


def _lines(text: str, terminal: Terminal | None) -> str:
    """Return a text and a line feed, without characters that the terminal cannot show."""
    text = printable(text)
    return f"{text if terminal is None else terminal.writable(text)}\n"


def _picture(file: OutputFile, terminal: Terminal) -> str | None:
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(file.thumbnail(512))) as image:
            return terminal.picture(image)
    except (ComfyDeployError, OSError, ValueError):
        return None  # the file is gone or is not a picture; its name is shown
