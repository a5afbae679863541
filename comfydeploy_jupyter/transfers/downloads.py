"""Downloads of models: resumed after an interruption, verified, then renamed to their target."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ..errors import FULL, InvalidRequestError
from ..util.system import (
    closing_fd,
    end_reservation,
    lock_file,
    rename_without_replacing,
    reserved_target,
)
from ..util.tasks import close_result
from .http import TransferError, get_json, request
from .uploads import CHUNK, open_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

    from ..comfyui.folders import Folders
    from ..machines.registry import MachineRegistry
    from ..util.system import FetchPolicy
    from .queue import Transfer

HUGGINGFACE = "https://huggingface.co"
CIVITAI = "https://civitai.com"
PART = ".part"  # suffix of an incomplete file; ComfyUI does not list files with it


# -- the sites that models come from ----------------------------------------------------------


@dataclass(frozen=True)
class RemoteFile:
    url: str
    filename: str  # empty if unknown
    sha256: str | None = None  # if the site sends it
    size: int | None = None  # bytes, if it was requested and the site sends it


@dataclass(frozen=True)
class ModelSites:
    """The sites Hugging Face and Civitai, or mirrors of them; each token is sent to its site only.

    Their addresses have no slash at the end.
    """

    huggingface_url: str = HUGGINGFACE
    civitai_url: str = CIVITAI
    huggingface_token: str | None = field(default=None, repr=False)
    civitai_token: str | None = field(default=None, repr=False)

    def of(self, url: str) -> tuple[str, str | None, str]:
        """Return the name of a site, the token for it, and advice if it refuses a file."""
        if _below(url, self.huggingface_url):
            hint = "set HF_TOKEN to a token of an account that may have this model"
            if self.huggingface_token:
                hint = "accept the model's terms on its page, or use another token as HF_TOKEN"
            return "Hugging Face", self.huggingface_token, hint
        if _below(url, self.civitai_url):
            hint = "set CIVITAI_API_KEY to the key of an account that may have this model"
            return "Civitai", self.civitai_token, hint
        return urlsplit(url).hostname or "the host", None, "the address requires a login"

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses of the sites, which may be mirrors in a private network."""
        return self.huggingface_url, self.civitai_url

    def at_mirror(self, url: str) -> str:
        """Return the address at the mirror for a file at a site; other links are unchanged."""
        for base in {HUGGINGFACE, self.huggingface_url}:
            if _below(url, base):
                with suppress(InvalidRequestError):
                    return self.huggingface(url, None).url
                return self.huggingface_url + url[len(base) :]
        if _below(url, CIVITAI):
            return self.civitai_url + url[len(CIVITAI) :]
        return url

    def is_page(self, url: str) -> bool:
        """Return whether an address is the page of a model at Civitai, and not a file."""
        at_civitai = any(_below(url, base) for base in (CIVITAI, self.civitai_url))
        return at_civitai and urlsplit(url).path.startswith("/models/")

    def huggingface(self, url: str, file: str | None) -> RemoteFile:
        """Return the file for an address at Hugging Face, or for a repository and a file name.

        The address is ``https://huggingface.co/<repo>/resolve/<revision>/<file>``, the same with
        ``blob`` as in the site's pages, or ``<owner>/<repo>``.
        """
        path = url
        for base in (HUGGINGFACE, self.huggingface_url):
            if _below(url, base):
                path = urlsplit(url).path[len(urlsplit(base).path.rstrip("/")) :]
        path = path.strip("/")
        found = re.fullmatch(r"([^/:]+/[^/:]+)/(?:resolve|blob|raw)/([^/]+)/(.+)", path)
        if found:
            repo, revision, name = found.groups()
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and file:
            repo, revision, name = path, "main", quote(file)
        else:
            raise InvalidRequestError.of_field(
                "url",
                "must be https://huggingface.co/<owner>/<repo>/resolve/<revision>/<file>,"
                " or <owner>/<repo> with the file's name as filename",
            )
        return RemoteFile(
            f"{self.huggingface_url}/{repo}/resolve/{revision}/{name}", unquote(name.split("/")[-1])
        )

    async def civitai(self, http: aiohttp.ClientSession, url: str) -> RemoteFile:
        """Request the file for an address at Civitai from its API.

        The address is the page of a model, with ``modelVersionId`` for a particular version, or a
        download address.
        """
        asked = urlsplit(url)
        version = next(iter(parse_qs(asked.query).get("modelVersionId", ())), None)
        download = re.search(r"/api/download/models/(\d+)", asked.path)
        page = re.search(r"/models/(\d+)", asked.path)
        if download or (version and version.isdecimal()):
            number = download.group(1) if download else version
            found = await self._ask_civitai(http, f"model-versions/{number}")
        elif page:
            model = await self._ask_civitai(http, f"models/{page.group(1)}")
            versions = model.get("modelVersions")
            found = versions[0] if isinstance(versions, list) and versions else {}
        else:
            raise InvalidRequestError.of_field(
                "url", "must be the page of a model at Civitai, or a download address there"
            )
        return self._civitai_file(found)

    async def with_sha256(self, http: aiohttp.ClientSession, sha256: str) -> str | None:
        """Return the address of a file with this content at Civitai; None if it has none."""
        version = await self._ask_civitai(http, f"model-versions/by-hash/{sha256}")
        listed = version.get("files")
        for file in listed if isinstance(listed, list) else ():
            match file:
                case {"hashes": {"SHA256": str(known)}, "downloadUrl": str(url)}:
                    if known.lower() == sha256:
                        return self.at_mirror(url)
        return None

    async def _ask_civitai(self, http: aiohttp.ClientSession, route: str) -> dict[str, Any]:
        url = f"{self.civitai_url}/api/v1/{route}"
        async with self.request(http, "GET", url, redirects=False) as response:
            return await get_json(response, "Civitai")

    @asynccontextmanager
    async def request(
        self,
        http: aiohttp.ClientSession,
        method: str,
        url: str,
        *,
        passes: tuple[int, ...] = (),
        redirects: bool = True,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request as `request`, with the token of the site, and advice if it refuses."""
        what, token, hint = self.of(url)
        options.update(what=what, token=token, redirects=redirects)
        async with request(http, method, url, passes=(401, 403, *passes), **options) as response:
            if response.status in (401, 403):
                raise TransferError(f"{what} answered {response.status}: {hint}", again=False)
            yield response

    def _civitai_file(self, version: dict[str, Any]) -> RemoteFile:
        listed = version.get("files")
        files = [f for f in listed if isinstance(f, dict)] if isinstance(listed, list) else []
        chosen = next((f for f in files if f.get("primary") is True), files[0] if files else {})
        url = chosen.get("downloadUrl") or version.get("downloadUrl")
        if not isinstance(url, str):
            raise TransferError("Civitai has no file of this model", again=False)
        if _below(url, CIVITAI):
            url = self.civitai_url + url[len(CIVITAI) :]
        hashes = chosen.get("hashes")
        digest = str((hashes if isinstance(hashes, dict) else {}).get("SHA256") or "").lower()
        return RemoteFile(
            url,
            str(chosen.get("name") or ""),
            digest if re.fullmatch("[0-9a-f]{64}", digest) else None,
        )


def _below(url: str, base: str) -> bool:
    return url == base or url.startswith((f"{base}/", f"{base}?"))


# -- files on their way -----------------------------------------------------------------------


class PartFile:
    """A file next to its target that is renamed once it is complete. Its methods block."""

    def __init__(self, folders: Folders, target: Path) -> None:
        self.name = target.name
        self.part = target.name + PART
        self._target = target
        self.size = 0
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()  # held while a thread uses the descriptors
        self._closed = False
        self._file = -1
        self._directory = folders.open_directory(target.parent, create=True)
        try:
            while not self._open():
                os.close(self._file)
                self._file = -1
        except BaseException:
            self.close()
            raise

    def _open(self) -> bool:
        """Open and lock the file; return False if it must be opened again, as it is another one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.open(self.part, flags, 0o666, dir_fd=self._directory)
        try:
            if not lock_file(self._file):
                raise TransferError(
                    f"{self.name} cannot be locked: its file system has no locks", again=False
                )
        except BlockingIOError:
            raise TransferError(f"another server is downloading {self.name}", again=True) from None
        facts = os.fstat(self._file)
        try:
            named = os.stat(self.part, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not os.path.samestat(facts, named):
            return False
        if facts.st_nlink > 1:  # it is the target, too: its server was killed while it published
            self.discard()
            return False
        if reserved_target(self.part, self._directory) is not None:
            end_reservation(self.part, self._directory, self._target, self._directory)
        return True

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def existing(self) -> tuple[int, int] | None:
        """Return size and change time in nanoseconds of an existing target, or None."""
        with suppress(FileNotFoundError):
            facts = os.stat(self.name, dir_fd=self._directory, follow_symlinks=False)
            return facts.st_size, facts.st_mtime_ns
        return None

    def existing_digest(self, moved: Callable[[], None]) -> str:
        """Return the SHA-256 of the existing target; ``moved`` is called at intervals."""
        before = self.existing()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        digest = hashlib.sha256()
        with closing_fd(os.open(self.name, flags, dir_fd=self._directory)) as descriptor:
            while not self._closed and (chunk := os.read(descriptor, CHUNK)):
                digest.update(chunk)
                moved()
        if before is None or self.existing() != before:
            raise TransferError(f"{self.name} changed while it was read", again=True)
        return digest.hexdigest()

    def keep(self, moved: Callable[[], None]) -> None:
        """Keep the bytes of an earlier attempt; ``moved`` is called while they are hashed."""
        with self._lock:
            self._digest, self.size = hashlib.sha256(), 0
            os.lseek(self._file, 0, os.SEEK_SET)
            while not self._closed and (chunk := os.read(self._file, CHUNK)):
                self._digest.update(chunk)
                self.size += len(chunk)
                moved()

    def reset(self) -> None:
        with self._lock:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._digest, self.size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with self._lock:
            try:
                while view and not self._closed:
                    view = view[os.write(self._file, view) :]
            except OSError as error:
                if error.errno in FULL:
                    raise TransferError(
                        f"there is no space left for {self.name}", again=False
                    ) from error
                raise
            self._digest.update(chunk)
            self.size += len(chunk)

    def set_times(self, like: os.stat_result) -> None:
        with self._lock:
            os.utime(self._file, ns=(like.st_atime_ns, like.st_mtime_ns))

    def require_space(self, size: int) -> None:
        """Raise if the disk has no space left for a file of this size."""
        found = os.fstatvfs(self._file)
        if size - self.size > found.f_bavail * found.f_frsize:
            raise TransferError(
                f"there is no space left for {self.name}: it has {size} bytes", again=False
            )

    def publish(self) -> bool:
        os.fsync(self._file)
        here = self._directory
        try:
            rename_without_replacing(self.part, here, self.name, here, target=self._target)
        except FileExistsError:
            return False
        os.fsync(here)
        return True

    def discard(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.part, dir_fd=self._directory)

    def discard_if_empty(self) -> None:
        if not os.fstat(self._file).st_size:
            self.discard()

    def close(self) -> None:
        """Close it once no thread is using it."""
        self._closed = True
        with self._lock:
            for descriptor in (self._file, self._directory):
                if descriptor >= 0:
                    os.close(descriptor)
            self._file = self._directory = -1


class _IncomingJob:
    """Base class of downloads and copies: handles the part file next to the target."""

    def __init__(self, machines: MachineRegistry) -> None:
        self._machines = machines

    async def _open(self, transfer: Transfer) -> PartFile:
        assert transfer.record.path is not None
        folders = await self._machines.get(transfer.record.facts.get("machine")).folders()
        opening = asyncio.ensure_future(
            asyncio.to_thread(PartFile, folders, Path(transfer.record.path))
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(close_result)
            await asyncio.wait([opening])  # `clean_up` opens the same file next
            raise

    @asynccontextmanager
    async def _part(self, transfer: Transfer) -> AsyncIterator[PartFile]:
        """Open the part file; then close it, and delete it if another attempt cannot use it."""
        part = await self._open(transfer)
        try:
            yield part
        except TransferError as error:
            if not error.again:
                await asyncio.to_thread(part.discard)
            raise
        finally:
            if part.size == 0:
                await asyncio.to_thread(part.discard)
            await asyncio.to_thread(part.close)

    async def clean_up(self, transfer: Transfer) -> None:
        """Delete the part file of a cancelled transfer; a failed transfer may be continued."""
        if transfer.cancelled and transfer.record.path is not None:
            part = await self._open(transfer)
            await asyncio.to_thread(part.discard)
            await asyncio.to_thread(part.close)

    async def _finish(self, transfer: Transfer, part: PartFile, expected: str | None) -> None:
        if expected is not None and part.digest != expected:
            raise TransferError(
                f"the SHA-256 of the file is {part.digest}, not {expected}", again=False
            )
        if not await asyncio.to_thread(part.publish):
            await self._accept_existing(transfer, part, part.digest)
            await asyncio.to_thread(part.discard)
        transfer.record.size = transfer.record.sent = part.size
        transfer.record.facts["sha256"] = part.digest

    async def _accept_existing(self, transfer: Transfer, part: PartFile, digest: str) -> None:
        if await asyncio.to_thread(part.existing_digest, transfer.touch) != digest:
            raise taken(part.name)
        found = await asyncio.to_thread(part.existing)
        transfer.record.size = transfer.record.sent = found[0] if found is not None else 0


class Download(_IncomingJob):
    """Downloads a file by HTTP; if ``facts["untrusted"]`` is set, from public addresses only."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        public: aiohttp.ClientSession,
        machines: MachineRegistry,
        sites: ModelSites,
        fetching: FetchPolicy,
    ) -> None:
        super().__init__(machines)
        self._http = http
        self._public = public
        self._sites = sites
        self._fetching = fetching

    async def run(self, transfer: Transfer) -> None:
        facts = transfer.record.facts
        self._fetching.require(transfer.record.filename)
        async with self._part(transfer) as part:
            expected = facts.get("expected")
            if expected is not None and await asyncio.to_thread(part.existing) is not None:
                await self._accept_existing(transfer, part, expected)
                return
            if facts.get("validator") or expected:
                await asyncio.to_thread(part.keep, transfer.touch)
            else:
                await asyncio.to_thread(part.reset)
            await self._fetch(transfer, part)

    async def _fetch(self, transfer: Transfer, part: PartFile) -> None:
        record, facts = transfer.record, transfer.record.facts
        url = record.private["url"]
        http = self._public if facts.get("untrusted") else self._http
        headers = {}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if facts.get("validator"):
                headers["If-Range"] = facts["validator"]
        try:
            async with self._sites.request(
                http, "GET", url, headers=headers, passes=(416,)
            ) as response:
                whole = response.headers.get("Content-Range") == f"bytes */{part.size}"
                if response.status == 416 and whole and part.size:
                    await self._finish(transfer, part, facts.get("expected"))
                    return
                if response.status == 416 or not await self._fits(response, part):
                    await asyncio.to_thread(part.reset)
                    facts["validator"] = None
                    raise TransferError(
                        f"{self._sites.of(url)[0]} now returns another file than at the beginning"
                        " of the download",
                        again=True,
                    )
                if await self._is_there(transfer, response, part):
                    return
                await self._receive(transfer, response, part)
        finally:
            # The attempt was useful only if the part file is larger than before.
            transfer.gained = part.size > facts.get("best", 0)
            facts["best"] = max(part.size, facts.get("best", 0))
        expected = facts.get("expected") or declared_digest(response)
        if expected is not None and part.digest != expected and "Range" in headers:
            await asyncio.to_thread(part.reset)
            facts["validator"] = None
            raise TransferError("the parts of the file do not belong together", again=True)
        await self._finish(transfer, part, expected)

    async def _fits(self, response: aiohttp.ClientResponse, part: PartFile) -> bool:
        """Return whether a response continues the part file or starts from the beginning."""
        if response.status == 206:
            found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            return found is not None and int(found.group(1)) == part.size
        await asyncio.to_thread(part.reset)
        return True

    async def _is_there(
        self, transfer: Transfer, response: aiohttp.ClientResponse, part: PartFile
    ) -> bool:
        """Return whether the target exists with the same content as the file of the response.

        If the response tells neither size nor digest, they are compared when it was received.
        """
        present = await asyncio.to_thread(part.existing)
        size, digest = declared_size(response, part.size), declared_digest(response)
        if present is None or (size is None and digest is None):
            return False
        if size not in (None, present[0]):
            raise taken(part.name)
        if digest is not None:
            await self._accept_existing(transfer, part, digest)
        transfer.record.size = transfer.record.sent = present[0]
        return True

    async def _receive(
        self, transfer: Transfer, response: aiohttp.ClientResponse, part: PartFile
    ) -> None:
        record, facts = transfer.record, transfer.record.facts
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise TransferError(
                "the file is sent compressed, although the request does not allow that", again=False
            )
        if response.content_type == "text/html" and not part.name.endswith((".html", ".htm")):
            raise TransferError("the answer is a web page, not a file", again=False)
        size = declared_size(response, part.size)
        if size is not None:
            await asyncio.to_thread(part.require_space, size)
        record.size, record.sent = size, part.size
        if not part.size:
            facts["validator"] = _validator(response)
        await transfer.save()
        async for chunk in response.content.iter_chunked(CHUNK):
            await asyncio.to_thread(part.write, chunk)
            transfer.advance(len(chunk))
        if size is not None and part.size != size:
            raise TransferError(f"only {part.size} of {size} bytes have arrived", again=True)
        record.size = part.size


class Copy(_IncomingJob):
    async def run(self, transfer: Transfer) -> None:
        record = transfer.record
        machine = self._machines.get(record.facts.get("machine"))
        path = record.private["from"]
        async with (
            self._part(transfer) as part,
            open_path(machine, path, Path(path).name) as source,
        ):
            await asyncio.to_thread(part.reset)
            await asyncio.to_thread(part.require_space, source.size)
            record.size, record.sent = source.size, 0
            async for chunk in source.chunks(0, source.size, transfer.advance):
                await asyncio.to_thread(part.write, chunk)
            await self._finish(transfer, part, record.facts.get("expected"))


def taken(name: str) -> TransferError:
    return TransferError(f"{name} exists already, with other content", again=False)


def declared_size(response: aiohttp.ClientResponse, begun: int = 0) -> int | None:
    """Return the size of the complete file if the response contains it.

    ``begun``: bytes before the requested range.
    """
    found = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status == 206 and found:
        return int(found.group(1))
    length = response.content_length
    return None if length is None else length + (begun if response.status == 206 else 0)


def declared_digest(response: aiohttp.ClientResponse) -> str | None:
    """Return the SHA-256 of a large file that Hugging Face sends with its redirect, or None."""
    for answer in (*response.history, response):
        etag = answer.headers.get("X-Linked-ETag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", etag):
            return etag
    return None


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """Return the value of ``If-Range`` with which the server continues only the same file."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")
