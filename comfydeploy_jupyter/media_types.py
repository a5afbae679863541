"""The media type that the name of a file stands for."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath


def media_type(name: str) -> str | None:
    """Return the media type of a file by the suffix of its name, None where that is not known.

    Nothing else of the name counts: `mimetypes` takes ``data:text/html,x.png`` for an address that
    brings a type of its own, in which there may be anything.
    """
    return mimetypes.guess_type(f"x{PurePosixPath(name).suffix}")[0]
