"""Files from users: multipart bodies that threads write to the disk as they arrive.

Until an upload is complete, its files are in a staging directory. Only then each of them gets its
final name in one atomic step, so no process ever sees an incomplete file, and two uploads of one
name never overwrite each other.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import posixpath
import re
import secrets
import shutil
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote

from blake3 import blake3
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ..comfyui.folders import Folders
from ..errors import (
    FULL,
    ComfyDeployError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    TooLargeError,
)
from ..util.media_types import media_type
from ..util.system import (
    RESERVED,
    closing_fd,
    end_reservation,
    lock_file,
    rename_without_replacing,
    reserved_target,
)
from ..util.tasks import close_each, open_in_thread
from .hashes import sha256_of

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient

P = ParamSpec("P")
T = TypeVar("T")

STAGING_PREFIX = ".comfydeploy-upload-"  # of the names of staging directories; listings skip them
ABANDONED = 24 * 3600  # seconds after which a folder cannot be in use by an upload any more
BATCH = 4 * 1024 * 1024  # bytes that are collected before a thread writes them
COPY_BLOCK = 1024 * 1024  # bytes of one copy step between file systems
FLUSH_AFTER = 32 * 1024 * 1024  # bytes
MAX_BOUNDARY = 70  # characters, RFC 2046
MAX_FIELD = 4096  # bytes in the value of a form field
MAX_NAME = 255  # bytes in one component of a path
MAX_NUMBERED = 10_000  # numbered names that are tried for one file
VIEWS_AT_ONCE = 16  # blocks of 64 KiB: fewer of them delay threads, more make some kernels slow

_MAX_EXTENSION = 32  # bytes; a longer extension is not kept when a name is shortened
_BLAKE3 = re.compile(r"blake3:([0-9a-f]{64})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off", ""), False
)
_flush_data = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


# -- names ------------------------------------------------------------------------------------


def safe_filename(name: str, *, field: str = "file") -> str:
    r"""Return a safe name for a file.

    Folders before the name are removed (``../x`` and ``C:\x`` become ``x``), as are dots and spaces
    at both ends. Names that Windows reserves get the prefix ``_``, and a name that is too long for
    a file system is shortened before its extension. Letters of all scripts are kept.
    """
    if _CONTROL.search(name):
        raise InvalidRequestError.of_field(field, "its name contains control characters")
    last = re.split(r"[/\\]", name)[-1].strip().strip(". ")
    if not last:
        raise InvalidRequestError.of_field(field, f"{name!r} is not a valid file name")
    return numbered(f"_{last}" if _RESERVED.match(last) else last, 0)


def numbered(name: str, number: int) -> str:
    """Return ``a (1).png`` for ``a.png`` and 1, the name itself for 0; at most 255 bytes."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    if len(extension.encode()) > _MAX_EXTENSION:
        stem, extension = name, ""
    ending = f" ({number}){extension}" if number else extension
    left = MAX_NAME - len(ending.encode())
    return stem.encode()[:left].decode(errors="ignore") + ending


def safe_subfolder(subfolder: str, *, field: str = "subfolder") -> str:
    r"""Return a relative folder with ``/`` as separator, empty for no folder.

    In the user's text ``\`` is a separator, too; ``.`` and ``a/..`` are removed.
    """
    if _CONTROL.search(subfolder):
        raise InvalidRequestError.of_field(field, "must not contain control characters")
    path = posixpath.normpath(subfolder.strip().replace("\\", "/"))
    if path == ".":
        return ""
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        raise ForbiddenPathError.of_field(field, "must be a folder below that of its type")
    if any(part.startswith(".") for part in path.split("/")):
        raise InvalidRequestError.of_field(
            field, "must not contain folders whose names begin with a dot"
        )
    return path


# -- the headers of multipart bodies ----------------------------------------------------------


def boundary_of(content_type: str) -> bytes:
    boundary = parameters_of(content_type).get("boundary", "")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise InvalidRequestError.of_field("body", "must be multipart/form-data with a boundary")
    if not boundary.isascii() or len(boundary) > MAX_BOUNDARY:
        raise InvalidRequestError.of_field("body", "its boundary does not conform to RFC 2046")
    return boundary.encode()


