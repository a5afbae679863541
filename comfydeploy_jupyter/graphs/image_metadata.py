"""The workflow in the metadata of a picture, video or sound that ComfyUI saved.

Source of the formats: the nodes of ComfyUI that save files (nodes.py,
comfy_api/latest/_ui.py, comfy_extras/nodes_images.py, nodes_video.py, nodes_audio.py,
nodes_hunyuan3d.py). No pixels are decoded, and `bounded` limits the amount of data that is read.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

from ..errors import InvalidRequestError
from .bounded import MAX_METADATA, BoundedReader, BrokenFileError
from .formats import class_of
from .media_metadata import flac_texts, matroska_texts, mp3_texts, mp4_texts, ogg_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .formats import Graph

_NAMES = ("workflow", "prompt")
_EXIF_ASCII = 2
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_KINDS = "PNG, WebP, JPEG, SVG, MP4, MOV, WebM, MKV, FLAC, Ogg, Opus, MP3, GLB, latent, JSON"


class EmbeddedWorkflow(TypedDict):
    """The workflow in a file; at least one of both formats."""

    workflow: dict[str, Any] | None  # the workflow in UI format, as the editor had it
    prompt: Graph | None  # the graph in API format, as ComfyUI ran it


def embedded_workflow(source: bytes | BinaryIO, *, field: str = "file") -> EmbeddedWorkflow:
    """Return the workflow that is in a file.

    If a file ends too early or is damaged after its metadata, the part that could be read is used.
    ``NaN`` becomes None. The field ``is_changed``, which ComfyUI adds to nodes that ran, is
    removed: ComfyUI (execution.py) would use it and not check whether an input file has changed.
    """
    reader = BoundedReader(io.BytesIO(source) if isinstance(source, bytes) else source)
    head = reader.peek(0, 64)
    texts = _texts_of(head)
    if texts is None:
        raise InvalidRequestError.of_field(
            field, f"is not a kind of file into which ComfyUI writes workflows: {_KINDS}"
        )
    found = EmbeddedWorkflow(workflow=None, prompt=None)
    problem = ""
    try:
        for name, text in texts(reader):
            reader.spend(len(text))
            if name.lower() in _NAMES:
                _note(found, _parse(text))
            elif name.lower() in ("comment", ""):
                _note_all(found, _parse(text))
    except BrokenFileError as error:
        problem = f" ({error})"
    if found["workflow"] is None and found["prompt"] is None:
        raise InvalidRequestError.of_field(field, f"contains no workflow of ComfyUI{problem}")
    return found


def _texts_of(head: bytes) -> Callable[[BoundedReader], Iterator[tuple[str, str]]] | None:
    """Return the function that yields the metadata of a file as (name, text).

    The name ``""`` means that the text is an object with several of them.
    """
    magics: dict[bytes, Callable[[BoundedReader], Iterator[tuple[str, str]]]] = {
        b"\x89PNG\r\n\x1a\n": _png_texts,
        b"\xff\xd8\xff": _jpeg_texts,
        b"\x1aE\xdf\xa3": matroska_texts,
        b"fLaC": flac_texts,
        b"OggS": ogg_texts,
        b"ID3": mp3_texts,
        b"glTF": _glb_texts,
    }
    for magic, texts in magics.items():
        if head.startswith(magic):
            return texts
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_texts
    if head[4:8] in _MP4_BOXES:
        return mp4_texts
    if head[8:9] == b"{" and head[5:8] == bytes(3):
        return _safetensors_texts
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return _json_texts
    return _svg_texts if start.startswith(b"<") else None


def _png_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the texts of a PNG: ``tEXt`` of SaveImage, ``comf`` of SaveAnimatedPNG."""
    offset, kind = 8, b""
    while kind != b"IEND":
        size, kind = reader.unpack(">I4s", offset)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf"):
            name, _, rest = reader.take(offset + 8, size).partition(b"\0")
            if name.lower() in (b"workflow", b"prompt"):
                yield name.decode("latin-1"), _png_text(kind, rest)
        offset += 12 + size


