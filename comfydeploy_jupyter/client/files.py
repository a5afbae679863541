"""Uploads to ComfyUI's folders, and writing files on this machine."""

from __future__ import annotations

import filecmp
import hashlib
import io
import os
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidRequestError, printable
from ..util.media_types import media_type
from .server import json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .server import Server


@contextmanager
def unfinished(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a new hidden file in a folder; it is removed at the end unless it was renamed."""
    path = folder / f".{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write or replace a text file; a crash leaves the old content, or the new one complete."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write or replace a file; a crash leaves the old content, or the new one complete."""
    target = Path(path).expanduser()
    with unfinished(target.parent) as file:
        file.write(content)
        file.close()
        Path(file.name).replace(target)


def rename_or_number(file: Path, wanted: Path) -> Path:
    """Rename a finished file to its name, or to a free one; never replace other content."""
    path, number = wanted, 0
    while True:
        with suppress(FileExistsError):
            path.open("xb").close()
            return file.replace(path)
        if path.is_file() and filecmp.cmp(file, path, shallow=False):
            return path
        number += 1
        path = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")


K = TypeVar("K")

CHUNK = 1024 * 1024
UPLOAD_TIMEOUT = 600.0  # s without a reply; ComfyUI's disk may be slow
SIZE_STEP = 1024


@dataclass(frozen=True)
class UploadedFile:
    """A file in one of ComfyUI's folders.

    Attributes
    ----------
    name, subfolder, type : str
        Its location in ComfyUI; the name may differ from the requested one.
    """

    name: str
    subfolder: str
    type: str
    size: int
    """Its size, bytes."""
    hash: str
    """SHA-256, hexadecimal."""

    def __str__(self) -> str:
        """Return the file as the value of a loader node."""
        path = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return path if self.type == "input" else f"{path} [{self.type}]"


@dataclass(frozen=True)
class Model:
    """A model file of ComfyUI.

    Attributes
    ----------
    name, folder : str
        The value of a loader node, and the models folder that the node uses.
    """

    name: str
    folder: str
    path: str | None = None
    """The path of the file."""
    size: int | None = None
    """Its size, bytes; None if ComfyUI runs on another machine and does not report it."""
    modified: float | None = None
    """When it was changed, s since 1970."""

    def __repr__(self) -> str:
        size = "" if self.size is None else f", {human_size(self.size)}"
        return printable(f"<Model {self.folder}/{self.name}{size}>")


def human_size(size: float) -> str:
    """Return a size in bytes with a unit, e.g. ``"1.4 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if size < SIZE_STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= SIZE_STEP
    return f"{size:.1f} GiB"


def upload(
    server: Server,
    source: Any,
    *,
    name: str | None = None,
    type: str = "input",  # noqa: A002 - the name that ComfyUI gives it
    subfolder: str = "",
    overwrite: bool = False,
    machine: str | None = None,
) -> UploadedFile:
    """Send a file, a picture or an array to one of ComfyUI's folders; see `Comfy.upload`."""
    fields = {"type": type, "subfolder": subfolder, "overwrite": str(overwrite).lower()}
    with _opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        named = name or _name_of(source, file)
        reply = send_chunks(server, _read(file, size), size, named, fields, machine=machine)
    return UploadedFile(
        reply["name"], reply["subfolder"], reply["type"], reply["size"], reply["file_hash"]
    )


def send_chunks(
    server: Server,
    chunks: Iterable[bytes],
    size: int,
    name: str,
    fields: dict[str, str],
    *,
    machine: str | None = None,
) -> dict[str, Any]:
    """Upload a file in pieces; return the reply. If a piece raises, nothing is stored."""
    if {"\r", "\n"} & {*name}:
        raise InvalidRequestError.of_field("name", f"contains a line break: {name!r}")
    form = Form(fields, name, size, chunks)
    headers = {"Content-Type": form.content_type}
    address = server.address("upload-file", {"machine": machine})
    with server.request(
        "POST", address, data=form, headers=headers, timeout=UPLOAD_TIMEOUT
    ) as response:
        return dict(json_of(response))


class Uploader:
    """Uploads the files, pictures and arrays among values that exist meanwhile, each once."""

    def __init__(self, server: Server, machine: str | None) -> None:
        self._server = server
        self._machine = machine
        self._names: dict[int, str] = {}

    def stored(self, value: Any) -> Any:
        """Return a value with the names of uploads in place of the files in it."""
        return with_files(value, self._name)

    def _name(self, file: Any) -> Any:
        if hasattr(type(file), "to_input"):
            return file.to_input()
        if id(file) not in self._names:
            self._names[id(file)] = str(upload(self._server, file, machine=self._machine))
        return self._names[id(file)]


def upload_all(
    server: Server, values: Mapping[K, Any], *, machine: str | None = None
) -> dict[K, Any]:
    """Upload the files, pictures and arrays among inputs; return the names that replace them."""
    uploader = Uploader(server, machine)
    return {key: uploader.stored(value) for key, value in values.items() if has_files(value)}


def with_files(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return the value of an input with each file in it, also in lists and rows, replaced."""
    if isinstance(value, (list, tuple)):
        return [with_files(each, replace) for each in value]
    if isinstance(value, dict):
        return {key: with_files(each, replace) for key, each in value.items()}
    return replace(value) if is_file(value) else value


def files_in(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each file, and list of files, in the value of an input, with its path in the value."""
    listed = isinstance(value, (list, tuple))
    if is_file(value) or (listed and value and all(map(is_file, value))):
        yield path, value
    elif listed or isinstance(value, dict):
        for key, each in enumerate(value) if listed else value.items():
            yield from files_in(each, *path, str(key))


def has_files(value: Any) -> bool:
    """Return whether the value of an input is a file that is uploaded, or has some in it."""
    return any(True for _ in files_in(value))


def is_file(value: Any) -> bool:
    """Return whether a value of an input is uploaded: an existing file, a picture or an array.

    An output of a run counts as a file. The path of a file that does not exist here may be one on
    ComfyUI's machine, and stays a text.
    """
    if isinstance(value, os.PathLike):
        return Path(value).is_file()
    return _is_picture(value) or _is_array(value) or hasattr(type(value), "to_input")


class Form:
    """A multipart body whose file is read while it is sent."""

    def __init__(
        self, fields: dict[str, str], name: str, size: int, chunks: Iterable[bytes]
    ) -> None:
        boundary = uuid.uuid4().hex
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        quoted = quoted.replace("\r", "%0D").replace("\n", "%0A")  # as browsers do
        kind = media_type(name) or "application/octet-stream"
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = head.encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._size = size
        self._chunks = chunks

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._size
        for chunk in self._chunks:
            left -= len(chunk)
            if left < 0:
                raise InvalidRequestError.of_field("file", "became longer while it was sent")
            yield chunk
        if left:
            raise InvalidRequestError.of_field("file", "became shorter while it was sent")
        yield self._tail


def _read(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Read the first ``size`` bytes; what is added to the file meanwhile is ignored."""
    file.seek(0)
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


def _opened(source: Any) -> IO[bytes]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise InvalidRequestError.of_field("file", f"the file {path} does not exist")
        return path.open("rb")
    if isinstance(source, (bytes, bytearray)):
        return io.BytesIO(source)
    if _is_array(source):
        source = _picture_of(source)
    if _is_picture(source):
        encoded = io.BytesIO()
        source.save(encoded, "PNG")
        return encoded
    if hasattr(source, "read") and hasattr(source, "seek"):
        content = source.read()
        if isinstance(content, str):
            raise InvalidRequestError.of_field("file", "is open as text; open it with 'rb'")
        return io.BytesIO(content)
    raise InvalidRequestError.of_field(
        "file", f"must be a path, bytes, an open file, a PIL image or an array, not {source!r}"
    )


def _name_of(source: Any, file: IO[bytes]) -> str:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).name
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    if isinstance(name, str) and name and not _is_picture(source):
        return Path(name).name
    if _is_picture(source):  # the bytes of a PNG depend on the version of Pillow
        pixels = f"{source.mode}{source.size}".encode() + source.tobytes()
        return f"upload-{hashlib.sha256(pixels).hexdigest()[:16]}.png"
    suffix = "png" if _is_array(source) else "bin"
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return f"upload-{digest.hexdigest()[:16]}.{suffix}"  # so the same content is not stored twice


def _is_picture(value: Any) -> bool:
    return hasattr(value, "save") and hasattr(value, "getbands")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and getattr(value, "ndim", 0) >= 2


def _picture_of(array: Any) -> Any:
    """Return the picture in an array of shape (height, width[, channels]), uint8 or 0 … 1."""
    import numpy as np
    from PIL import Image

    values = np.asarray(array)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InvalidRequestError.of_field(
            "file",
            f"an array of shape {values.shape} is not a picture; it must be (height, width[, 1,"
            " 3 or 4])",
        )
    if values.dtype.kind == "f":
        values = np.clip(values * 255.0 + 0.5, 0, 255)
    return Image.fromarray(values.astype(np.uint8))