def parameters_of(header: str) -> dict[str, str]:
    """Return the parameters of a header; ``filename*`` (RFC 5987) overrides ``filename``."""
    found: dict[str, str] = {}
    for key, value in _PARAMETER.findall(header):
        if len(value) > 1 and value[0] == value[-1] == '"':
            # Browsers write a quotation mark in a name as %22 (WHATWG), other clients as \".
            value = value[1:-1].replace('\\"', '"').replace("%22", '"')
        found.setdefault(key.lower(), value.strip())
    extended = found.pop("filename*", None)
    if extended is not None:
        charset, _, rest = extended.partition("'")
        try:
            if charset.lower() not in {"utf-8", "iso-8859-1"}:
                raise LookupError(charset)
            found["filename"] = unquote(rest.partition("'")[2], charset, "strict")
        except (LookupError, UnicodeDecodeError):
            raise InvalidRequestError.of_field("file", "its name cannot be decoded") from None
    return found


def content_type_of(header: str, name: str) -> str:
    """Return the media type of a part: that of its header, else that of the file's name."""
    kind = header.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind) and kind != "application/octet-stream":
        return kind
    return media_type(name) or "application/octet-stream"


# -- staging directories ----------------------------------------------------------------------


class Staging:
    """A locked directory that holds the files of one upload until they are published.

    The lock lasts as long as the upload; one without a lock was left by a killed process and is
    removed at the next start.
    """

    def __init__(self, folders: Folders, parent: Path) -> None:
        self._parent = folders.open_directory(parent, create=True)
        try:
            self._name, self._descriptor = self._make()
        except BaseException:
            os.close(self._parent)
            raise

    def _make(self) -> tuple[str, int]:
        while True:
            name = f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            os.mkdir(name, 0o700, dir_fd=self._parent)
            with suppress(FileNotFoundError):  # a cleanup may have removed it before it was locked
                descriptor = _open_directory(name, self._parent)
                try:
                    lock_file(descriptor, wait=True)  # without locks, it is never cleaned up
                    os.stat(name, dir_fd=self._parent)
                except BaseException:
                    os.close(descriptor)
                    raise
                return name, descriptor

    def create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._descriptor)

    def open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self._descriptor)

    def publish(
        self, file: str, name: str, target: int, directory: Path, *, overwrite: bool
    ) -> bool:
        """Rename one of the files to its final name; return False if that is in use.

        The target is an open directory, and its path.

        `OSError` with ``EXDEV`` if the target is on another file system.
        """
        try:
            if overwrite:
                os.replace(file, name, src_dir_fd=self._descriptor, dst_dir_fd=target)
            else:
                path = directory / name
                rename_without_replacing(file, self._descriptor, name, target, target=path)
        except FileExistsError:
            return False
        except (IsADirectoryError, NotADirectoryError):
            raise ConflictError(f"file: {name} is a folder, which is not overwritten") from None
        return True

    def require_space(self, size: int) -> None:
        """Raise if the disk has no space left for files of this size."""
        found = os.fstatvfs(self._descriptor)
        free = found.f_bavail * found.f_frsize
        if size > free:
            raise TooLargeError.of_field(
                "file", f"needs {size} bytes, but the disk has {free} left", size=size, free=free
            )

    def remove(self) -> None:
        try:
            _remove(self._name, self._descriptor, self._parent)
        finally:
            os.close(self._descriptor)
            os.close(self._parent)


def remove_orphans(folders: Folders) -> int:
    """Remove the staging directories of killed processes; return their number. Blocks."""
    removed = 0
    for directory in folders.upload_directories():
        with (
            suppress(OSError, ComfyDeployError),
            closing_fd(folders.open_directory(directory)) as parent,
        ):
            for name in os.listdir(parent):  # noqa: PTH208 - a descriptor, not a path
                if name.startswith(STAGING_PREFIX):
                    removed += _remove_orphan(name, parent, folders)
    return removed


