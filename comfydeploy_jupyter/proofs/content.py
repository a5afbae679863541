"""What an output contains, whatever its metadata and its compression are.

The hash of a content is the SHA-256 of a line that describes it, and of what a decoder makes of the
file: pixels, samples, characters. Two files with the same content have the same hash, although
ComfyUI writes another graph into each. The functions decode whole files that are not to be trusted:
call them in a worker process.
"""

from __future__ import annotations

import hashlib
import io
import sys
from array import array
from contextlib import suppress
from fractions import Fraction
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from ..files.thumbnails import FORMATS, SIDE, encoded, made_small
from ..util.media_types import is_picture, is_text, media_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from PIL.Image import Image

MAX_PIXELS = 1 << 31  # of all pictures of an animation
MAX_TEXT = 64 * 1024 * 1024  # bytes
MAX_AUDIO_VIDEO = 1 << 34  # pixels of decoded pictures, and bytes of samples
MAX_FRAME = 1 << 27  # pixels of a picture of a video
MAX_STREAMS = 64
_EIGHT_BITS = frozenset({"1", "L", "P", "PA", "LA", "RGB", "RGBA", "RGBX"})
_NUMBERS = {"I": "i", "F": "f"}
_UNSIGNED: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}  # by bytes
PYAV = "its content is hashed only if the package PyAV is installed (pip install av)"


class UndecodedError(Exception):
    """The content cannot be decoded here; the text says why."""


class Content(NamedTuple):
    """The decoded content of a file."""

    kind: str  # image, animation, video, audio or text
    sha256: str
    about: str  # such as ``1024 x 768 RGBA``


class Decoded(NamedTuple):
    """What was found out about a file."""

    content: dict[str, Any] | None
    reason: str = ""  # why there is none
    copy: bytes | None = None  # a small one, if it is a picture and that was asked for


def decode(files: Sequence[tuple[str, bytes, bool]]) -> list[Decoded]:
    """Decode files, each with its name and whether a small copy is wanted."""
    found = []
    for name, body, with_copy in files:
        copies: list[bytes] = []
        try:
            content = content_of(io.BytesIO(body), name, copies if with_copy else None)
            found.append(Decoded(content._asdict(), copy=copies[0] if copies else None))
        except (UndecodedError, MemoryError) as error:
            found.append(Decoded(None, str(error) or "there is not enough memory to decode it"))
    return found


def content_of(source: BinaryIO, filename: str, copies: list[bytes] | None = None) -> Content:
    """Return the content of a file; `UndecodedError` if it cannot be decoded.

    A small copy of a picture, of an animation the first one, is added to ``copies``.
    """
    if is_text(filename):
        text = _text(source)
        return _digest("text", f"{len(text)} characters", [text.encode()])
    if is_picture(filename):
        return _picture(source, copies)
    if (media_type(filename) or "").startswith(("video/", "audio/")):
        return _audio_video(source)
    raise UndecodedError("files of this type are compared as they are")


def text_content(text: str) -> Content:
    """Return the content of a text output."""
    return _digest("text", f"{len(text)} characters", [text.encode(errors="surrogatepass")])


def _digest(kind: str, about: str, pieces: Iterable[bytes]) -> Content:
    digest = hashlib.sha256(f"{kind} {about}\n".encode())
    for piece in pieces:
        digest.update(piece)
    return Content(kind, digest.hexdigest(), about)


def _text(source: BinaryIO) -> str:
    body = source.read(MAX_TEXT + 1)
    if len(body) > MAX_TEXT:
        raise UndecodedError("the text is too large")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise UndecodedError("it is not text in UTF-8") from None


# -- pictures ---------------------------------------------------------------------------------


def _picture(source: BinaryIO, copies: list[bytes] | None) -> Content:
    pictures = frames(source, copies)
    first, _ = next(pictures)
    size = f"{first.width} x {first.height} {first.mode}"
    begin = _pixels(first)
    second = next(pictures, None)
    if second is None:
        return _digest("image", size, [begin])
    following = (
        f"{milliseconds}\n".encode() + _pixels(frame)
        for frame, milliseconds in chain([second], pictures)
    )
    pieces = chain([f"{size}\n".encode() + begin], following)
    return _digest("animation", f"{first.width} x {first.height}", pieces)


def frames(source: BinaryIO, copies: list[bytes] | None = None) -> Iterator[tuple[Image, float]]:
    """Yield the pictures of a file with their durations in ms, in one of a few modes.

    All modes of 8 bits become RGBA, so that an opaque picture equals one without transparency.
    """
    from PIL import Image, ImageSequence

    Image.init()
    pixels = 0
    try:
        with Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            for frame in ImageSequence.Iterator(image):
                pixels += frame.width * frame.height
                if pixels > MAX_PIXELS:
                    raise UndecodedError("the picture is too large")
                plain = _plain(frame), float(frame.info.get("duration") or 0)
                if copies is not None and not copies:
                    with suppress(Exception):  # the hash does not need it
                        copies.append(encoded(made_small(frame.copy(), SIDE)))
                yield plain
    except UndecodedError:
        raise
    except Exception as error:  # readers raise exceptions of any type for a damaged file
        raise UndecodedError(f"it is not a complete picture ({type(error).__name__})") from error


