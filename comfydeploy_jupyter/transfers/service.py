"""The service of uploads, downloads and callbacks, for handlers and runs."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiohttp

from ..errors import CloudError, ConflictError, InvalidRequestError, NotFoundError
from ..util.fetch_policy import ALLOWED, FetchPolicy
from ..util.secrets import clean_url
from ..util.tasks import close_each
from .callbacks import ANSWER_WITHIN, Callbacks
from .downloads import Copy, Download, declared_digest, declared_size
from .http import TransferError, new_session, request
from .public import PublicConnector
from .queue import BACKOFF, STALL, TransferQueue
from .sites import ModelSites, RemoteFile
from .sources import open_path
from .uploads import OutputUpload, PresignedUpload, VolumeUpload, content_type, put

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..machines.registry import MachineRegistry
    from ..store.session import Session
    from ..util.backoff import Backoff
    from .callback_records import CallbackRepository, CallbackTarget
    from .records import TransferRecord, TransferRepository


ASK_WITHIN = 15.0  # seconds that a site has to describe the file of a link


class Transfers:
    """Uploads, downloads and callbacks of one server."""

    def __init__(
        self,
        transfers: TransferRepository,
        callbacks: CallbackRepository,
        session: Session,
        machines: MachineRegistry,
        key_for: Callable[[str], str | None],
        *,
        sites: ModelSites | None = None,
        fetching: FetchPolicy = ALLOWED,
        max_concurrent: int = 3,
        backoff: Backoff = BACKOFF,
        stall: float = STALL,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self._machines = machines
        self._bringing = asyncio.Lock()
        self._sites = sites or ModelSites()
        self._fetching = fetching
        self.http: aiohttp.ClientSession = new_session()
        self._public = new_session(PublicConnector(self._sites.addresses))
        self.queue = TransferQueue(
            transfers,
            session,
            {
                "output": OutputUpload(self.http, machines, key_for),
                "presigned": PresignedUpload(self.http, machines, key_for),
                "volume": VolumeUpload(self.http, machines, key_for),
                "download": Download(self.http, self._public, machines, self._sites, fetching),
                "copy": Copy(machines),
            },
            max_concurrent=max_concurrent,
            backoff=backoff,
            stall=stall,
        )
        self.callbacks = Callbacks(
            callbacks, session, self.http, key_for, backoff=backoff, answer_within=answer_within
        )

    async def open(self) -> None:
        """Continue all transfers and messages that are not finished."""
        await self.queue.open()
        await self.callbacks.open()

    async def recover(self, sessions: Collection[str]) -> list[CallbackTarget]:
        """Continue transfers and messages of exited servers; return their targets."""
        await self.queue.recover(sessions)
        return await self.callbacks.recover(sessions)

    async def close(self) -> None:
        """Stop all transfers. The next server continues them."""
        await close_each(
            self.queue.close, self.callbacks.close, self.http.close, self._public.close
        )

    # -- uploads -----------------------------------------------------------------------------

    async def upload_outputs(
        self,
        prompt_id: str,
        machine: str,
        items: Sequence[tuple[str, list[str | int], dict[str, str]]],
        *,
        endpoint: str,
        token: str | None,
        begin: asyncio.Event | None = None,
    ) -> list[TransferRecord]:
        """Queue the outputs of a run for upload, unless that was done before a restart."""
        known = await self.queue.of_run(prompt_id)
        if known:
            return known
        records = [
            self.queue.new(
                "up",
                "output",
                item["filename"],
                prompt_id=prompt_id,
                node_id=node_id,
                facts={
                    "machine": machine,
                    "place": place,
                    "item": item,
                    "content_type": item["content_type"],
                },
                private={"endpoint": endpoint, "token": token},
            )
            for node_id, place, item in items
        ]
        await self.queue.add(records, begin=begin)
        return records

    async def upload_presigned(
        self, path: str, url: str, token: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Upload a local file to ``url``, and wait until the upload is complete."""
        found = await self._resolve(path, "file_path", machine)
        record = self.queue.new(
            "up",
            "presigned",
            found.name,
            path=str(found),
            facts={"content_type": content_type(found.name), "machine": machine},
            private={"endpoint": url, "token": token},
        )
        await self.queue.add([record])
        record = await self.queue.wait(record)
        if record.state != "done":
            reason = record.error if record.state == "failed" else "the upload was cancelled"
            raise CloudError(f"{record.filename} was not uploaded: {reason}")
        return record

    async def upload_part(
        self, path: str, url: str, start: int, end: int, machine: str | None = None
    ) -> str:
        """Upload bytes of a local file to a presigned address."""
        found = await self._resolve(path, "filePath", machine)
        async with open_path(self._machines.get(machine), str(found), found.name) as source:
            if end > source.size:
                raise InvalidRequestError.of_field("end", f"the file has {source.size} bytes")
            try:
                etag = await put(
                    self.http, url, source, start=start, end=end, advance=lambda _: None
                )
            except TransferError as error:
                raise CloudError(f"The part was not uploaded: {error.message}") from error
        return etag

    async def upload_to_volume(
        self, path: str, target: str, *, api: str, token: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Queue the upload of a local file to a ComfyDeploy volume."""
        found = await self._resolve(path, "path", machine)
        record = self.queue.new(
            "up",
            "volume",
            found.name,
            path=str(found),
            facts={
                "target": target,
                "content_type": content_type(found.name),
                "machine": machine,
            },
            private={"api": api, "token": token},
        )
        await self.queue.add([record])
        return record

    async def retry(
        self, *, transfer_id: str | None = None, prompt_id: str | None = None, token: str | None
    ) -> list[TransferRecord]:
        """Queue failed transfers again: one, the uploads of a run, or all uploads.

        The status of a run that has ended because of a failed upload is not changed.
        """
        if transfer_id is None:
            failed = await self.queue.failed("up", prompt_id)
            return [r for r in failed if r.private and await self._again(r, token)]
        record = await self.queue.get(transfer_id)
        if record is None:
            raise NotFoundError(f"There is no transfer {transfer_id}", details={"field": "id"})
        if record.state == "failed" and not record.private:
            raise ConflictError(
                f"{record.filename} failed too long ago to be started again; request it again",
                details={"field": "id"},
            )
        if not await self._again(record, token):
            raise ConflictError(
                f"{record.filename} is {record.state}; only failed transfers can be started again",
                details={"field": "id"},
            )
        return [record]

    async def _again(self, record: TransferRecord, token: str | None) -> bool:
        if record.state != "failed":
            return False
        if token is not None and record.direction == "up":
            record.private["token"] = token
        if record.kind == "download":
            self._fetching.require(record.filename)
        if record.direction == "up" or record.path is None:
            return await self.queue.add_again(record)
        async with self._bringing:
            newest = await self.queue.of_path(record.path)
            if newest is not None and newest.id != record.id and not newest.ended:
                raise _on_its_way(newest)
            return await self.queue.add_again(record)

    # -- downloads ---------------------------------------------------------------------------

    async def find(self, source: str, url: str, filename: str | None) -> RemoteFile:
        """Return the file that a request for a model names."""
        self._fetching.require("The model")
        if source == "huggingface":
            return self._sites.huggingface(url, filename)
        if source == "civitai":
            try:
                return await self._sites.civitai(self.http, url)
            except TransferError as error:
                raise CloudError(f"The model cannot be found: {error.message}") from error
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InvalidRequestError.of_field("url", "must be an http:// or https:// address")
        return RemoteFile(url, PurePosixPath(unquote(split.path)).name)

    async def download(
        self,
        file: RemoteFile,
        target: Path,
        sha256: str | None,
        machine: str | None = None,
        *,
        untrusted: bool = False,
    ) -> TransferRecord:
        """Queue a download, or return the one that already downloads the same file."""
        self._fetching.require(target.name)
        expected = sha256 or file.sha256
        async with self._bringing:
            return await self._bring(
                "download", target, expected, {"url": file.url}, machine, untrusted=untrusted
            )

    @property
    def site_addresses(self) -> tuple[str, ...]:
        """Addresses to which links from a workflow file may lead even if they are not public."""
        return self._sites.addresses

    def require_fetching(self) -> None:
        """Raise unless downloads of models are enabled."""
        self._fetching.require("The model")

    async def linked(self, url: str) -> RemoteFile:
        """Return the file for a link in a workflow file."""
        if self._sites.is_page(url):
            return await self.find("civitai", url, None)
        return RemoteFile(self._sites.at_mirror(url), "")

    async def ask(self, url: str) -> RemoteFile:
        """Request information about a link from a workflow file, without downloading the file."""
        self._fetching.require("The size of the model")
        what = self._sites.name(url)
        async with request(
            self._public,
            "HEAD",
            url,
            what=what,
            token=self._sites.token(url),
            redirects=True,
            passes=(401, 403),
            timeout=aiohttp.ClientTimeout(total=ASK_WITHIN),
        ) as response:
            if response.status in (401, 403):
                raise TransferError(
                    f"{what} answered {response.status}: {self._sites.hint(url)}", again=False
                )
            return RemoteFile(url, "", declared_digest(response), declared_size(response))

    async def copy(
        self, path: str, target: Path, sha256: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Queue a copy of a local file; the rest is as in `download`."""
        found = await self._resolve(path, "path", machine)
        async with self._bringing:
            return await self._bring("copy", target, sha256, {"from": str(found)}, machine)

    async def _bring(
        self,
        kind: str,
        target: Path,
        expected: str | None,
        private: dict[str, Any],
        machine: str | None,
        *,
        untrusted: bool = False,
    ) -> TransferRecord:
        known = await self.queue.of_path(str(target))
        if known is not None and known.direction == "down" and not known.ended:
            if known.kind == kind and known.private == private:
                return known
            raise _on_its_way(known)
        origin = clean_url(private.get("url") or private["from"])  # it is stored
        if known is not None and known.state == "failed" and known.facts.get("origin") == origin:
            known.private = private
            known.facts.update(expected=expected, untrusted=untrusted)
            if await self.queue.add_again(known):
                return known
        record = self.queue.new(
            "down",
            kind,
            target.name,
            path=str(target),
            facts={
                "expected": expected,
                "origin": origin,
                "machine": machine,
                "untrusted": untrusted,
            },
            private=private,
        )
        await self.queue.add([record])
        return record

    async def _resolve(self, path: str, field: str, machine: str | None = None) -> Path:
        folders = await self._machines.get(machine).folders()
        return await asyncio.to_thread(folders.resolve, path, field=field)


def _on_its_way(record: TransferRecord) -> ConflictError:
    return ConflictError(
        f"filename: another file is being downloaded to {record.filename}",
        details={"field": "filename", "id": record.id},
    )