def _remove_orphan(name: str, parent: int, folders: Folders) -> bool:
    """Remove a staging directory unless it is locked; return whether it was removed."""
    with suppress(OSError), closing_fd(_open_directory(name, parent)) as descriptor:
        if lock_file(descriptor):
            _end_reservations(descriptor, folders)
            _remove(name, descriptor, parent)
            return True
    return False


def _end_reservations(descriptor: int, folders: Folders) -> None:
    """Remove the empty files that the process had put at the final names of its files."""
    records = [name for name in os.listdir(descriptor) if name.endswith(RESERVED)]
    tops = [os.path.realpath(top) for top in folders.upload_directories()] if records else []
    for record in records:
        file = record.removesuffix(RESERVED)
        path = reserved_target(file, descriptor)
        # Another user may have made the record: it must not lead out of the folders of uploads.
        if path is None or not any(path.is_relative_to(top) for top in tops):
            continue
        with (
            suppress(OSError, ComfyDeployError),
            closing_fd(folders.open_directory(path.parent)) as target,
        ):
            end_reservation(file, descriptor, path, target)


def _remove(name: str, descriptor: int, parent: int) -> None:
    for file in os.listdir(descriptor):
        os.unlink(file, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)


def _open_directory(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


# -- the body of an upload --------------------------------------------------------------------


@dataclass(frozen=True)
class StoredFile:
    name: str  # the final one, which may differ from the requested one
    subfolder: str  # below the folder of `type`, with ``/``; empty if directly in it
    type: str  # input, output, temp or models/<folder>
    path: Path
    size: int
    content_type: str  # in the request, else guessed from the name
    sha256: str
    blake3: str
    reused: bool  # a file of this name had the same content, so that nothing was written


@dataclass
class _Part:
    name: str
    content_type: str
    staging: Staging
    staged: str
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    blake3: blake3 = field(default_factory=blake3)
    size: int = 0


@dataclass(frozen=True)
class _Destination:
    kind: str
    subfolder: str
    top: Path  # the directory of the kind, without links
    directory: Path  # the subfolder's directory in it, without links


class UploadForm:
    """The fields and files of one multipart body, while they are written to the disk.

    Call all methods in threads, by one thread at a time.
    """

    fields: tuple[str, ...] = ("type", "subfolder", "overwrite", "machine")  # each at most once
    max_files: int | None = None

    def __init__(
        self,
        folders: Folders,
        content_type: str,
        content_length: int | None,
        *,
        machine: Collection[str | None] = (),
        hashers: ThreadPoolExecutor,
        flushers: ThreadPoolExecutor | None,
    ) -> None:
        self._folders = folders
        self._machine = machine  # ids and names that the form may contain as well
        self._hashers = hashers
        self._hashing: list[Future[None]] = []
        self._flushers = flushers  # None: nothing is flushed to the disk
        self._flushing: Future[None] | None = None
        self._unflushed = 0  # bytes that were written since the last flush
        self._arrived: list[memoryview] = []
        self._content_length = content_length or 0  # refused at once if the disk is too small
        self._guard = threading.Lock()
        self._closed = False
        self._complete = False
        self._fields: dict[str, str] = {}
        self._parts: list[_Part] = []
        self._stagings: list[Staging] = []
        self._headers: dict[str, str] = {}
        self._header = bytearray()
        self._header_value = bytearray()
        self._field: str | None = None
        self._value = bytearray()
        self._descriptor: int | None = None
        self._parser = MultipartParser(
            boundary_of(content_type),
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": partial(_append, self._header),
                "on_header_value": partial(_append, self._header_value),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": partial(setattr, self, "_complete", True),
            },
        )

    @property
    def overwrite(self) -> bool:
        return _FLAGS[self.field("overwrite").lower()]

    def field(self, name: str) -> str:
        """Return the value of a field, empty if it was not given."""
        return self._fields.get(name, "")

    def place(self) -> tuple[str, str]:
        """Return the folder and the subfolder for the files, by the fields received so far."""
        return self.field("type") or "input", safe_subfolder(self.field("subfolder"))

    def name(self, given: str) -> str:
        """Return the name for a file, by its name in the form."""
        return given

    def check(self, sha256: str, blake3: str) -> None:
        """Raise if a complete file, by its hashes, is not the expected one."""

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Parse the next bytes and write those of files to the disk.

        The chunks must not change before the next call has returned: they may be hashed until then.
        """
        with self._guard, _user_errors():
            for chunk in chunks:
                if not self._closed:
                    self._parser.write(chunk)
            self._write()

    def finish(self) -> list[StoredFile]:
        with self._guard, _user_errors():
            if self._closed:
                raise ConflictError("The upload was aborted.")
            if not self._complete:
                raise InvalidRequestError.of_field("body", "ends before its last boundary")
            if not self._parts:
                raise InvalidRequestError.of_field(
                    "file", "is missing; send the file as the multipart field `file`"
                )
            self._await_hashes()
            for part in self._parts:
                self.check(part.sha256.hexdigest(), part.blake3.hexdigest())
            where = self._destination()
            opened = self._folders.open_directory(where.directory, create=True)
            with closing_fd(opened) as target:
                stored = [self._publish(part, where, target) for part in self._parts]
                self._make_safe(target)
            return stored

    def close(self) -> None:
        with self._guard:
            if self._closed:
                return
            self._closed = True
            if self._descriptor is not None:
                with suppress(OSError):
                    self._await_flush()
                os.close(self._descriptor)
            for staging in self._stagings:
                with suppress(OSError):
                    staging.remove()

    def _destination(self) -> _Destination:
        kind, subfolder = self.place()
        top = self._folders.directory(kind)
        real = [
            self._folders.resolve(str(path), must_exist=False, kind="directory", field="subfolder")
            for path in (top, top / subfolder)
        ]
        return _Destination(kind, subfolder, *real)

    def _publish(self, part: _Part, where: _Destination, target: int) -> StoredFile:
        digest = part.sha256.hexdigest()
        for number in range(MAX_NUMBERED):
            name = numbered(self.name(part.name), number)
            placed = self._place(part, name, where, target, overwrite=self.overwrite)
            if placed or self._holds(where.directory / name, part.size, digest):
                return StoredFile(
                    name=name,
                    subfolder=where.subfolder,
                    type=where.kind,
                    path=where.directory / name,
                    size=part.size,
                    content_type=part.content_type,
                    sha256=digest,
                    blake3=part.blake3.hexdigest(),
                    reused=not placed,
                )
        raise ConflictError(
            f"file: there are {MAX_NUMBERED} files with a name like {part.name} already"
        )

    def _place(
        self, part: _Part, name: str, where: _Destination, target: int, *, overwrite: bool
    ) -> bool:
        """Rename a staged file to its final name; return False if another file has that name."""
        try:
            return part.staging.publish(
                part.staged, name, target, where.directory, overwrite=overwrite
            )
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        same_disk = where.top.stat().st_dev == os.fstat(target).st_dev
        self._copy_near_target(part, where.top if same_disk else where.directory)
        return part.staging.publish(part.staged, name, target, where.directory, overwrite=overwrite)

    def _copy_near_target(self, part: _Part, near: Path) -> None:
        staging = self._stage(near, part.size)
        with (
            os.fdopen(part.staging.open(part.staged), "rb") as reader,
            os.fdopen(staging.create(part.staged), "wb") as writer,
        ):
            shutil.copyfileobj(reader, writer, COPY_BLOCK)
            self._make_safe(writer.fileno())
        part.staging = staging

    def _holds(self, path: Path, size: int, digest: str) -> bool:
        try:
            with self._folders.open_for_read(self._folders.resolve(str(path))) as file:
                return os.fstat(file.fileno()).st_size == size and sha256_of(file) == digest
        except ComfyDeployError:
            return False

    def _stage(self, directory: Path, size: int) -> Staging:
        staging = Staging(self._folders, directory)
        self._stagings.append(staging)
        staging.require_space(size)
        return staging

    def _write(self) -> None:
        """Write the received bytes of the current file, and hash them in another thread."""
        self._await_hashes()
        if self._descriptor is not None and self._arrived:
            views, self._arrived = self._arrived, []
            part = self._parts[-1]
            self._hashing = [
                self._hashers.submit(_update, digest, views)
                for digest in (part.sha256, part.blake3)
            ]
            for start in range(0, len(views), VIEWS_AT_ONCE):
                _write_all(self._descriptor, views[start : start + VIEWS_AT_ONCE])
            self._flush(self._descriptor, sum(map(len, views)))

    def _flush(self, descriptor: int, written: int) -> None:
        """Start to flush early, so that the final fsync is short."""
        if self._flushers is None:
            return
        self._unflushed += written
        if self._unflushed >= FLUSH_AFTER and (self._flushing is None or self._flushing.done()):
            self._await_flush()
            self._unflushed = 0
            self._flushing = self._flushers.submit(_flush_data, descriptor)

    def _await_flush(self) -> None:
        """Wait until the flush is done; its errors are raised only here."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.result()

    def _await_hashes(self) -> None:
        for hashing in self._hashing:
            hashing.result()

    def _make_safe(self, descriptor: int) -> None:
        if self._flushers is not None:
            self._await_flush()
            os.fsync(descriptor)

    def _on_header_end(self) -> None:
        try:
            self._headers[self._header.decode().lower()] = self._header_value.decode().strip()
        except UnicodeDecodeError:
            raise InvalidRequestError.of_field("file", "its name is not UTF-8") from None
        self._header.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        disposition = parameters_of(self._headers.get("content-disposition", ""))
        field = disposition.get("name")
        self._field = None
        if field == "file":
            self._begin_file(disposition)
        elif field in self.fields:
            if field in self._fields:
                raise InvalidRequestError.of_field(field, "is given twice")
            self._field = field
            self._value.clear()

    def _begin_file(self, disposition: Mapping[str, str]) -> None:
        if "filename" not in disposition:
            raise InvalidRequestError.of_field("file", "must be a file with a filename")
        if len(self._parts) == self.max_files:
            raise InvalidRequestError.of_field(
                "file", "is given more than once; this route takes one file"
            )
        name = safe_filename(disposition["filename"])
        if not self._stagings:
            self._stage(self._destination().top, self._content_length)
        staging, staged = self._stagings[0], str(len(self._parts))
        self._descriptor = staging.create(staged)
        content_type = content_type_of(self._headers.get("content-type", ""), name)
        self._parts.append(_Part(name, content_type, staging, staged))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._descriptor is not None:
            self._arrived.append(memoryview(data)[start:end])
            self._parts[-1].size += end - start
        elif self._field is not None:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD:
                raise InvalidRequestError.of_field(self._field, "is too long")

    def _on_part_end(self) -> None:
        if self._descriptor is not None:
            self._write()
            self._make_safe(self._descriptor)
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        elif self._field is not None:
            self._add_field(self._field)

    def _add_field(self, field: str) -> None:
        try:
            self._fields[field] = value = self._value.decode().strip()
        except UnicodeDecodeError:
            raise InvalidRequestError.of_field(field, "is not UTF-8 text") from None
        if field == "overwrite":
            if value.lower() not in _FLAGS:
                raise InvalidRequestError.of_field(field, "must be true or false")
        elif field != "machine":
            self._destination()
        elif value and value not in self._machine:
            raise InvalidRequestError.of_field(
                field, "must be in the query: files are written to its folders while they arrive"
            )