def _png_text(kind: bytes, rest: bytes) -> str:
    if kind == b"zTXt":
        return _inflate(rest[1:]).decode("latin-1")
    if kind == b"iTXt":
        _language, _, text = rest[2:].partition(b"\0")
        _translated, _, text = text.partition(b"\0")
        return (_inflate(text) if rest[:1] == b"\1" else text).decode("utf-8", "replace")
    return rest.decode("latin-1")


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, MAX_METADATA)
    except zlib.error as error:
        raise BrokenFileError("a compressed text is damaged") from error
    if inflater.unconsumed_tail:
        raise BrokenFileError("a text is larger than the limit")
    return content


def _webp_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    offset = 12
    while offset + 8 <= reader.size:
        kind, size = reader.unpack("<4sI", offset)
        if kind == b"EXIF":
            yield from _exif_texts(reader.take(offset + 8, size))
        offset += 8 + size + size % 2


def _jpeg_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    offset = 2
    while True:
        marker, size = reader.unpack(">HH", offset)
        if marker == 0xFFDA or marker < 0xFF00:  # the pixels begin
            return
        if marker == 0xFFE1 and size >= 2:
            yield from _exif_texts(reader.take(offset + 4, size - 2))
        offset += 2 + size


def _exif_texts(exif: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts ``name:value`` of EXIF data; ComfyUI uses the tags from 0x110 down."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            _tag, kind, size, where = struct.unpack_from(f"{order}HHII", tiff, place)
            start = tiff[where : where + 16].lower()
            if kind == _EXIF_ASCII and start.startswith((b"workflow:", b"prompt:")):
                value = tiff[where : where + size].rstrip(b"\0").decode("utf-8", "replace")
                name, _, text = value.partition(":")
                yield name, text
    except struct.error as error:
        raise BrokenFileError("the EXIF data end too early") from error


def _glb_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    (size,) = reader.unpack("<I", 12)
    asset = _object(_object(_parse(reader.take(20, size).decode("utf-8", "replace"))).get("asset"))
    yield from _strings(asset.get("extras"))


def _safetensors_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    (size,) = reader.unpack("<Q", 0)
    header = _object(_parse(reader.take(8, size).decode("utf-8", "replace")))
    yield from _strings(header.get("__metadata__"))


def _svg_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    text = reader.take(0, reader.size).decode("utf-8", "replace")
    start = text.find("{", text.find("<![CDATA[", text.find("<metadata")))
    # The JSON decoder finds the end of the object, since a text in it may contain the end of CDATA.
    with suppress(ValueError, RecursionError):
        _, end = json.JSONDecoder().raw_decode(text, max(start, 0))
        yield "", text[start:end]


def _json_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    yield "", reader.take(0, reader.size).decode("utf-8-sig", "replace")


def _strings(values: object) -> Iterator[tuple[str, str]]:
    for name, value in _object(values).items():
        if isinstance(value, str):
            yield name, value


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse(text: object) -> object:
    """Return the JSON value of a text, None if it is not JSON; return other values unchanged."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _note_all(found: EmbeddedWorkflow, value: object) -> None:
    """Keep a workflow, or the workflows in an object that has them by name."""
    if not _note(found, value):
        for name in (*_NAMES, "workflow_api"):
            _note(found, _parse(_object(value).get(name)))


def _note(found: EmbeddedWorkflow, value: object) -> bool:
    """Keep a value that is a workflow; of each format, the first one."""
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("nodes"), list):
        found["workflow"] = found["workflow"] or value
        return True
    nodes = value.values()
    if not all(isinstance(node, dict) for node in nodes) or not any(map(class_of, nodes)):
        return False
    found["prompt"] = found["prompt"] or {
        node_id: {key: part for key, part in node.items() if key != "is_changed"}
        for node_id, node in value.items()
    }
    return True
