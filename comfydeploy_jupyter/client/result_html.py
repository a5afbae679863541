"""A result as HTML, for notebooks."""

from __future__ import annotations

import base64
import html
import io
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from .files import human_size
from .graph_text import counted
from .output_files import WEB_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .output_files import OutputFile
    from .results import Result

INLINE_IMAGES = 24
"""The most pictures that are embedded; `Result.images` has all."""

INLINE_BYTES = 1_500_000
"""The largest picture that is embedded as it is, bytes; a larger one is made smaller first."""

INLINE_MEDIA_BYTES = 8_000_000
"""The largest video or sound that is embedded, bytes; only the name of a larger one is shown."""

FOLDED_LINES, FOLDED_CHARACTERS = 12, 1200
"""The longest text that is shown in full; of a longer one the beginning is shown at first."""

PREVIEW_SIDE = 1024
"""Longest side of a picture that was made smaller, pixels."""


def result_html(result: Result, *, files: bool) -> str:
    """Return a result as HTML in which every text of the run is escaped.

    Parameters
    ----------
    result : Result
        The result.
    files : bool
        Whether to embed its pictures, videos and sounds.
    """
    parts = [_headline(result)]
    if result.status == "failed":
        parts.append(_box(result.failure or "the run failed"))
    if result.left_out:
        parts.append(_box("\n".join(["Not executed by ComfyUI:", *result.left_out])))
    if files:
        parts.extend(_media(result))
    parts.extend(_text(text) for text in result.texts)
    parts.append(_timings(result))
    return f'<div style="max-width:100%">{"".join(parts)}</div>'


def _headline(result: Result) -> str:
    colour = {
        "success": "var(--jp-success-color1,#388e3c)",
        "failed": "var(--jp-error-color1,#d32f2f)",
        "cancelled": "var(--jp-warn-color1,#f57c00)",
    }.get(result.status, "var(--jp-brand-color1,#1976d2)")
    facts = [f'<b style="color:{colour}">{html.escape(result.status.capitalize())}</b>']
    if result.execution_time is not None:
        facts.append(f"{result.execution_time:.2f} s")
    if result.cached_nodes:
        facts.append(f"{counted(len(result.cached_nodes), 'node')} from the cache")
    values = sorted({str(seed) for seed in result.seeds.values()})
    if values:
        facts.append(html.escape(f"seed {', '.join(values)}"))
    return f'<div style="margin-bottom:4px">{" · ".join(facts)}</div>'


def _media(result: Result) -> Iterator[str]:
    shown: list[str] = []
    pictures = 0
    for file in result.files:
        if file.medium == "image" or file.is_hdr:
            pictures += 1
            if pictures > INLINE_IMAGES:
                continue
        shown.append(_inline(file))
    if shown:
        yield (
            '<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">'
            f"{''.join(shown)}</div>"
        )
    if pictures > INLINE_IMAGES:
        yield f"<div>and {pictures - INLINE_IMAGES} more in <code>result.images</code></div>"


def _timings(result: Result) -> str:
    times = sorted(result.node_times.items(), key=lambda item: -float(item[1]))
    if not times:
        return ""
    cell = 'style="text-align:left;padding:2px 12px 2px 0"'
    number = 'style="text-align:right;padding:2px 0;font-variant-numeric:tabular-nums"'
    rows = "".join(
        f"<tr><td {cell}>{html.escape(name.short)}</td><td {cell}>{html.escape(name.type)}</td>"
        f"<td {cell}>{html.escape(name.id)}</td><td {number}>{float(seconds):.3f}</td></tr>"
        for name, seconds in ((result.node_name(key), value) for key, value in times)
    )
    head = (
        f"<tr><th {cell}>node</th><th {cell}>class</th><th {cell}>id</th>"
        f"<th {number}>seconds</th></tr>"
    )
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer">Timings</summary>'
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></details>"
    )


def _inline(file: OutputFile) -> str:
    name = html.escape(file.filename, quote=True)
    try:
        if file.medium == "image":
            return _img(name, *inline_picture(file))
        if file.is_hdr:
            with suppress(InvalidRequestError):  # the server makes no copies of such pictures
                return _img(name, "image/webp", file.thumbnail(PREVIEW_SIDE // 2))
        size = file.size
        if file.medium in {"video", "audio"} and 0 <= size <= INLINE_MEDIA_BYTES:
            source = _data_url(file.mime, file.read())
            return (
                f'<{file.medium} controls title="{name}" src="{source}" '
                f'style="max-width:min(100%,512px)"></{file.medium}>'
            )
    except Exception as error:  # what Pillow raises for a damaged file may be anything
        return _box(f"{file.filename}: {error}")
    facts = " · ".join([file.filename, *([human_size(size)] if size >= 0 else [])])
    return (
        '<div style="padding:6px 12px;overflow-wrap:anywhere;'
        "border:1px solid var(--jp-border-color1,#bdbdbd);border-radius:2px"
        f'"><code>{html.escape(facts)}</code></div>'
    )


def _img(name: str, mime: str, content: bytes) -> str:
    return (
        f'<img alt="{name}" title="{name}" src="{_data_url(mime, content)}" '
        'style="max-width:min(100%,512px);height:auto;margin:0">'
    )


def _text(text: str) -> str:
    """Return a text as HTML; only the beginning of a long one, and all of it after a click."""
    style = (
        "margin:8px 0 0;padding:8px 12px;max-height:240px;overflow:auto;white-space:pre-wrap;"
        "border-left:3px solid var(--jp-border-color1,#bdbdbd)"
    )
    full = f'<pre style="{style}">{html.escape(text)}</pre>'
    beginning = beginning_of(text)
    if beginning == text:
        return full
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer;white-space:pre-wrap">'
        f"{html.escape(beginning)} … ({len(text)} characters)</summary>{full}</details>"
    )


def beginning_of(text: str) -> str:
    """Return the beginning of a text that is too long to be shown in full, else all of it."""
    lines = text.splitlines(keepends=True)
    short = "".join(lines[:FOLDED_LINES])[:FOLDED_CHARACTERS]
    return text if len(lines) <= FOLDED_LINES and len(text) <= FOLDED_CHARACTERS else short.rstrip()


def inline_picture(file: OutputFile) -> tuple[str, bytes]:
    """Return the MIME type and the content of a picture, small enough to embed in a notebook."""
    content = file.read()
    if not file.is_image and len(content) <= INLINE_BYTES:  # SVG
        return file.mime, content
    import PIL.Image

    if file.mime in WEB_IMAGES and len(content) <= INLINE_BYTES:
        with PIL.Image.open(io.BytesIO(content)) as image:
            image.verify()
        return file.mime, content
    with PIL.Image.open(io.BytesIO(content)) as image:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        smaller = io.BytesIO()
        image.convert("RGBA" if "A" in image.getbands() else "RGB").save(
            smaller, "WEBP", quality=90
        )
    return "image/webp", smaller.getvalue()


def _data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _box(message: str) -> str:
    return (
        '<div style="margin:4px 0;padding:6px 12px;white-space:pre-wrap;'
        "border-left:3px solid var(--jp-error-color1,#d32f2f)"
        f'">{html.escape(message)}</div>'
    )