def _append(buffer: bytearray, data: bytes, start: int, end: int) -> None:
    buffer += data[start:end]


def _write_all(descriptor: int, views: Sequence[memoryview]) -> None:
    written = os.writev(descriptor, views)
    if written < sum(map(len, views)):  # if the disk is full, or after a signal
        rest = memoryview(b"".join(views))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _update(digest: hashlib._Hash | blake3, views: Sequence[memoryview]) -> None:
    for view in views:
        digest.update(view)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Convert errors of the parser and of the operating system to errors of the routes."""
    try:
        yield
    except FormParserError:
        raise InvalidRequestError.of_field(
            "body", "is not well-formed multipart/form-data"
        ) from None
    except OSError as error:
        if error.errno in FULL:
            raise TooLargeError.of_field(
                "file", "there is no space left for it on the disk"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ForbiddenPathError(
                "The Jupyter server may not write to the folder of this upload.",
                details={"field": "type"},
            ) from error
        if error.errno in {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}:
            raise InvalidRequestError.of_field(
                "file", "the target disk does not allow a file of this name"
            ) from error
        raise


def split_path(file_path: str) -> tuple[str, str, str]:
    """Return the folder, the subfolder and the name for a path of the Comfy API.

    A bare name, or one after ``input/``, is an input; after ``models/<folder>/`` or ``<folder>/``
    it is a model.
    """
    *folders, name = file_path.replace("\\", "/").split("/")
    if folders and folders[0] == "models":
        folders = folders[1:]
        if not folders:
            raise InvalidRequestError.of_field("file_path", "must name a folder below models/")
    if folders and folders[0] in ("output", "temp", "custom_nodes", ""):
        raise InvalidRequestError.of_field(
            "file_path", "must be a name, or begin with input/ or models/<folder>/"
        )
    if any(folder in (".", "..") for folder in folders):
        raise InvalidRequestError.of_field("file_path", "must not contain . or .. as a folder")
    kind = "input" if not folders or folders[0] == "input" else f"models/{folders[0]}"
    subfolder = safe_subfolder("/".join(folders[1:]), field="file_path")
    return kind, subfolder, safe_filename(name, field="file_path")


class AssetForm(UploadForm):
    fields = ("content_type", "file_path", "expected_hash")
    max_files = 1

    def place(self) -> tuple[str, str]:
        path = self.field("file_path")
        return split_path(path)[:2] if path else ("input", "")

    def name(self, given: str) -> str:
        path = self.field("file_path")
        return split_path(path)[2] if path else given

    def check(self, sha256: str, blake3: str) -> None:
        expected = self.field("expected_hash")
        if not expected:
            return
        if _BLAKE3.fullmatch(expected) is None:
            raise InvalidRequestError.of_field(
                "hash", "expected_hash must be blake3: and 64 hexadecimal digits"
            )
        if expected != f"blake3:{blake3}":
            raise ConflictError.of_field(
                "expected_hash", f"the file has the hash blake3:{blake3}", hash=f"blake3:{blake3}"
            )


# -- uploads from the event loop --------------------------------------------------------------


@dataclass(frozen=True)
class UploadTarget:
    """Where the files of an upload go: folders on this machine, or the API of a remote ComfyUI.

    The remote one chooses the names (``POST /upload/image``). A tunnel or proxy in front of it may
    refuse a body of unknown length, and an incomplete body must not reach it. So the complete file
    is first received into a folder of the spool, and then streamed from there.
    """

    folders: Folders
    client: ComfyUIClient | None = None  # to which the files are forwarded

    @classmethod
    def remote(cls, spool: Path, client: ComfyUIClient) -> UploadTarget:
        return cls(Folders(spool / uuid.uuid4().hex), client)


def clean_spool(spool: Path) -> None:
    """Remove the folders that killed servers left in a folder for incoming files."""
    with suppress(FileNotFoundError):
        for entry in spool.iterdir():
            if entry.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)


class Uploads:
    """Receives uploads; with ``fsync``, each ends when its files are permanently on the disk."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="comfydeploy-upload")
        self._hashers = ThreadPoolExecutor(4, thread_name_prefix="comfydeploy-upload-hash")
        self._flushers = ThreadPoolExecutor(2, "comfydeploy-upload-flush") if fsync else None
        self._open: set[Upload] = set()

    def receive(
        self,
        target: UploadTarget,
        content_type: str,
        content_length: int | None = None,
        *,
        machine: Collection[str | None] = (),
        form: type[UploadForm] = UploadForm,
    ) -> Upload:
        """Begin to receive one request body.

        The folders are chosen before it arrives, so a form that names another machine than
        ``machine``, the ids and names of theirs, is refused.
        """
        received = form(
            target.folders,
            content_type,
            content_length,
            machine=machine,
            hashers=self._hashers,
            flushers=self._flushers,
        )
        upload = Upload(received, target, self._threads, on_end=self._open.discard)
        self._open.add(upload)
        return upload

    async def close(self) -> None:
        await asyncio.gather(*(close_each(upload.abort) for upload in list(self._open)))
        for threads in (self._threads, self._hashers, self._flushers):
            if threads is not None:
                await asyncio.to_thread(threads.shutdown)


