"""The service of uploads, downloads and callbacks, for handlers and runs."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiohttp

from ..errors import CloudError, ConflictError, InvalidRequestError, NotFoundError
from ..net.fetch_policy import ALLOWED, FetchPolicy
from ..secrets import clean_url
from .callbacks import Callbacks
from .downloads import Copy, Download, told_digest, told_size
from .http import TransferError, new_session, request
from .public import PublicConnector
from .queue import BACKOFF, STALL, TransferQueue
from .sites import ModelSites, Offer
from .sources import open_path
from .uploads import OutputUpload, PresignedUpload, VolumeUpload, content_type, put

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..machines.registry import MachineRegistry
    from ..net.backoff import Backoff
    from ..store.callbacks import CallbackRepository, Order
    from ..store.session import Session
    from ..store.transfers import TransferRecord, TransferRepository


ASK_WITHIN = 15.0  # seconds that a site has to tell what a link leads to


class Transfers:
    """Uploads, downloads and callbacks of one server.

    Parameters
    ----------
    transfers : TransferRepository
        The records of transfers.
    callbacks : CallbackRepository
        The messages that are not delivered.
    session : Session
        The identity of this server.
    machines : MachineRegistry
        Where the files are.
    key_for : callable
        Returns the configured ComfyDeploy key for an address that may have it, else None.
    sites : ModelSites
        Where models come from.
    fetching : FetchPolicy
        Whether models may be fetched at all.
    max_concurrent : int
        Transfers at a time, in each direction.
    backoff : Backoff
        The pauses between attempts.
    stall : float
        Seconds without progress after which an attempt is given up.
    """

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
        self.callbacks = Callbacks(callbacks, session, self.http, key_for, backoff=backoff)

    async def open(self) -> None:
        """Continue with all transfers and messages that are not finished."""
        await self.queue.open()
        await self.callbacks.open()

    async def recover(self, sessions: Collection[str]) -> list[Order]:
        """Continue with transfers and messages of servers that have died; return their orders."""
        await self.queue.recover(sessions)
        return await self.callbacks.recover(sessions)

    async def close(self) -> None:
        """Stop. The next server continues."""
        await self.queue.close()
        await self.callbacks.close()
        await self.http.close()
        await self._public.close()

    # -- out ---------------------------------------------------------------------------------

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
        """Queue the outputs of a run for upload, unless that was done before a restart.

        Parameters
        ----------
        prompt_id, machine : str
            The run, and where its files are.
        items : sequence of (node id, place, item)
            The place is the kind and the number of the item in the node's output; the item has
            ``filename``, ``subfolder``, ``type`` and ``content_type``.
        endpoint : str
            The run's ``file_upload_endpoint``.
        token : str or None
            The key of the run's request.
        begin : asyncio.Event, optional
            New uploads wait until it is set; by default they begin at once.

        Returns
        -------
        list of TransferRecord
            All uploads of the run.
        """
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
        """Upload a local file to ``url``, and wait until that is complete.

        Parameters
        ----------
        path : str
            As the user wrote it.
        url : str
            The endpoint that gives out an address; must be allowed to have the key.
        token : str or None
            The key of the request.
        machine : str, optional
            In whose folders the file is.

        Raises
        ------
        NotFoundError, ForbiddenPathError, InvalidRequestError
            If the file cannot be had.
        CloudError
            If it could not be sent.
        """
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
        """Send bytes of a local file to a presigned address.

        Parameters
        ----------
        path : str
            As the user wrote it.
        url : str
            The address.
        start, end : int
            Which bytes; ``end`` is not sent any more.
        machine : str, optional
            In whose folders the file is.

        Returns
        -------
        str
            The part's ``ETag``, without quotes.

        Raises
        ------
        NotFoundError, ForbiddenPathError, InvalidRequestError
            If the file, or these bytes of it, cannot be had.
        CloudError
            If the storage did not take them.
        """
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
        """Queue a local file for a ComfyDeploy volume.

        Parameters
        ----------
        path : str
            As the user wrote it.
        target : str
            Its path in the volume, e.g. ``checkpoints/a.safetensors``.
        api : str
            Address of the service's API; must be allowed to have the key.
        token : str or None
            The key of the request.
        machine : str, optional
            In whose folders the file is.

        Raises
        ------
        NotFoundError, ForbiddenPathError, InvalidRequestError
            If the file cannot be had.
        """
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

        A run that ended because of its uploads stays as it ended.

        Parameters
        ----------
        transfer_id : str, optional
            An upload or a download.
        prompt_id : str, optional
            The run.
        token : str or None
            A key to use from now on, if the old one was refused.

        Returns
        -------
        list of TransferRecord
            Those that are under way again.

        Raises
        ------
        NotFoundError
            If there is no transfer of that id.
        ConflictError
            If it has not failed, or too long ago: its addresses are forgotten then.
        """
        if transfer_id is None:
            failed = await self.queue.failed("up", prompt_id)
            return [r for r in failed if r.private and await self._again(r, token)]
        record = await self.queue.get(transfer_id)
        if record is None:
            raise NotFoundError(f"There is no transfer {transfer_id}", details={"field": "id"})
        if record.state == "failed" and not record.private:
            raise ConflictError(
                f"{record.filename} failed too long ago to be tried again; ask for it anew",
                details={"field": "id"},
            )
        if not await self._again(record, token):
            raise ConflictError(
                f"{record.filename} is {record.state}; only what has failed is tried again",
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

    # -- in ----------------------------------------------------------------------------------

    async def offer(self, source: str, url: str, filename: str | None) -> Offer:
        """Return the file that a request for a model names.

        Parameters
        ----------
        source : str
            ``link``, ``huggingface`` or ``civitai``.
        url : str
            Where it is.
        filename : str or None
            As the request has it.

        Raises
        ------
        InvalidRequestError
            If the address means nothing there.
        CloudError
            If Civitai does not tell.
        OfflineError
            If nothing may be fetched.
        """
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
        return Offer(url, PurePosixPath(unquote(split.path)).name)

    async def download(
        self,
        offer: Offer,
        target: Path,
        sha256: str | None,
        machine: str | None = None,
        *,
        untrusted: bool = False,
    ) -> TransferRecord:
        """Queue a download, or return the one that already downloads the same file.

        Parameters
        ----------
        offer : Offer
            The file.
        target : pathlib.Path
            The name it gets, confined and without links.
        sha256 : str or None
            What its content must be, in hexadecimal.
        machine : str, optional
            Whose folders these are.
        untrusted : bool
            Whether somebody unknown chose the address, as in a workflow file: it must be public,
            and so must be what it redirects to; the sites themselves may be mirrors anywhere.

        Raises
        ------
        ConflictError
            If another file is on its way to that name.
        OfflineError
            If nothing may be fetched.
        """
        self._fetching.require(target.name)
        expected = sha256 or offer.sha256
        async with self._bringing:
            return await self._bring(
                "download", target, expected, {"url": offer.url}, machine, untrusted=untrusted
            )

    @property
    def site_addresses(self) -> tuple[str, ...]:
        """Addresses that a link from a workflow file may lead to, wherever they are."""
        return self._sites.addresses

    def require_fetching(self) -> None:
        """Raise unless models may be fetched.

        Raises
        ------
        OfflineError
            If they may not.
        """
        self._fetching.require("The model")

    async def linked(self, url: str) -> Offer:
        """Return the file that a link in a workflow file means.

        Raises
        ------
        InvalidRequestError, CloudError
            If it is the page of a model at Civitai which tells of no file.
        OfflineError
            If that page would have to be asked for, and may not.
        """
        if self._sites.is_page(url):
            return await self.offer("civitai", url, None)
        return Offer(self._sites.at_mirror(url), "")

    async def ask(self, url: str) -> Offer:
        """Ask what a link from a workflow file leads to, without fetching it.

        Returns
        -------
        Offer
            With ``size`` and ``sha256`` as far as they are told.

        Raises
        ------
        TransferError
            If it leads to nothing that could be fetched, or to an address that is not public.
        OfflineError
            If nothing may be fetched.
        """
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
            return Offer(url, "", told_digest(response), told_size(response))

    async def copy(
        self, path: str, target: Path, sha256: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Queue a copy of a local file; otherwise as `download`."""
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
        origin = clean_url(private.get("url") or private["from"])  # it is kept
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
        f"filename: another file is on its way to {record.filename}",
        details={"field": "filename", "id": record.id},
    )
