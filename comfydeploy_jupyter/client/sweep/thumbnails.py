"""What a contact sheet shows of each point: a small picture, or a text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ...errors import ComfyDeployError, InvalidRequestError
from ..events import FINAL
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..output_files import OutputFile
    from .points import Point

FETCH_AT_ONCE = 4


class Thumbnails:
    """The small pictures of points; each is fetched once. Safe to use from several threads.

    Parameters
    ----------
    side : int
        Their longest side, pixels.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._known: dict[str, bytes | str] = {}

    def fetch(self, points: Iterable[Point]) -> None:
        """Fetch what is missing of the points whose runs have ended."""
        missing = {key: p for p in points if (key := key_of(p)) and key not in self._known}
        with ThreadPoolExecutor(FETCH_AT_ONCE, "comfydeploy-sheet") as pool:
            self._known.update(zip(missing, pool.map(self._shown, missing.values()), strict=True))

    def of(self, key: str | None) -> bytes | str | None:
        """Return the picture of an outcome as WebP, or a text; None if it was not fetched."""
        return None if key is None else self._known.get(key)

    def _shown(self, point: Point) -> bytes | str:
        picture = picture_of(point)
        if picture is None:
            return text_of(point)
        try:
            return picture.thumbnail(self._side)
        except InvalidRequestError:
            return text_of(point)  # the server cannot make a small copy of it
        except ComfyDeployError as error:
            return str(error)


def key_of(point: Point) -> str | None:
    """Return a key for the outcome of a point; None while its run has not ended."""
    return f"{point.prompt_id} {point.status}" if point.status in FINAL else None


def picture_of(point: Point) -> OutputFile | None:
    """Return the picture that stands for a point; one that was saved is preferred to a preview."""
    result = point.result
    if point.status != "success" or result is None:
        return None
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    pictures.sort(key=lambda file: (file.type != "output", file.is_hdr))
    return pictures[0] if pictures else None


def text_of(point: Point) -> str:
    """Return what is shown of a point without a picture: texts, names of files, or its error."""
    result = point.result
    if point.status != "success" or result is None:
        return point.error or point.status
    outputs = [*result.texts, *(file.filename for file in result.files)]
    return "\n".join(map(value_text, outputs)) or "no output"
