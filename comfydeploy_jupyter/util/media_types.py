"""The media type of a file, by the suffix of its name."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

PICTURES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff"),
        ".webp",
    }
)
"""The suffixes of pictures that Pillow can open, and of which there are small copies."""

HDR_PICTURES = frozenset({".exr", ".hdr"})
"""The suffixes of pictures with high dynamic range, which Pillow and browsers cannot show."""

# Types that `mimetypes` knows only on some systems.
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
    ".psb": "image/vnd.adobe.photoshop",
    ".psd": "image/vnd.adobe.photoshop",
    ".srt": "text/plain",
    ".stl": "model/stl",
    ".vtt": "text/vtt",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
# Types of texts whose names do not begin with ``text/``.
_TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "image/svg+xml"})


def media_type(name: str) -> str | None:
    """Return the media type of a file by the suffix of its name; None if it is unknown.

    Only the suffix is passed to `mimetypes`, which would treat a name such as
    ``data:text/html,x.png`` as an address that contains its own type.
    """
    suffix = suffix_of(name)
    return _KNOWN.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]


def suffix_of(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def is_picture(name: str) -> bool:
    return suffix_of(name) in PICTURES


def is_hdr(name: str) -> bool:
    return suffix_of(name) in HDR_PICTURES


def is_text(name: str) -> bool:
    kind = media_type(name) or ""
    return kind.startswith("text/") or kind in _TEXTS
