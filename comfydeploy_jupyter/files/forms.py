"""The body of an upload: its fields, and its files while they are written to the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ..errors import (
    FULL,
    ComfyDeployError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    TooLargeError,
)
from .hashing import sha256_of
from .multipart import boundary_of, content_type_of, parameters_of
from .names import numbered, safe_filename, safe_subfolder
from .staging import Staging

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from ..comfyui.folders import Folders

COPY_BLOCK = 1024 * 1024  # bytes of one copy step between file systems
FLUSH_EVERY = 32 * 1024 * 1024  # bytes
VIEWS_AT_ONCE = 16  # blocks of 64 KiB: fewer of them delay threads, more make some kernels slow
MAX_FIELD = 4096  # bytes in the value of a form field
MOST_NAMES = 10_000  # numbered names that are tried for one file

_flush_data = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync
_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off", ""), False
)


@dataclass(frozen=True)
class StoredFile:
    """A file that was uploaded."""

    name: str
    subfolder: str
    type: str
    path: Path
    size: int
    content_type: str
    sha256: str
    blake3: str
    reused: bool


@dataclass
class _Part:
    """A file of the form in a staging directory."""

    name: str
    content_type: str
    staging: Staging
    staged: str
    sha256: hashlib._Hash
    blake3: blake3
    size: int = 0


@dataclass(frozen=True)
class _Destination:
    """The target directory of the files of a form."""

    kind: str
    subfolder: str
    top: Path
    directory: Path


class UploadForm:
    """The fields and files of one multipart body, while they are written to the disk.

    Call all methods in threads, by one thread at a time.
    """

    fields: tuple[str, ...] = ("type", "subfolder", "overwrite", "machine")
    most_files: int | None = None

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
        self._machine = machine
        self._hashers = hashers
        self._hashing: list[Future[None]] = []
        self._flushers = flushers
        self._flushing: Future[None] | None = None
        self._unflushed = 0  # bytes that were written since the last flush
        self._arrived: list[memoryview] = []
        self._content_length = content_length or 0
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
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    @property
    def overwrite(self) -> bool:
        """Whether files of the same name are replaced."""
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
        """Rename the files to their final names."""
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
            target = self._folders.open_directory(where.directory, create=True)
            try:
                stored = [self._publish(part, where, target) for part in self._parts]
                self._make_safe(target)
            finally:
                os.close(target)
            return stored

    def close(self) -> None:
        """Remove the files without a final name."""
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
        """Return the target directory according to the fields received so far."""
        kind, subfolder = self.place()
        top = self._folders.directory(kind)
        real = [
            self._folders.resolve(str(path), must_exist=False, kind="directory", field="subfolder")
            for path in (top, top / subfolder)
        ]
        return _Destination(kind, subfolder, *real)

    def _publish(self, part: _Part, where: _Destination, target: int) -> StoredFile:
        digest = part.sha256.hexdigest()
        for number in range(MOST_NAMES):
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
            f"file: there are {MOST_NAMES} files with a name like {part.name} already"
        )

    def _place(
        self, part: _Part, name: str, where: _Destination, target: int, *, overwrite: bool
    ) -> bool:
        """Rename a staged file to its final name; return False if another file has that name."""
        try:
            return part.staging.publish(part.staged, name, target, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        same_disk = where.top.stat().st_dev == os.fstat(target).st_dev
        self._copy_near_target(part, where.top if same_disk else where.directory)
        return part.staging.publish(part.staged, name, target, overwrite=overwrite)

    def _copy_near_target(self, part: _Part, near: Path) -> None:
        """Copy a staged file to the file system of its target directory."""
        staging = self._stage(near, part.size)
        with (
            os.fdopen(part.staging.open(part.staged), "rb") as reader,
            os.fdopen(staging.create(part.staged), "wb") as writer,
        ):
            shutil.copyfileobj(reader, writer, COPY_BLOCK)
            self._make_safe(writer.fileno())
        part.staging = staging

    def _holds(self, path: Path, size: int, digest: str) -> bool:
        """Return whether a file exists and has this content."""
        try:
            with self._folders.open_for_read(self._folders.resolve(str(path))) as file:
                return os.fstat(file.fileno()).st_size == size and sha256_of(file) == digest
        except ComfyDeployError:
            return False

    def _stage(self, directory: Path, size: int) -> Staging:
        staging = Staging(self._folders, directory)
        self._stagings.append(staging)
        free = staging.free()
        if size > free:
            raise TooLargeError(
                f"file: needs {size} bytes, but the disk has {free} left",
                details={"field": "file", "size": size, "free": free},
            )
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
        if self._unflushed >= FLUSH_EVERY and (self._flushing is None or self._flushing.done()):
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
        if len(self._parts) == self.most_files:
            raise InvalidRequestError.of_field(
                "file", "is given more than once; this route takes one file"
            )
        name = safe_filename(disposition["filename"])
        if not self._stagings:
            self._stage(self._destination().top, self._content_length)
        staging, staged = self._stagings[0], str(len(self._parts))
        self._descriptor = staging.create(staged)
        content_type = content_type_of(self._headers.get("content-type", ""), name)
        self._parts.append(_Part(name, content_type, staging, staged, hashlib.sha256(), blake3()))

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

    def _on_end(self) -> None:
        self._complete = True


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
            raise TooLargeError(
                "file: there is no space left for it on the disk", details={"field": "file"}
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
