"""Small copies of pictures."""

from __future__ import annotations

import asyncio
import io
from typing import BinaryIO

from ..errors import InvalidRequestError

QUALITY = 80  # of WebP: hardly seen at this size, a tenth of a PNG
AT_ONCE = 2  # the processors belong to the kernels
# Of Pillow's readers those of pictures for the screen: some of the others start programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


class Thumbnails:
    """Makes small copies in threads, a few at a time."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)

    async def make(self, source: BinaryIO, side: int) -> bytes:
        """Return what `thumbnail` does."""
        async with self._room:
            return await asyncio.to_thread(thumbnail, source, side)


def thumbnail(source: BinaryIO, side: int) -> bytes:
    """Return a small copy of a picture. For a thread: it decodes all of it.

    Parameters
    ----------
    source : binary file
        In one of `FORMATS`; of an animation the first picture counts.
    side : int
        Longest side of the copy, pixels; a smaller picture keeps its size.

    Returns
    -------
    bytes
        WebP, upright as its EXIF data say.

    Raises
    ------
    InvalidRequestError
        It is no picture, or so large (twice Pillow's ``MAX_IMAGE_PIXELS``: 179 million pixels)
        that it may be an attack on the memory.
    """
    # heavy, and rarely needed by a server
    from PIL import Image, ImageOps

    copy = io.BytesIO()
    try:
        Image.init()
        readers = [name for name in FORMATS if name in Image.OPEN]
        with Image.open(source, formats=readers) as image:
            image.draft("RGB", (2 * side, 2 * side))
            if image.mode.startswith("I"):  # 16 bits: Pillow would clip what is above 255
                small: Image.Image = image.point(lambda value: value / 256).convert("L")
                small.thumbnail((side, side))
            else:
                image.thumbnail((side, side))
                small = ImageOps.exif_transpose(image)
            mode = "RGBA" if small.has_transparency_data else "RGB"
            small.convert(mode).save(copy, "WEBP", quality=QUALITY, method=2)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidRequestError.of_field(
            "thumbnail", "can only be had of a picture of ordinary size"
        ) from error
    return copy.getvalue()
