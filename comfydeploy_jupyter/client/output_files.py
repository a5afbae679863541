"""The files that a run made, fetched when they are used."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, overload
from urllib.parse import urlsplit

from ..errors import ComfyDeployError, printable
from ..graphs.node_outputs import is_model
from ..util.media_types import is_hdr, is_picture, media_type
from .graph_text import counted
from .server import READ_TIMEOUT, Server
from .writing import rename_or_number, unfinished

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager

    import requests
    from PIL.Image import Image

WEB_IMAGES = frozenset(
    {"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/svg+xml"}
)
"""The MIME types that browsers show in ``<img>``."""


@dataclass(frozen=True)
class OutputFile:
    """One file that a run made.

    Attributes
    ----------
    node_id : str
        The node that made it.
    kind : str
        The key of the node's output that lists it: ``images``, ``audio``, ``video``, …
    filename, subfolder, type : str
        Its location in ComfyUI; `type` is ``output``, ``temp`` or ``input``.
    """

    node_id: str
    kind: str
    filename: str
    subfolder: str
    type: str
    _server: Server = field(repr=False, compare=False)
    _address: str = field(repr=False, compare=False)
    _cache: dict[str, bytes] = field(repr=False, compare=False, default_factory=dict)
    _lock: threading.Lock = field(repr=False, compare=False, default_factory=threading.Lock)

    @property
    def mime(self) -> str:
        """The MIME type, guessed from the name."""
        return media_type(self.filename) or "application/octet-stream"

    @property
    def is_image(self) -> bool:
        """Whether Pillow can open it, judging by its name."""
        return is_picture(self.filename)

    @property
    def is_hdr(self) -> bool:
        """Whether it is a picture with high dynamic range (EXR, HDR), judging by its name."""
        return is_hdr(self.filename)

    @property
    def medium(self) -> str:
        """``image``, ``video``, ``audio``, ``3d`` or ``file``, judging by the name.

        ``image`` is a picture that browsers can show or Pillow can open; EXR and HDR pictures are
        ``file``.
        """
        if self.mime in WEB_IMAGES or self.is_image:
            return "image"
        if is_model(self.filename):
            return "3d"
        kind = self.mime.partition("/")[0]
        return kind if kind in {"video", "audio"} else "file"

    @property
    def size(self) -> int:
        """Its size in bytes; this sends a request."""
        if "content" in self._cache:
            return len(self._cache["content"])
        with self._request() as response:
            return int(response.headers.get("Content-Length", -1))

    @property
    def url(self) -> str:
        """Its address at the Jupyter server, without a token; opening it needs a sign-in."""
        return self._address

    @property
    def query(self) -> str:
        """The query of its address, as the route ``view`` takes it."""
        return urlsplit(self._address).query

    def thumbnail(self, side: int = 384) -> bytes:
        """Return a small copy of a picture as WebP, made by the server.

        Parameters
        ----------
        side : int
            Its longest side, pixels, 16 to 1024.

        Raises
        ------
        InvalidRequestError
            The file is not a picture.
        """
        address = f"{self._address}&thumbnail={side}"
        with self._server.request("GET", address, timeout=READ_TIMEOUT) as response:
            return response.content

    def read(self) -> bytes:
        """Return its content, which is fetched once."""
        with self._lock:
            if "content" not in self._cache:
                with self._request() as response:
                    self._cache["content"] = response.content
            return self._cache["content"]

    def save(self, directory: str | os.PathLike[str] = ".") -> Path:
        """Write it into a folder, which is created if it is missing.

        Parameters
        ----------
        directory : path
            The folder.

        Returns
        -------
        Path
            The path of the written file. A file of the same name with other content is not
            replaced; then this one gets a free name, such as ``a (1).png``.
        """
        folder = Path(directory).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        name = PurePosixPath(self.filename.replace("\\", "/")).name
        if name in {"", ".", ".."}:
            raise ComfyDeployError(f"{self.filename!r} is not the name of a file")
        with unfinished(folder) as file:
            self._copy_to(file)
            file.close()
            return rename_or_number(Path(file.name), folder / name)

    def _request(self) -> AbstractContextManager[requests.Response]:
        return self._server.request("GET", self._address, timeout=READ_TIMEOUT)

    def _copy_to(self, file: IO[bytes]) -> None:
        if "content" in self._cache:
            file.write(self._cache["content"])
            return
        with self._request() as response:
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)


class Images(Sequence["Image"]):
    """The pictures of a result; each is fetched when it is first used.

    Parameters
    ----------
    files : list of OutputFile
        The files of the pictures.
    """

    def __init__(self, files: list[OutputFile]) -> None:
        self._files = files
        self._open: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position not in self._open:
            import PIL.Image

            image = PIL.Image.open(io.BytesIO(self._files[position].read()))
            image.load()
            self._open[position] = image
        return self._open[position]

    def __repr__(self) -> str:
        names = ", ".join(file.filename for file in self._files)
        return printable(f"<{counted(len(self), 'image')}: {names}>")