def _plain(image: Image) -> Image:
    if image.mode in _EIGHT_BITS:
        return image.convert("RGBA")
    if image.mode.startswith("I;16"):
        return image.convert("I")
    image.load()
    return image.copy()


def _pixels(image: Image) -> bytes:
    body = image.tobytes()
    if image.mode in _NUMBERS and sys.byteorder == "big":
        numbers = array(_NUMBERS[image.mode], body)
        numbers.byteswap()
        return numbers.tobytes()
    return body


# -- video and sound --------------------------------------------------------------------------

# What is opened, by its content: no playlist, which could name files of this machine or addresses.
_CONTAINERS = (
    "aac,ac3,aiff,amr,apng,asf,au,avi,caf,flac,flv,gif,h264,hevc,matroska,mov,mp3,mp4,mpeg,mpegts,"
    "nut,ogg,tta,w64,wav,webm,webp_pipe,wv"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
_ATTACHED = 1 << 10  # the disposition of a cover, which is metadata


def _audio_video(source: BinaryIO) -> Content:
    if find_spec("av") is None:
        raise UndecodedError(PYAV)
    try:
        media = _Media(source)
        digests, about = zip(*(media.stream(index) for _, index in media.streams), strict=True)
    except UndecodedError:
        raise
    except Exception as error:  # as for pictures
        raise UndecodedError(f"it cannot be decoded ({type(error).__name__})") from error
    return _digest(media.streams[0][0], "; ".join(about), digests)


class _Media:
    """A file with video or sound."""

    def __init__(self, source: BinaryIO) -> None:
        self._av: Any = import_module("av")
        self._source = source
        self._size = 0  # decoded bytes
        with self._opened() as container:
            found = [*container.streams.video, *container.streams.audio]
            self.streams = [
                (each.type, each.index)
                for each in found
                if not int(getattr(each, "disposition", 0)) & _ATTACHED  # not in PyAV 12
            ]
        if not self.streams:
            raise UndecodedError("it has neither video nor sound")
        if len(self.streams) > MAX_STREAMS:
            raise UndecodedError(f"it has more than {MAX_STREAMS} streams")

    def _opened(self) -> Any:
        self._source.seek(0)
        return self._av.open(self._source, options=_OPTIONS, metadata_errors="replace")

    def stream(self, index: int) -> tuple[bytes, str]:
        """Return a digest of what is decoded from a stream, and a description.

        Each stream is read from the beginning, so that it does not matter how they are interleaved.
        """
        with self._opened() as container:
            stream = container.streams[index]
            context = stream.codec_context
            # The same result on all processors; and headers of pictures may tell another size.
            context.options = {"flags": "+bitexact", "max_pixels": str(MAX_FRAME)}
            context.thread_type = "AUTO"
            if stream.type == "audio":
                return self._sound(container.decode(stream))
            if context.width * context.height > MAX_FRAME:
                raise UndecodedError("its pictures are too large")
            return self._video(container.decode(stream), stream.guessed_rate)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_AUDIO_VIDEO:
            raise UndecodedError("it is too long")

    def _video(self, frames: Iterator[Any], rate: Any) -> tuple[bytes, str]:
        """Return the digest of pictures in their own format, without a conversion of colours.

        Containers round times differently, so of these only the number of pictures in a second
        counts, as a whole number.
        """
        digest, count, shape = hashlib.sha256(), 0, ""
        for frame in frames:
            now = f"{frame.width} x {frame.height} {frame.format.name.replace('yuvj', 'yuv')}"
            if now != shape:
                shape = now
                digest.update(f"{shape}\n".encode())
            count += 1
            self._count(frame.width * frame.height)
            for row in _rows(frame):
                digest.update(row)
        if not count:
            raise UndecodedError("it has no pictures")
        speed = f" at {int(rate + Fraction(1, 2))} per second" if count > 1 and rate else ""
        about = f"{shape}, {count} pictures{speed}"
        digest.update(about.encode())
        return digest.digest(), about

    def _sound(self, frames: Iterator[Any]) -> tuple[bytes, str]:
        """Return the digest of samples, channel by channel, however they are packed."""
        digest, channels, shape, count = hashlib.sha256(), list[Any](), "", 0
        for frame in frames:
            number = len(frame.layout.channels)
            now = f"{frame.sample_rate} Hz {frame.format.packed.name}, {number} channels"
            if now != shape:
                shape, before = now, channels
                channels = [hashlib.sha256(shape.encode()) for _ in range(number)]
                for each in before:
                    digest.update(each.digest())
            count += frame.samples
            width = frame.format.bytes
            self._count(frame.samples * width * number)
            if frame.format.is_planar:
                for each, plane in zip(channels, frame.planes, strict=False):
                    each.update(memoryview(plane)[: frame.samples * width])
                continue
            samples = memoryview(frame.planes[0])[: frame.samples * width * number]
            whole = samples.cast("B").cast(_UNSIGNED[width])
            for place, each in enumerate(channels):
                each.update(whole[place::number].tobytes())
        if not count:
            raise UndecodedError("it has no sound")
        for each in channels:
            digest.update(each.digest())
        return digest.digest(), f"{shape}, {count} samples"


def _rows(frame: Any) -> Iterator[memoryview]:
    """Yield the rows of a picture of a video, component by component, without their padding."""
    parts = frame.format.components
    if len(frame.planes) != len(parts) or any(part.bits < 8 for part in parts):  # they are mixed
        deep = "16le" if any(part.bits > 8 for part in parts) else ""
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        frame = frame.reformat(format=f"{'gbrap' if is_rgb else 'yuva444p'}{deep}")
        parts = frame.format.components
    for plane, part in zip(frame.planes, sorted(parts, key=lambda part: part.plane), strict=True):
        pixels, width = memoryview(plane).cast("B"), part.width * ((part.bits + 7) // 8)
        for start in range(0, part.height * plane.line_size, plane.line_size):
            yield pixels[start : start + width]


# -- comparison -------------------------------------------------------------------------------


def compare(first: BinaryIO, second: BinaryIO, filename: str) -> dict[str, Any]:
    """Return how far two outputs differ whose contents have different hashes.

    For pictures: the share of pixels that differ, and the largest and the mean difference of a
    channel, as a share of its range; for texts the number of equal characters at the beginning.
    """
    if is_picture(filename):
        found = []
        for one, other in zip_longest(frames(first), frames(second)):
            if one is None or other is None:
                return {"reason": "one of them has more pictures"}
            if one[0].size != other[0].size or one[0].mode != other[0].mode:
                sizes = [f"{each.width} x {each.height} {each.mode}" for each, _ in (one, other)]
                return {"reason": f"{sizes[0]} became {sizes[1]}"}
            found.append(_difference(one[0], other[0]))
        return {
            "share": fmean(each["share"] for each in found),
            "largest": max(each["largest"] for each in found),
            "mean": fmean(each["mean"] for each in found),
        }
    if is_text(filename):
        texts = _text(first), _text(second)
        pairs = enumerate(zip(*texts, strict=False))
        same = next((n for n, (a, b) in pairs if a != b), min(map(len, texts)))
        return {"reason": f"the texts are equal up to character {same}"}
    return {}


def _difference(one: Image, other: Image) -> dict[str, Any]:
    if one.mode in _NUMBERS:
        return _difference_of_numbers(one, other)
    channels, largest = _channels(one, other)
    counts = largest.histogram()
    total = one.width * one.height
    differing = total - counts[0]
    weighed = sum(
        value * count for band in channels for value, count in enumerate(band.histogram())
    )
    return {
        "share": differing / total,
        "largest": max((value for value, count in enumerate(counts) if count), default=0) / 255,
        "mean": weighed / (total * len(channels) * 255),
    }


def _difference_of_numbers(one: Image, other: Image) -> dict[str, Any]:
    code = _NUMBERS[one.mode]
    scale = 65535 if code == "i" else 1
    before, after = array(code, one.tobytes()), array(code, other.tobytes())
    found = [abs(a - b) for a, b in zip(before, after, strict=True)]
    return {
        "share": sum(map(bool, found)) / len(found),
        "largest": max(found) / scale,
        "mean": sum(found) / len(found) / scale,
    }


def _channels(one: Image, other: Image) -> tuple[Sequence[Image], Image]:
    """Return the difference of each channel, and for each pixel the largest one."""
    from PIL import ImageChops

    channels = ImageChops.difference(one, other).split()
    return channels, reduce(ImageChops.lighter, channels)


def difference_picture(first: BinaryIO, second: BinaryIO) -> bytes:
    """Return a picture of where two pictures differ, as WebP: white is the largest difference.

    Of animations, those are compared that differ first.
    """
    from PIL import ImageOps

    pairs = zip(frames(first), frames(second), strict=False)
    (one, _), (other, _) = begin = next(pairs)
    if _pixels(one) == _pixels(other):
        (one, _), (other, _) = next(
            (p for p in pairs if _pixels(p[0][0]) != _pixels(p[1][0])), begin
        )
    if one.size != other.size or one.mode != other.mode or one.mode in _NUMBERS:
        raise UndecodedError("only pictures of the same size and 8 bits have a difference picture")
    copy = io.BytesIO()
    _, largest = _channels(one, other)
    ImageOps.autocontrast(largest).save(copy, "WEBP", lossless=True)
    return copy.getvalue()
