"""The media type that the name of a file stands for."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

PICTURES = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jpeg",
        ".jpg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""How the names of pictures end that Pillow opens, and that small copies are made of."""

HDR_PICTURES = frozenset({".exr", ".hdr"})
"""How the names of pictures with high dynamic range end, which neither Pillow nor browsers show."""

# What `mimetypes` knows on some systems only.
_KNOWN = {
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".flac": "audio/flac",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".hdr": "image/vnd.radiance",
    ".mkv": "video/x-matroska",
    ".obj": "model/obj",
    ".opus": "audio/ogg",
    ".stl": "model/stl",
    ".webp": "image/webp",
}


def media_type(name: str) -> str | None:
    """Return the media type of a file by the suffix of its name, None where that is not known.

    Nothing else of the name counts: `mimetypes` takes ``data:text/html,x.png`` for an address that
    brings a type of its own, in which there may be anything.
    """
    suffix = suffix_of(name)
    return _KNOWN.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]


def suffix_of(name: str) -> str:
    """Return how the name of a file ends, in lower case: ``".png"``."""
    return PurePosixPath(name).suffix.lower()


def is_picture(name: str) -> bool:
    """Return whether Pillow opens a file, by its name."""
    return suffix_of(name) in PICTURES


def is_hdr(name: str) -> bool:
    """Return whether a file is a picture with high dynamic range, by its name."""
    return suffix_of(name) in HDR_PICTURES