class Upload:
    """One request body that is being written to the disk; created by `Uploads.receive`.

    For a body of any size, at most three batches of about `BATCH` bytes are in memory: one is being
    hashed and one written by threads, while another one is filled. After an error all files of the
    upload are removed, and no more bytes are accepted.
    """

    def __init__(
        self,
        form: UploadForm,
        target: UploadTarget,
        threads: ThreadPoolExecutor,
        on_end: Callable[[Upload], None],
    ) -> None:
        self._form = form
        self._target = target
        self._threads = threads
        self._on_end = on_end
        self._batch: list[bytes] = []
        self._batched = 0
        self._writing: asyncio.Future[None] | None = None
        self._ended = False
        self._forwarding = asyncio.Lock()

    def field(self, name: str) -> str:
        """Return the value of a field of the form; valid once it is complete."""
        return self._form.field(name)

    async def write(self, chunk: bytes) -> None:
        """Accept the next bytes of the body; return when the buffer has space for more."""
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= BATCH:
            await self._flush()

    async def finish(self) -> list[StoredFile]:
        """Give the files their final names, in the order of the body, once it is complete.

        A remote ComfyUI gets them, and chooses the names.
        """
        await self._flush()
        await self._settle()
        client = self._target.client
        if client is None:
            return await self._publish()
        async with self._forwarding:
            try:
                return [await self._forward(file, client) for file in await self._publish()]
            finally:
                await self._clear_spool()

    async def abort(self) -> None:
        """Remove all received files without a final name. May be called at any time.

        A file that is being sent to a remote ComfyUI is removed after that.
        """
        await self._close()
        if self._target.client is not None:
            async with self._forwarding:
                await self._clear_spool()

    async def _publish(self) -> list[StoredFile]:
        try:
            return await self._run(self._form.finish)
        finally:
            await self._close()

    async def _forward(self, file: StoredFile, client: ComfyUIClient) -> StoredFile:
        path = await asyncio.to_thread(file.path.resolve)
        name, subfolder = await client.upload(
            await open_in_thread(self._target.folders.open_for_read, path),
            file.name,
            subfolder=file.subfolder,
            kind=file.type,
            overwrite=self._form.overwrite,
        )
        return replace(file, name=name, subfolder=subfolder)

    async def _clear_spool(self) -> None:
        folder = self._target.folders.comfyui_path
        assert folder is not None
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _close(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)
            await asyncio.shield(self._run(self._form.close))

    async def _flush(self) -> None:
        await self._settle()
        chunks, self._batch, self._batched = self._batch, [], 0
        self._writing = self._run(self._form.feed, chunks)
        self._writing.add_done_callback(_retrieve)

    async def _settle(self) -> None:
        if self._writing is None:
            return
        try:
            await asyncio.shield(self._writing)
        except BaseException:
            await self.abort()
            raise

    def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(
            self._threads, partial(work, *args, **kwargs)
        )


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark the error of a future as retrieved: after an abort asyncio need not report it."""
    if not future.cancelled():
        future.exception()


def copy_into(folders: Folders, source: io.FileIO, kind: str, subfolder: str, name: str) -> str:
    """Copy an open file, which is closed, into one of ComfyUI's folders; return its name there.

    The name gets a number if another file has it. No process sees an incomplete copy, and no file
    is overwritten. Blocks.
    """
    path = folders.directory(kind) / subfolder
    with source, ExitStack() as stack:
        directory = folders.resolve(str(path), must_exist=False, kind="directory")
        target = stack.enter_context(closing_fd(folders.open_directory(directory, create=True)))
        staging = Staging(folders, directory)
        stack.callback(staging.remove)
        with os.fdopen(staging.create("0"), "wb") as writer:
            shutil.copyfileobj(source, writer, COPY_BLOCK)
        for number in range(MAX_NUMBERED):
            found = numbered(name, number)
            if staging.publish("0", found, target, directory, overwrite=False):
                return found
    raise ConflictError(f"There are {MAX_NUMBERED} files named like {name} already")
