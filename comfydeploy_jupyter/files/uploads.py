"""Files that arrive as ``multipart/form-data``: streamed to disk, then published under a name.

An upload first goes into a staging directory of its own, beside the place it is for. Only when
all of it has arrived are its files linked to their names, in one step each, so that nobody ever
sees half a file and two uploads of one name never overwrite each other. The staging directory is
locked while the upload lives; one without a lock was left by a killed process and is removed at
the next start.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import mimetypes
import os
import re
import secrets
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from typing_extensions import ParamSpec

from ..errors import (
    ComfyDeployError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    TooLargeError,
)
from .hashing import sha256_of
from .names import numbered, safe_filename, safe_subfolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..comfyui.folders import Folders

P = ParamSpec("P")
T = TypeVar("T")

BATCH = 1024 * 1024  # bytes that are collected before a thread is asked to write them
MAX_FIELD = 4096  # bytes in the value of a form field
MAX_BOUNDARY = 70  # characters, RFC 2046
MOST_NAMES = 10_000  # how many names are tried for one file
STAGING_PREFIX = ".comfydeploy-upload-"  # listings pass over what begins with a dot

_FIELDS = ("type", "subfolder", "overwrite")
_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off", ""), False
)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class StoredFile:
    """A file that was uploaded.

    Attributes
    ----------
    name : str
        The name it got, which may differ from the one asked for.
    subfolder : str
        Its folder below that of `type`, with ``/``; empty: directly in it.
    type : str
        ``input``, ``output``, ``temp`` or ``models/<folder>``.
    path : Path
        Where it is.
    size : int
        Bytes.
    content_type : str
        As the request said, else guessed from the name.
    sha256 : str
        Hexadecimal.
    reused : bool
        True: the same content was there already under this name, so nothing was written.
    """

    name: str
    subfolder: str
    type: str
    path: Path
    size: int
    content_type: str
    sha256: str
    reused: bool


class Uploads:
    """Receives uploads.

    Parameters
    ----------
    fsync : bool
        Wait until each file is safe from a power cut before it gets its name.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self._fsync = fsync
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="comfydeploy-upload")
        self._hashers = ThreadPoolExecutor(2, thread_name_prefix="comfydeploy-upload-hash")
        self._open: set[Upload] = set()

    async def clean(self, folders: Folders) -> int:
        """Remove what uploads of killed processes left; return how many there were."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, _remove_orphans, folders
        )

    def receive(
        self, folders: Folders, content_type: str, content_length: int | None = None
    ) -> Upload:
        """Begin to receive one request body.

        Parameters
        ----------
        folders : Folders
            Where the files may go.
        content_type : str
            The request's Content-Type, with its boundary.
        content_length : int, optional
            Bytes of the body, to refuse at once what cannot fit on the disk.

        Raises
        ------
        InvalidRequestError
            The body is not ``multipart/form-data``.
        """
        form = _Form(
            folders, _boundary(content_type), content_length, self._hashers, fsync=self._fsync
        )
        upload = Upload(form, self._threads, on_end=self._open.discard)
        self._open.add(upload)
        return upload

    async def close(self) -> None:
        """Abort the uploads that are not finished and end the threads."""
        await asyncio.gather(*(upload.abort() for upload in list(self._open)))
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._hashers.shutdown)


class Upload:
    """One request body on its way to the disk; made by `Uploads.receive`.

    However large the body is, at most three batches of about 1 MiB are in memory: one is being
    hashed and one written in threads, while another fills. After an error nothing of the upload
    is left and nothing more is taken.
    """

    def __init__(
        self, form: _Form, threads: ThreadPoolExecutor, on_end: Callable[[Upload], None]
    ) -> None:
        self._form = form
        self._threads = threads
        self._on_end = on_end
        self._batch: list[bytes] = []
        self._batched = 0
        self._writing: asyncio.Future[None] | None = None
        self._ended = False

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body; returns when there is room for more.

        Raises
        ------
        InvalidRequestError
            The body is malformed, or a field or name in it is wrong.
        ForbiddenPathError
            The files may not go where the fields say.
        TooLargeError
            The disk is full.
        """
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= BATCH:
            await self._flush()

    async def finish(self) -> list[StoredFile]:
        """Give the files their names, once the whole body was written.

        Returns
        -------
        list of StoredFile
            In the order of the body; at least one.

        Raises
        ------
        InvalidRequestError
            As `write`; also: the body ended early, or there is no file in it.
        ForbiddenPathError, TooLargeError
            As `write`.
        ConflictError
            A folder has the name of a file that was to be overwritten.
        """
        await self._flush()
        await self._settle()
        try:
            return await self._run(self._form.finish)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Remove all that has arrived, unless it is published. May be called at any time."""
        if not self._ended:
            self._ended = True
            self._on_end(self)
            await asyncio.shield(self._run(self._form.close))

    async def _flush(self) -> None:
        await self._settle()
        chunks, self._batch, self._batched = self._batch, [], 0
        self._writing = self._run(self._form.feed, chunks)
        self._writing.add_done_callback(_seen)

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


def _seen(future: asyncio.Future[None]) -> None:
    """Keep asyncio from reporting an error that an abort makes uninteresting."""
    if not future.cancelled():
        future.exception()


class _Staging:
    """A locked directory that holds the files of one upload until they have their names.

    Parameters
    ----------
    folders : Folders
        Opens the directory around it.
    parent : Path
        That directory; made if missing.
    """

    def __init__(self, folders: Folders, parent: Path) -> None:
        self._parent = folders.open_directory(parent, create=True)
        try:
            self._name, self.descriptor = self._make()
        except BaseException:
            os.close(self._parent)
            raise

    def _make(self) -> tuple[str, int]:
        while True:
            name = f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            os.mkdir(name, 0o700, dir_fd=self._parent)
            with suppress(FileNotFoundError):  # one that cleans up may be faster than our lock
                descriptor = _open_directory(name, self._parent)
                with suppress(OSError):  # file systems without locks: never cleaned up, works
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                try:
                    os.stat(name, dir_fd=self._parent)
                except BaseException:
                    os.close(descriptor)
                    raise
                return name, descriptor

    def create(self, name: str) -> int:
        """Make a file and return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self.descriptor)

    def free(self) -> int:
        """Return how many bytes the file system can still take."""
        found = os.fstatvfs(self.descriptor)
        return found.f_bavail * found.f_frsize

    def remove(self) -> None:
        """Delete the directory with all that is in it."""
        try:
            _remove(self._name, self.descriptor, self._parent)
        finally:
            os.close(self.descriptor)
            os.close(self._parent)


