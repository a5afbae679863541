"""The workflow in the metadata of a picture, video or sound that ComfyUI saved.

Source of the formats: the nodes of ComfyUI that save files (nodes.py,
comfy_api/latest/_ui.py, comfy_extras/nodes_images.py, nodes_video.py, nodes_audio.py,
nodes_hunyuan3d.py). No pixels are decoded, and `BoundedReader` limits what is read.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

from ..errors import InvalidRequestError
from .formats import Graph, class_of, mapping, without_added

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NAMES = ("workflow", "prompt")
_EXIF_ASCII = 2
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
WORKFLOW_SUFFIXES = (".json", ".png", ".webp", ".flac", ".mp3", ".opus", ".mp4", ".webm", ".latent")
_MAX_JSON_FILE = 20 * 1024 * 1024  # bytes of a JSON file that may be a workflow
_KINDS = "PNG, WebP, JPEG, SVG, MP4, MOV, WebM, MKV, FLAC, Ogg, Opus, MP3, GLB, latent, JSON"


class EmbeddedWorkflow(TypedDict):
    """The workflow in a file; at least one of both formats."""

    workflow: dict[str, Any] | None  # the workflow in UI format, as the editor had it
    prompt: Graph | None  # the graph in API format, as ComfyUI ran it


def embedded_workflow(source: bytes | BinaryIO, *, field: str = "file") -> EmbeddedWorkflow:
    """Return the workflow that is in a file."""
    # If a file ends too early or is damaged after its metadata, the part that could be read is
    # used. ``NaN`` becomes None. The fields that ComfyUI adds to nodes that ran are removed: it
    # would use ``is_changed`` and not check whether an input file has changed (execution.py).
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


def is_workflow_file(path: Path) -> bool:
    """Return whether a file is a workflow, or a file of ComfyUI with the one that made it."""
    suffix = path.suffix.lower()
    if suffix not in WORKFLOW_SUFFIXES:
        return False
    try:
        found = path.stat()
        too_large = suffix == ".json" and found.st_size > _MAX_JSON_FILE
        if too_large or not stat.S_ISREG(found.st_mode):
            return False
        with path.open("rb") as file:
            embedded_workflow(file)
    except (OSError, ValueError, RecursionError, InvalidRequestError):
        return False
    return True


def _texts_of(head: bytes) -> Callable[[BoundedReader], Iterator[tuple[str, str]]] | None:
    """Return the function that yields the metadata of a file as (name, text)."""
    # The name ``""`` means that the text is an object with several of them.
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
    asset = mapping(mapping(_parse(reader.take(20, size).decode("utf-8", "replace"))).get("asset"))
    yield from _strings(asset.get("extras"))


def _safetensors_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    (size,) = reader.unpack("<Q", 0)
    header = mapping(_parse(reader.take(8, size).decode("utf-8", "replace")))
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
    for name, value in mapping(values).items():
        if isinstance(value, str):
            yield name, value


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
            _note(found, _parse(mapping(value).get(name)))


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
        node_id: without_added(node) for node_id, node in value.items()
    }
    return True


MAX_METADATA = 64 << 20
"""The most metadata that is read of a file, bytes."""

MAX_PARTS = 1_000_000
"""The most parts (chunks, boxes, frames) of a file that are read."""


class BrokenFileError(Exception):
    """The file ends too early, is invalid, or has more metadata than is read."""


class BoundedReader:
    """Reads parts of a seekable stream, within the limits."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._budget = MAX_METADATA
        self._parts = MAX_PARTS
        self.size = stream.seek(0, 2)

    def peek(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, at most 64 KiB; fewer at the end of the file."""
        self._stream.seek(offset)
        return self._stream.read(min(size, 1 << 16))

    def take(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise BrokenFileError("the file ends too early")
        self.spend(size)
        self._stream.seek(offset)
        return self._stream.read(size)

    def unpack(self, format: str, offset: int) -> tuple[Any, ...]:  # noqa: A002 - as struct has it
        """Return the fields of the header of a part, as `struct.unpack` does; count the part."""
        self._parts -= 1
        head = self.peek(offset, struct.calcsize(format))
        if self._parts < 0 or len(head) < struct.calcsize(format):
            raise BrokenFileError("the file ends too early, or a part of it has no end")
        return struct.unpack(format, head)

    def spend(self, size: int) -> None:
        """Count bytes of metadata that are going to be processed."""
        self._budget -= size
        if self._budget < 0:
            raise BrokenFileError(f"more than {MAX_METADATA >> 20} MiB of metadata")


# -- videos and sounds -------------------------------------------------------------------------
#
# ComfyUI writes these files with PyAV, whose muxers decide where metadata go: SaveVideo with
# ``movflags=use_metadata_tags``, SaveWEBM, SaveAudio, SaveAudioMP3, SaveAudioOpus (ComfyUI
# comfy_api/latest/_input_impl/video_types.py, comfy_extras/nodes_video.py, nodes_audio.py).

# MP4: boxes that contain the box of the metadata.
_BOXES = frozenset({b"moov", b"udta", b"meta"})
_COMMENT = b"\xa9cmt"

# Matroska: elements that contain the element of the tags.
_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG = 0x18538067, 0x1254C367, 0x7373, 0x67C8
_TAG_NAME, _TAG_STRING = 0x45A3, 0x4487
_CLUSTER = 0x1F43B675

_VORBIS_COMMENT = 4  # the block type in FLAC
_OGG_HEADS = (b"OpusTags", b"\x03vorbis")
_MARK = "\ufeff"
_ID3_CODECS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


def mp4_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the metadata of an MP4 or QuickTime file as (name, text)."""
    # With ``use_metadata_tags``, a ``keys`` box has the names and another box the values. Without,
    # the only free text is the comment.
    keys: list[str] = []
    waiting = [(0, reader.size)]
    while waiting:
        start, end = waiting.pop()
        for kind, inner, after in _mp4_boxes(reader, start, end):
            if kind in _BOXES:
                # `meta` of MP4 begins with a version, that of QuickTime does not.
                versioned = kind == b"meta" and reader.peek(inner + 4, 4) != b"hdlr"
                waiting.append((inner + 4 * versioned, after))
            elif kind == b"keys":
                keys = list(_mp4_keys(reader, inner, after))
            elif kind == b"ilst":
                yield from _mp4_values(reader, inner, after, keys)


def _mp4_boxes(reader: BoundedReader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes in a range of bytes: type, start and end of the content."""
    while start + 8 <= end:
        size, kind = reader.unpack(">I4s", start)
        inner = start + 8
        if size == 1:
            (size,) = reader.unpack(">Q", inner)
            inner += 8
        after = end if size == 0 else start + size
        if not inner <= after <= end:
            raise BrokenFileError("a box ends outside of its parent")
        yield kind, inner, after
        start = after


def _mp4_keys(reader: BoundedReader, start: int, end: int) -> Iterator[str]:
    for _, inner, after in _mp4_boxes(reader, start + 8, end):
        yield reader.take(inner, after - inner).decode("utf-8", "replace")


def _mp4_values(
    reader: BoundedReader, start: int, end: int, keys: list[str]
) -> Iterator[tuple[str, str]]:
    for kind, inner, after in _mp4_boxes(reader, start, end):
        number = int.from_bytes(kind, "big") - 1
        name = "comment" if kind == _COMMENT else keys[number] if number < len(keys) else ""
        for child, value, value_end in _mp4_boxes(reader, inner, after):
            if name and child == b"data" and value_end - value >= 8:
                content = reader.take(value + 8, value_end - value - 8)
                yield name, content.decode("utf-8", "replace")


def matroska_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the tags of a WebM or Matroska file as (name, text)."""
    waiting = [(0, reader.size)]
    name = ""
    while waiting:
        start, end = waiting.pop()
        while start < end:
            element, inner = _vint(reader, start, keep_marker=True)
            size, inner = _vint(reader, inner)
            after = end if size is None else inner + size
            if after > end or (size is None and element == _CLUSTER):
                break
            if element in (_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG):
                waiting.append((after, end))
                start, end = inner, after
                continue
            if element == _TAG_NAME:
                name = reader.take(inner, after - inner).decode("utf-8", "replace")
            elif element == _TAG_STRING:
                yield name, reader.take(inner, after - inner).decode("utf-8", "replace")
            start = after


def _vint(
    reader: BoundedReader, offset: int, *, keep_marker: bool = False
) -> tuple[int | None, int]:
    """Return a number of variable length and its end; None for "unknown size"."""
    (first,) = reader.unpack("B", offset)
    length = 9 - first.bit_length()
    content = reader.peek(offset, length)
    if first == 0 or len(content) < length:
        raise BrokenFileError("an invalid number of Matroska")
    value = int.from_bytes(content, "big")
    if keep_marker:
        return value, offset + length
    ones = (1 << 7 * length) - 1
    value &= ones
    return None if value == ones else value, offset + length


def flac_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the Vorbis comments of a FLAC file as (name, text)."""
    offset, last = 4, False
    while not last:
        (head,) = reader.unpack(">I", offset)
        last, kind, size = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if kind == _VORBIS_COMMENT:
            yield from _vorbis_comments(reader.take(offset + 4, size))
        offset += 4 + size


def ogg_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the comments of an Ogg file with Opus or Vorbis as (name, text)."""
    # They are the second packet of a stream, which may be on several pages.
    packets: dict[int, bytearray] = {}
    counts: dict[int, int] = {}
    offset = 0
    while offset < reader.size:
        magic, serial, segments = reader.unpack("<4s10xI8xB", offset)
        if magic != b"OggS":
            raise BrokenFileError("an invalid page of Ogg")
        lengths = reader.peek(offset + 27, segments)
        offset += 27 + segments
        if counts.setdefault(serial, 0) < 2:
            page = reader.take(offset, sum(lengths))
            for packet in _ogg_packets(page, lengths, packets.setdefault(serial, bytearray())):
                counts[serial] += 1
                head = next((head for head in _OGG_HEADS if packet.startswith(head)), None)
                if head is not None:
                    yield from _vorbis_comments(packet[len(head) :])
        offset += sum(lengths)
        if min(counts.values()) >= 2:
            return


def _ogg_packets(page: bytes, lengths: bytes, begun: bytearray) -> Iterator[bytes]:
    """Yield the packets that end in a page; ``begun`` is the one that continues in the next."""
    offset = 0
    for length in lengths:
        begun += page[offset : offset + length]
        offset += length
        if length < 255:
            yield bytes(begun)
            begun.clear()


def _vorbis_comments(block: bytes) -> Iterator[tuple[str, str]]:
    try:
        (vendor,) = struct.unpack_from("<I", block)
        (count,) = struct.unpack_from("<I", block, 4 + vendor)
        offset = 8 + vendor
        for _ in range(count):
            (size,) = struct.unpack_from("<I", block, offset)
            name, _, text = block[offset + 4 : offset + 4 + size].partition(b"=")
            offset += 4 + size
            yield name.decode("ascii", "replace"), text.decode("utf-8", "replace")
    except struct.error as error:
        raise BrokenFileError("the comments end too early") from error


def mp3_texts(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """Yield the ``TXXX`` frames of an ID3 tag (versions 2.3 and 2.4) as (name, text)."""
    major, flags, *size = reader.unpack(">3xBxB4B", 0)
    tag = reader.take(10, _synchsafe(bytes(size)))
    if flags & 0x80 and major == 3:
        tag = tag.replace(b"\xff\x00", b"\xff")
    offset = 0
    if flags & 0x40:
        length = _synchsafe(tag[:4]) if major == 4 else int.from_bytes(tag[:4], "big") + 4
        offset = max(length, 4)
    while offset + 10 <= len(tag):
        kind, raw, frame_flags = struct.unpack_from(">4s4sxB", tag, offset)
        length = _synchsafe(raw) if major == 4 else int.from_bytes(raw, "big")
        content = tag[offset + 10 : offset + 10 + length]
        offset += 10 + length
        if kind != b"TXXX" or not content or frame_flags:
            continue
        name, _, text = _id3_text(content).partition("\0")
        yield name.removeprefix(_MARK), text.removeprefix(_MARK).rstrip("\0")


def _id3_text(content: bytes) -> str:
    codec = _ID3_CODECS[content[0]] if content[0] < len(_ID3_CODECS) else "latin-1"
    if codec == "utf-16":
        # Name and text each begin with a byte order mark.
        codec = "utf-16-be" if content[1:3] == b"\xfe\xff" else "utf-16-le"
    return content[1:].decode(codec, "replace")


def _synchsafe(content: bytes) -> int:
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
    return value
