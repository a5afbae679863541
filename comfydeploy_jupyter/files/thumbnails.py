"""Small copies of pictures."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ..errors import ComfyDeployError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

QUALITY = 80  # of WebP: loss is hardly visible at this size, for a tenth of the bytes of a PNG
JPEG_QUALITY = 85  # the same loss; a small copy takes a tenth of the time of a WebP
SIDE = 192  # pixels of the longest side of a picture on a sheet
AT_ONCE = 2  # few, because kernels need the processors
# Pillow's readers of common image formats only: some of the others start programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
JPEG_MAGIC = b"\xff\xd8"
EXR_MAGIC = b"\x76\x2f\x31\x01"
MAX_OPAQUE_PIXELS = 1 << 25  # a page that paints on it needs 12 bytes for each
MAX_EXR_SIZE = 512 << 20  # bytes of a file
MAX_EXR_PIXELS = 1 << 25  # each pixel takes up to 16 bytes of memory while the file is read


class Thumbnails:
    """Creates small copies of pictures in threads, `AT_ONCE` at the same time."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)

    async def make(self, source: BinaryIO, side: int) -> bytes:
        async with self._room:
            return await asyncio.to_thread(thumbnail, source, side)

    async def make_opaque(self, source: BinaryIO) -> bytes:
        async with self._room:
            return await asyncio.to_thread(opaque, source)


def small_copies(
    openers: Sequence[Callable[[], io.FileIO | None]], side: int
) -> list[bytes | Literal[False] | None]:
    """Return a small copy of each picture; None if it cannot be read, False if it is not here.

    This is called in a worker process, and uses at least half of the processors.
    """

    def copy(opener: Callable[[], io.FileIO | None]) -> bytes | Literal[False] | None:
        try:
            file = opener()
            if file is None:
                return False
            with io.BufferedReader(file) as source:
                return encoded(_small(source, side))
        except (ComfyDeployError, OSError):
            return None

    with ThreadPoolExecutor(max(AT_ONCE, (os.cpu_count() or 1) // 2)) as threads:
        return list(threads.map(copy, openers))


def opaque(source: BinaryIO) -> bytes:
    """Return a picture as ComfyUI's `LoadImage` reads its colours, as PNG. Call it in a thread."""
    from PIL import ImageOps

    copy = io.BytesIO()
    try:
        with _opened(source) as image:
            if image.width * image.height > MAX_OPAQUE_PIXELS:
                most = MAX_OPAQUE_PIXELS // 1_000_000
                raise _refused(f"of a picture of at most {most} megapixels", "opaque")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                upright = _of_numbers(upright)
            # A colour profile would change what the browser makes of the numbers.
            upright.convert("RGB").save(copy, "PNG", compress_level=1, icc_profile=None)
    except InvalidRequestError:
        raise
    except Exception as error:  # readers raise exceptions of any type for a damaged file
        raise _refused("of a complete picture", "opaque") from error
    return copy.getvalue()


def thumbnail(source: BinaryIO, side: int) -> bytes:
    """Return a small copy of a picture as WebP. Call it in a thread: it decodes the whole picture.

    ``side``: pixels of the longest side; a smaller picture keeps its size. Of an animation, the
    first picture is used; EXR needs the package OpenEXR. A picture of more than twice Pillow's
    ``MAX_IMAGE_PIXELS`` may be an attack on the memory, and is refused.
    """
    return encoded(_small(source, side), only_webp=True)


def encoded(small: Image, *, only_webp: bool = False) -> bytes:
    """Return a picture as JPEG or, if it may be transparent, as WebP."""
    copy, transparent = io.BytesIO(), small.has_transparency_data
    picture = small.convert("RGBA" if transparent else "RGB")
    if transparent or only_webp:
        picture.save(copy, "WEBP", quality=QUALITY, method=2)
    else:
        picture.save(copy, "JPEG", quality=JPEG_QUALITY)
    return copy.getvalue()


def _small(source: BinaryIO, side: int) -> Image:
    # Slow to import, and rarely needed by a server.
    from PIL import Image

    try:
        beginning = source.read(len(EXR_MAGIC))
        source.seek(0)
        return _of_exr(source, side) if beginning == EXR_MAGIC else _of_picture(source, side)
    except InvalidRequestError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise _refused(f"of a picture of at most {most} megapixels") from error
    except Exception as error:  # readers raise exceptions of any type for a damaged file
        raise _refused("of a complete picture") from error


def _refused(what: str, field: str = "thumbnail") -> InvalidRequestError:
    return InvalidRequestError.of_field(field, f"can be made only {what}")


def _opened(source: BinaryIO) -> Image:
    from PIL import Image

    Image.init()
    return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])


def _of_picture(source: BinaryIO, side: int) -> Image:
    with _opened(source) as image:
        image.draft("RGB", (2 * side, 2 * side))
        return made_small(image, side)


def made_small(image: Image, side: int) -> Image:
    """Return an open picture upright and small; it is changed."""
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        image = _of_numbers(image)
    image.thumbnail((side, side))
    return ImageOps.exif_transpose(image)


def _of_numbers(image: Image) -> Image:
    """Return a picture with one number per pixel in 8 bits; Pillow's conversion would clip them."""
    if image.mode == "F":
        return image.point(lambda value: value * 255).convert("L")
    return image.point(lambda value: value / 256).convert("L")


def _of_exr(source: BinaryIO, side: int) -> Image:
    """Return a small copy of an EXR file, tone-mapped for a screen."""
    if find_spec("OpenEXR") is None:
        raise _refused("of an EXR file if the package OpenEXR is installed")
    import OpenEXR

    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        if file.tell() > MAX_EXR_SIZE:
            raise _refused(f"of an EXR file of at most {MAX_EXR_SIZE >> 20} MiB")
        file.flush()
        header = OpenEXR.File(file.name, header_only=True).header()
        low, high = header["dataWindow"]
        width, height = (int(high[axis]) - int(low[axis]) + 1 for axis in (0, 1))
        if not 0 < width * height <= MAX_EXR_PIXELS or min(width, height) < 1:
            raise _refused(f"of an EXR file of at most {MAX_EXR_PIXELS // 1_000_000} megapixels")
        with OpenEXR.File(file.name, separate_channels=True) as opened:
            channels = {name: channel.pixels for name, channel in opened.channels().items()}
    return _toned(channels, side)


def _toned(channels: dict[str, Any], side: int) -> Image:
    import numpy as np
    from PIL import Image

    names = [name for name in "RGB" if name in channels]
    if len(names) < 3:
        names = [next(name for name in ("Y", *sorted(channels)) if name in channels)] * 3
    step = max(1, min(channels[names[0]].shape) // (2 * side))
    light = np.stack([channels[name][::step, ::step] for name in names], axis=-1)
    light = np.nan_to_num(light.astype(np.float32), posinf=1e6, neginf=0.0).clip(0.0, 1e6)
    white = float(np.percentile(light, 99.5))
    if white > 1.0:  # Reinhard's curve, which hardly changes dark values
        light = light * (1 + light / white**2) / (1 + light)
    light = light.clip(0.0, 1.0)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    image = Image.fromarray((curve * 255 + 0.5).astype(np.uint8), "RGB")
    image.thumbnail((side, side))
    return image