@dataclass
class _Part:
    """A file of the form, in a staging directory."""

    name: str
    content_type: str
    staging: _Staging
    staged: str
    digest: hashlib._Hash
    size: int = 0


@dataclass(frozen=True)
class _Destination:
    """Where the files of a form go.

    Attributes
    ----------
    kind, subfolder : str
        As `StoredFile` has them.
    top, directory : Path
        The directory of the kind, and in it that of the subfolder; without links.
    """

    kind: str
    subfolder: str
    top: Path
    directory: Path


class _Form:
    """The fields and files of one body; runs in threads, one call at a time."""

    def __init__(
        self,
        folders: Folders,
        boundary: bytes,
        content_length: int | None,
        hashers: ThreadPoolExecutor,
        *,
        fsync: bool,
    ) -> None:
        self._folders = folders
        self._hashers = hashers
        self._hashing: Future[None] | None = None
        self._unhashed: list[memoryview] = []
        self._content_length = content_length or 0
        self._fsync = fsync
        self._guard = threading.Lock()
        self._closed = False
        self._complete = False
        self._fields: dict[str, str] = {}
        self._parts: list[_Part] = []
        self._stagings: list[_Staging] = []
        self._headers: dict[str, str] = {}
        self._header = bytearray()
        self._header_value = bytearray()
        self._field: str | None = None
        self._value = bytearray()
        self._descriptor: int | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Parse the next bytes and write those of files to the disk."""
        with self._guard, _user_errors():
            for chunk in chunks:
                if not self._closed:
                    self._parser.write(chunk)
            self._hash()

    def finish(self) -> list[StoredFile]:
        """Give the files their names."""
        with self._guard, _user_errors():
            if self._closed:
                raise ConflictError("The upload was aborted.")
            if not self._complete:
                raise InvalidRequestError.of_field("body", "ends before its last boundary")
            if not self._parts:
                raise InvalidRequestError.of_field(
                    "file", "is missing; send the file as the multipart field `file`"
                )
            self._settle_hashes()
            where = self._destination()
            target = self._folders.open_directory(where.directory, create=True)
            try:
                return [self._publish(part, where, target) for part in self._parts]
            finally:
                os.close(target)

    def close(self) -> None:
        """Remove what has no name yet."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
            for staging in self._stagings:
                with suppress(OSError):
                    staging.remove()

    def _destination(self) -> _Destination:
        """Return where the fields, as far as they are known, send the files."""
        kind = self._fields.get("type") or "input"
        subfolder = safe_subfolder(self._fields.get("subfolder", ""))
        top = self._folders.directory(kind)
        real = [
            self._folders.resolve(str(path), must_exist=False, kind="directory", field="subfolder")
            for path in (top, top / subfolder)
        ]
        return _Destination(kind, subfolder, *real)

    def _publish(self, part: _Part, where: _Destination, target: int) -> StoredFile:
        overwrite = _FLAGS[self._fields.get("overwrite", "").lower()]
        digest = part.digest.hexdigest()
        for number in range(MOST_NAMES):
            name = numbered(part.name, number)
            placed = self._place(part, name, where, target, overwrite=overwrite)
            if placed or self._holds(where.directory / name, part.size, digest):
                return StoredFile(
                    name=name,
                    subfolder=where.subfolder,
                    type=where.kind,
                    path=where.directory / name,
                    size=part.size,
                    content_type=part.content_type,
                    sha256=digest,
                    reused=not placed,
                )
        raise ConflictError(f"file: there are {MOST_NAMES} files named like {part.name} already")

    def _place(
        self, part: _Part, name: str, where: _Destination, target: int, *, overwrite: bool
    ) -> bool:
        """Give a staged file its name; return False where another has it already."""
        try:
            return _link(part, name, target, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        same_disk = where.top.stat().st_dev == os.fstat(target).st_dev
        self._bring_over(part, where.top if same_disk else where.directory)
        return _link(part, name, target, overwrite=overwrite)

    def _bring_over(self, part: _Part, near: Path) -> None:
        """Copy a staged file to the file system of its place."""
        staging = self._stage(near, part.size)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(part.staged, flags, dir_fd=part.staging.descriptor)
        with (
            os.fdopen(source, "rb") as reader,
            os.fdopen(staging.create(part.staged), "wb") as writer,
        ):
            shutil.copyfileobj(reader, writer, BATCH)
            self._make_safe(writer.fileno())
        part.staging = staging

    def _holds(self, path: Path, size: int, digest: str) -> bool:
        """Return whether a file has this content already."""
        try:
            with self._folders.open_for_read(self._folders.resolve(str(path))) as file:
                return os.fstat(file.fileno()).st_size == size and sha256_of(file) == digest
        except ComfyDeployError:
            return False

    def _stage(self, directory: Path, size: int) -> _Staging:
        staging = _Staging(self._folders, directory)
        self._stagings.append(staging)
        free = staging.free()
        if size > free:
            raise TooLargeError(
                f"file: needs {size} bytes, but the disk has {free} left",
                details={"field": "file", "size": size, "free": free},
            )
        return staging

    def _hash(self) -> None:
        """Hash in another thread what was written last, while more is being written."""
        if self._unhashed:
            self._settle_hashes()
            views, self._unhashed = self._unhashed, []
            self._hashing = self._hashers.submit(_update, self._parts[-1].digest, views)

    def _settle_hashes(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def _make_safe(self, descriptor: int) -> None:
        if self._fsync:
            os.fsync(descriptor)

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        try:
            self._headers[self._header.decode().lower()] = self._header_value.decode().strip()
        except UnicodeDecodeError:
            raise InvalidRequestError.of_field("file", "its name is not UTF-8") from None
        self._header.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        disposition = _parameters(self._headers.get("content-disposition", ""))
        field = disposition.get("name")
        self._field = None
        if field == "file":
            self._begin_file(disposition)
        elif field in _FIELDS:
            if field in self._fields:
                raise InvalidRequestError.of_field(field, "is given twice")
            self._field = field
            self._value.clear()

    def _begin_file(self, disposition: Mapping[str, str]) -> None:
        if "filename" not in disposition:
            raise InvalidRequestError.of_field("file", "must be a file with a filename")
        name = safe_filename(disposition["filename"])
        if not self._stagings:
            self._stage(self._destination().top, self._content_length)
        staging, staged = self._stagings[0], str(len(self._parts))
        self._descriptor = staging.create(staged)
        content_type = _content_type(self._headers.get("content-type", ""), name)
        self._parts.append(_Part(name, content_type, staging, staged, hashlib.sha256()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._descriptor is not None:
            view = memoryview(data)[start:end]
            part = self._parts[-1]
            part.size += len(view)
            self._unhashed.append(view)
            while view:
                view = view[os.write(self._descriptor, view) :]
        elif self._field is not None:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD:
                raise InvalidRequestError.of_field(self._field, "is too long")

    def _on_part_end(self) -> None:
        if self._descriptor is not None:
            self._hash()
            self._make_safe(self._descriptor)
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        elif self._field is not None:
            self._take_field(self._field)

    def _take_field(self, field: str) -> None:
        try:
            self._fields[field] = value = self._value.decode().strip()
        except UnicodeDecodeError:
            raise InvalidRequestError.of_field(field, "is not UTF-8 text") from None
        if field != "overwrite":
            self._destination()
        elif value.lower() not in _FLAGS:
            raise InvalidRequestError.of_field(field, "must be true or false")

    def _on_end(self) -> None:
        self._complete = True


def _update(digest: hashlib._Hash, views: Sequence[memoryview]) -> None:
    for view in views:
        digest.update(view)


def _link(part: _Part, name: str, target: int, *, overwrite: bool) -> bool:
    source = part.staging.descriptor
    try:
        if overwrite:
            os.replace(part.staged, name, src_dir_fd=source, dst_dir_fd=target)
        else:
            os.link(part.staged, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        return False
    except (IsADirectoryError, NotADirectoryError):
        raise ConflictError(f"file: {name} is a folder there, so it is not overwritten") from None
    except OSError as error:
        if overwrite or error.errno not in _NO_LINKS:
            raise
        return _claim(part, name, target)
    return True


def _claim(part: _Part, name: str, target: int) -> bool:
    """Do what a link does where the file system has none: an empty file reserves the name."""
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=target))
    except FileExistsError:
        return False
    os.replace(part.staged, name, src_dir_fd=part.staging.descriptor, dst_dir_fd=target)
    return True


def _remove_orphans(folders: Folders) -> int:
    removed = 0
    for directory in folders.upload_directories():
        with suppress(OSError, ComfyDeployError):
            parent = folders.open_directory(directory)
            try:
                for name in os.listdir(parent):  # noqa: PTH208 - a descriptor, not a path
                    if name.startswith(STAGING_PREFIX):
                        removed += _remove_orphan(name, parent)
            finally:
                os.close(parent)
    return removed


def _remove_orphan(name: str, parent: int) -> bool:
    """Remove a staging directory unless its upload lives; return whether it is gone."""
    with suppress(OSError):
        descriptor = _open_directory(name, parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(name, descriptor, parent)
        finally:
            os.close(descriptor)
        return True
    return False


def _remove(name: str, descriptor: int, parent: int) -> None:
    for file in os.listdir(descriptor):
        os.unlink(file, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)


def _open_directory(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn the errors of the parser and of the operating system into those of the routes."""
    try:
        yield
    except FormParserError:
        raise InvalidRequestError.of_field(
            "body", "is not well-formed multipart/form-data"
        ) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise TooLargeError(
                "file: there is no space left for it on the disk", details={"field": "file"}
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ForbiddenPathError(
                "The Jupyter server may not write to the folder of this upload.",
                details={"field": "type"},
            ) from error
        raise


def _boundary(content_type: str) -> bytes:
    boundary = _parameters(content_type).get("boundary", "")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise InvalidRequestError.of_field("body", "must be multipart/form-data with a boundary")
    if not boundary.isascii() or len(boundary) > MAX_BOUNDARY:
        raise InvalidRequestError.of_field("body", "its boundary is not as RFC 2046 has it")
    return boundary.encode()


def _parameters(header: str) -> dict[str, str]:
    """Return the parameters of a header; ``filename*`` (RFC 5987) counts more than ``filename``."""
    found: dict[str, str] = {}
    for key, value in _PARAMETER.findall(header):
        if len(value) > 1 and value[0] == value[-1] == '"':
            # browsers write a quote in a name as %22 (WHATWG), others as \"
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


def _content_type(header: str, name: str) -> str:
    kind = header.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind) and kind != "application/octet-stream":
        return kind
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
