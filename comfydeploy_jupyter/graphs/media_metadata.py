"""The texts in the metadata of videos and sounds: MP4, MOV, WebM, MKV, FLAC, Ogg, Opus, MP3.

ComfyUI writes these files with PyAV, whose muxers decide where metadata go: SaveVideo with
``movflags=use_metadata_tags``, SaveWEBM, SaveAudio, SaveAudioMP3, SaveAudioOpus (ComfyUI
comfy_api/latest/_input_impl/video_types.py, comfy_extras/nodes_video.py, nodes_audio.py).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .bounded import BrokenFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bounded import BoundedReader

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
    """Yield the metadata of an MP4 or QuickTime file as (name, text).

    With ``use_metadata_tags``, a ``keys`` box has the names and another box the values. Without,
    the only free text is the comment.
    """
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
    """Yield the comments of an Ogg file with Opus or Vorbis as (name, text).

    They are the second packet of a stream, which may be on several pages.
    """
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
