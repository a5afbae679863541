"""HTTP to one ComfyUI."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from .. import worker
from ..errors import (
    ComfyUIUnavailableError,
    NotFoundError,
    PromptInvalidError,
    TooLargeError,
)
from ..net import responses
from ..net.peers import CheckedConnector, Peers
from ..net.sessions import new_session
from ..net.tasks import wait_for
from ..secrets import clean_url
from ..unparsed import LARGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

T = TypeVar("T")

BEFORE = 10.0  # seconds that what must be done before a prompt is queued may take: the store's
CHUNK = 512 * 1024  # bytes of a file that are written at once
PIECE = 256 * 1024  # bytes of a prompt that are written at once
BETWEEN_PIECES = 60.0  # seconds that ComfyUI has for the next piece of a file
STORING = 4  # times the usual time that ComfyUI has to store what it was sent
# Bytes that an answer may have. The definitions of thousands of nodes have some 20 MB, a queue has
# the graphs of all its prompts, and a history the graph and the texts of one.
MAX_ANSWER = 64 * 1024**2
MAX_QUEUE = 256 * 1024**2
MAX_HISTORY = 16 * 1024**2
UNKNOWN_JOB = b"Job not found"  # as ComfyUI 0.33 says it
JOBS_AT_ONCE = 8  # prompts about which ComfyUI is asked at a time


class ComfyUIClient:
    """The HTTP routes of ComfyUI that we use (its ``server.py``).

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://127.0.0.1:8188``.
    timeout : float
        Seconds that ComfyUI has to answer one request.
    peers : Peers, optional
        Who may answer there, where that is on this machine.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, peers: Peers | None = None) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._peers = peers or Peers()
        self._opened: tuple[aiohttp.ClientSession, aiohttp.ClientSession] | None = None
        self._lacks: set[str] = set()  # paths of routes that it has been found not to have
        self._closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connection pool for requests."""
        return self._sessions()[0]

    @property
    def sockets(self) -> aiohttp.ClientSession:
        """The same for WebSockets, which refuses redirects by itself."""
        return self._sessions()[1]

    async def close(self) -> None:
        """Close all connections, for good."""
        self._closed = True
        sessions, self._opened = self._opened or (), None
        for session in reversed(sessions):
            await session.close()

    def forget_features(self) -> None:
        """Forget which routes this ComfyUI lacks: it may have been started anew, and be newer."""
        self._lacks.clear()

    def _sessions(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        if self._closed:
            raise self.unavailable("its machine was changed or restarted meanwhile", sent=False)
        if self._opened is None:
            connector = CheckedConnector(self._peers)
            make = partial(new_session, connector, connect=None, total=self.timeout)
            guard = _without_redirects()
            self._opened = make(), make(connector_owner=False, trace_configs=[guard])
        return self._opened

    async def system_stats(self) -> dict[str, Any]:
        """Return ComfyUI's version, arguments, memory and devices."""
        stats = await self._get("/system_stats")
        system, devices = stats.get("system"), stats.get("devices")
        if not isinstance(system, dict) or not isinstance(devices, list):
            raise not_comfyui("/system_stats")
        if not isinstance(system.get("comfyui_version", ""), str):
            raise not_comfyui("/system_stats")
        return stats

    async def queue_remaining(self, *, within: float | None = None) -> int:
        """Return how many prompts wait or run: a small answer, however long the queue is.

        Parameters
        ----------
        within : float, optional
            Seconds that ComfyUI has to answer, where that is less than the usual time.
        """
        answer = await _parse(await self._request("GET", "/prompt", within=within))
        try:
            return int(answer["exec_info"]["queue_remaining"])
        except (LookupError, TypeError, ValueError, OverflowError):
            raise not_comfyui("/prompt") from None

    async def queue(self) -> tuple[list[str], list[str]]:
        """Return the prompt ids that run and those that wait, next one first."""
        text = await self._request("GET", "/queue", limit=MAX_QUEUE)
        try:
            answer = await worker.compute(_heads, text, large=len(text) > LARGE)
            running = [str(item[1]) for item in answer["queue_running"]]
            pending = [str(item[1]) for item in sorted(answer["queue_pending"], key=_by_number)]
        except (LookupError, TypeError, ValueError):
            raise not_comfyui("/queue") from None
        return running, pending

    async def find(self, prompt_ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return which of some prompts are being executed, and which of them are queued.

        A ComfyUI with the jobs API (``GET /api/jobs/{id}``) is asked about each of them; the whole
        queue, which holds the graphs of all prompts, is read only from one without it.

        Parameters
        ----------
        prompt_ids : collection of str
            The prompts, by their ids in ComfyUI.
        """
        places: dict[str, str | None] = {}
        ids = list(prompt_ids)
        try:
            for first in ids[:1]:  # alone: it tells whether there is a jobs API
                places[first] = await self._job_status(first)
            for start in range(1, len(ids), JOBS_AT_ONCE):
                some = ids[start : start + JOBS_AT_ONCE]
                found = await asyncio.gather(*map(self._job_status, some))
                places.update(zip(some, found, strict=True))
        except _NoRouteError:
            running, pending = map(frozenset, await self.queue())
            return running.intersection(ids), pending.intersection(ids)
        return (
            frozenset(one for one, place in places.items() if place == "in_progress"),
            frozenset(one for one, place in places.items() if place == "pending"),
        )

    async def _job_status(self, prompt_id: str) -> str | None:
        """Return the status of a prompt in the jobs API; None where it is unknown there."""
        try:
            job = await self._job("GET", prompt_id)
        except NotFoundError:
            return None
        status = job.get("status")
        return status if isinstance(status, str) else None

    async def _job(self, method: str, prompt_id: str, action: str = "") -> dict[str, Any]:
        """Use a route of the jobs API.

        Raises
        ------
        NotFoundError
            It does not know the prompt.
        _NoRouteError
            There is no such route: what answers does not answer as the jobs API.
        """
        route = f"{method} {action}"
        if route in self._lacks:
            raise _NoRouteError
        path = f"/api/jobs/{quote(prompt_id, safe='')}{action}"
        try:
            text, whole = await self._ask(
                method, path, limit=MAX_HISTORY, to_the_end=True, may_lack=True
            )
            if not whole:  # only a job that has ended has outputs
                return {"id": prompt_id, "status": "completed"}
            answer = await _parse_without_graph(text)
            found = answer if isinstance(answer, dict) else {}
            if found.get("id") == prompt_id or isinstance(found.get("cancelled"), bool):
                return found
        except (_NoRouteError, ValueError):
            pass
        self._lacks.add(route)
        raise _NoRouteError

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return what ComfyUI remembers of a prompt that ended, or None.

        Returns
        -------
        dict or None
            ``outputs`` and ``status``, each with the type that it should have. Without
            ``outputs`` where it is all too large to be read.
        """
        path = f"/history/{quote(prompt_id, safe='')}"
        text, whole = await self._ask("GET", path, limit=MAX_HISTORY, to_the_end=True)
        if not whole:
            return {"status": _last_status(text)}
        answer = await _parse(text, with_graph=True)
        found = answer.get(prompt_id)
        if found is None:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("status") or {}, dict):
            raise not_comfyui(path)
        if not isinstance(found.get("outputs") or {}, dict):
            raise not_comfyui(path)
        return {"outputs": {}, **found}

    async def object_info(self) -> tuple[bytes, dict[str, Any]]:
        """Return the definitions of all nodes: the text that ComfyUI sent, and what it says."""
        text, whole = await self._ask("GET", "/object_info", limit=MAX_ANSWER, compressed=True)
        if not whole:
            raise self._too_large("GET /object_info", MAX_ANSWER)
        found = await _parse(text)
        if not all(isinstance(node, dict) and "input" in node for node in found.values()):
            raise not_comfyui("/object_info")
        return text, found

    async def node_replacements(self) -> dict[str, Any]:
        """Return which old node classes ComfyUI replaces; none if it is too old to do that."""
        try:
            return await _parse(await self._request("GET", "/node_replacements", may_lack=True))
        except _NoRouteError:
            return {}

    async def post_prompt(
        self,
        prompt: bytes,
        *,
        prompt_id: str,
        client_id: str,
        workflow: bytes | None = None,
        front: bool = False,
        outputs: Sequence[str] | None = None,
        extra: Mapping[str, str] | None = None,
        after: asyncio.Future[None] | None = None,
    ) -> dict[str, Any]:
        """Queue a prompt.

        Parameters
        ----------
        prompt : bytes
            The graph in API format, as JSON.
        prompt_id : str
            The id it shall have.
        client_id : str
            The WebSocket session that gets its events.
        workflow : bytes, optional
            The graph in UI format, as JSON; ComfyUI writes it into the pictures.
        front : bool
            Whether it goes to the head of the queue.
        outputs : sequence of str, optional
            Ids of the output nodes that are to be executed; by default all of them.
        extra : mapping of str to str, optional
            Further fields of ``extra_data``: ``preview_method``, keys of a Comfy account.
        after : asyncio.Future, optional
            What must be done before ComfyUI can hear of the prompt. The request is on its way
            meanwhile, but for its last byte, without which it is nothing that could be queued.

        Returns
        -------
        dict
            ``prompt_id``, ``number``, ``node_errors``.

        Raises
        ------
        PromptInvalidError
            If ComfyUI refuses the graph.
        TooLargeError
            If it takes no body of this size.
        ComfyUIUnavailableError
            If ComfyUI does not answer, or does not queue the prompt under this id, or ``after``
            fails; ``details["sent"]`` is false where it cannot have heard of the prompt.
        """
        fields: dict[str, Any] = {"prompt_id": prompt_id, "client_id": client_id}
        if front:
            fields["front"] = True
        if outputs is not None:
            fields["partial_execution_targets"] = list(outputs)
        with_extra = [json.dumps(dict(extra or {})).encode()]
        if workflow is not None:
            comma = b", " if extra else b""
            with_extra = [
                b'{"extra_pnginfo": {"workflow": ',
                workflow,
                b"}" + comma + with_extra[0][1:],
            ]
        rest = json.dumps(fields).encode()[1:]
        body = [b'{"prompt": ', prompt, b', "extra_data": ', *with_extra, b", " + rest]
        text = await self._request("POST", "/prompt", body=body, after=after, passes=(400, 500))
        answer = await _parse(text)
        number, node_errors = answer.get("number"), answer.get("node_errors")
        if answer.get("prompt_id") != prompt_id or not isinstance(number, (int, float, type(None))):
            raise not_comfyui("/prompt")
        return {**answer, "node_errors": node_errors if isinstance(node_errors, dict) else {}}

    async def cancel(self, prompt_id: str) -> None:
        """Take a prompt off the queue, or interrupt it if it is being executed.

        One that has ended or is unknown is left alone, and so is any other prompt.
        """
        try:
            await self._job("POST", prompt_id, "/cancel")
        except _NoRouteError:
            body = json.dumps({"delete": [prompt_id]}).encode()
            await self._request("POST", "/queue", body=body)
            await self.interrupt(prompt_id)

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt the running prompt if it is this one."""
        await self._request(
            "POST", "/interrupt", body=json.dumps({"prompt_id": prompt_id}).encode()
        )

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Have ComfyUI give up memory, once it executes nothing.

        Parameters
        ----------
        unload_models : bool
            Whether models leave the memory of GPU and machine.
        free_memory : bool
            Whether the outputs of nodes that it keeps for later prompts go too.
        """
        body = {"unload_models": unload_models, "free_memory": free_memory}
        await self._request("POST", "/free", body=json.dumps(body).encode())

    async def upload(
        self,
        file: IO[bytes],
        filename: str,
        *,
        subfolder: str = "",
        kind: str = "input",
        overwrite: bool = False,
    ) -> tuple[str, str]:
        """Put a file into one of ComfyUI's folders, streamed from the disk.

        Parameters
        ----------
        file : binary file
            Opened, at its start; it is closed when it was sent.
        filename, subfolder : str
            What it shall be called, and where below the folder it goes.
        kind : str
            ``input``, ``output`` or ``temp``.
        overwrite : bool
            Whether a file of that name is replaced; else the same content is reused and other
            content gets a free name (ComfyUI, ``server.py``).

        Returns
        -------
        tuple of str
            The name and the subfolder that it got.
        """
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=5, sock_read=STORING * self.timeout
        )
        try:
            form = aiohttp.FormData(quote_fields=False)  # ComfyUI takes names as they are
            form.add_field("image", file, filename=filename)
            for name, value in (("subfolder", subfolder), ("type", kind)):
                form.add_field(name, value)
            if overwrite:
                form.add_field("overwrite", "true")
            answer = await _parse(
                await self._request("POST", "/upload/image", body=form, timeout=timeout)
            )
        finally:
            await asyncio.to_thread(file.close)
        stored = answer.get("name"), answer.get("subfolder") or ""
        if not isinstance(stored[0], str) or not isinstance(stored[1], str):
            raise not_comfyui("/upload/image")
        return stored[0], stored[1]

    @contextlib.asynccontextmanager
    async def view(
        self, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for an output or input file; the caller streams the answer.

        Raises
        ------
        ComfyUIUnavailableError
            If ComfyUI does not answer, or breaks off while the answer is read.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=BETWEEN_PIECES)
        asking = self.session.get(
            f"{self.url}/view",
            params=dict(query),
            headers={"Accept-Encoding": "identity", **headers},
            timeout=timeout,
            allow_redirects=False,
            auto_decompress=False,  # older aiohttp unpacks without bounds
        )
        try:
            async with await wait_for(asking, self.timeout) as answer:
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise self.unavailable("it packs GET /view, though it was asked not to")
                yield answer
        except asyncio.TimeoutError:
            raise self.unavailable("it does not go on with GET /view", hangs=True) from None
        except aiohttp.ClientError as fault:
            raise self.unavailable(str(fault) or type(fault).__name__) from fault

    async def fetch(self, query: Mapping[str, str], file: BinaryIO) -> None:
        """Write an output or input file of ComfyUI into an opened one.

        Parameters
        ----------
        query : mapping
            ``filename``, ``subfolder`` and ``type``.
        file : binary file
            Written to in threads.

        Raises
        ------
        NotFoundError
            If ComfyUI has no such file.
        ComfyUIUnavailableError
            If it does not answer.
        """
        async with self.view(query, {}) as answer:
            if answer.status in (400, 403, 404):
                raise NotFoundError(
                    f"filename: ComfyUI has no {query['type']} file {query['filename']!r}",
                    details={"field": "filename"},
                )
            if answer.status != 200:
                raise self.unavailable(f"it answered {answer.status} to GET /view")
            async for chunk in answer.content.iter_chunked(CHUNK):
                await asyncio.to_thread(file.write, chunk)

    async def forward(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """Send a request as it is; return the answer, whose body is not yet read.

        Parameters
        ----------
        method, target : str
            The verb, and path with query as they go over the wire.
        headers : dict
            All of them but ``Host``.
        body : async iterator of bytes, optional
            The body, sent as it comes.

        Raises
        ------
        ComfyUIUnavailableError
            If ComfyUI does not answer.
        """
        try:
            return await self.session.request(
                method,
                URL(self.url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            )
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as fault:
            raise self.unavailable(str(fault) or type(fault).__name__) from fault

    async def pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Give the body of an answer as it comes.

        Raises
        ------
        ComfyUIUnavailableError
            If ComfyUI breaks off.
        """
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as fault:
            raise self.unavailable(f"it broke off ({fault})") from fault

    async def open_socket(self, target: str) -> aiohttp.ClientWebSocketResponse[bool]:
        """Open a WebSocket that is somebody else's.

        Parameters
        ----------
        target : str
            Path with query as they go over the wire.

        Raises
        ------
        ComfyUIUnavailableError
            If ComfyUI does not answer.
        """
        try:
            return await self.sockets.ws_connect(
                URL(self.url + target, encoded=True), max_msg_size=0, compress=0, heartbeat=30.0
            )
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as fault:
            raise self.unavailable(str(fault) or type(fault).__name__) from fault

    def unavailable(self, reason: str, **details: Any) -> ComfyUIUnavailableError:
        """Return the error for a ComfyUI that does not answer."""
        url = clean_url(self.url)
        return ComfyUIUnavailableError(
            f"ComfyUI at {url} does not answer: {reason}",
            details={"url": url, "reason": reason, **details},
            extra={"hint": f"Start ComfyUI so that it listens at {url}, or set comfyui_url."},
        )

    async def get_list(self, path: str, kind: type[T]) -> list[T]:
        """Return the JSON array that ComfyUI answers for a path.

        Parameters
        ----------
        path : str
            The route.
        kind : type
            What the items must be.

        Raises
        ------
        ComfyUIUnavailableError
            If it does not answer, or with anything else.
        """
        text = await self._request("GET", path)
        try:
            found = await responses.parse(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            raise not_comfyui(path)
        return found

    async def _get(self, path: str) -> dict[str, Any]:
        return await _parse(await self._request("GET", path))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        limit: int = MAX_ANSWER,
        **options: Any,
    ) -> bytes:
        """Return the body of an answer, all of it; ``options`` are those of `_ask`."""
        text, whole = await self._ask(method, path, limit=limit, **options)
        if not whole:
            raise self._too_large(f"{method} {path}", limit)
        return text

    def _too_large(self, what: str, limit: int) -> ComfyUIUnavailableError:
        return self.unavailable(f"its answer to {what} is larger than {limit // 1024**2} MiB")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        body: bytes | list[bytes] | aiohttp.FormData | None = None,
        after: asyncio.Future[None] | None = None,
        passes: tuple[int, ...] = (),
        timeout: aiohttp.ClientTimeout | None = None,
        within: float | None = None,
        to_the_end: bool = False,
        compressed: bool = False,
        may_lack: bool = False,
    ) -> tuple[bytes, bool]:
        """Return what `answers.read` does, of an answer that says that all is well.

        With ``may_lack``, `NotFoundError` is raised where the jobs API does not know a prompt, and
        `_NoRouteError` where the route itself is not there.
        """
        headers = {} if compressed else {"Accept-Encoding": "identity"}
        data: Any = body
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        elif isinstance(body, list):
            size = sum(map(len, body))
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(size)
            data = _held_back(body if size > PIECE else [b"".join(body)], after)
        patience = min(self.timeout, within or self.timeout)
        if timeout is None:
            connecting = min(patience, 5.0)
            timeout = aiohttp.ClientTimeout(total=patience, sock_connect=connecting)
            if after is not None:  # ComfyUI's time begins when it has the whole request
                timeout = aiohttp.ClientTimeout(
                    total=patience + BEFORE, sock_connect=connecting, sock_read=patience
                )
        try:
            async with self.session.request(
                method,
                f"{self.url}{path}",
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                auto_decompress=compressed,
            ) as response:
                text, whole = await responses.read(response, limit, to_the_end=to_the_end)
        except asyncio.TimeoutError:
            details = _unheard(after) or {"hangs": True}
            raise self.unavailable(f"no answer within {patience:g} s", **details) from None
        except aiohttp.ClientConnectorError as fault:
            raise self.unavailable(str(fault), sent=False) from fault
        except (aiohttp.ClientError, OSError) as fault:
            reason = str(fault) or type(fault).__name__
            raise self.unavailable(reason, **_unheard(after)) from fault
        if response.status in passes:
            refusal = await _refusal(response, text)
            if refusal is not None:
                raise refusal
        if may_lack and response.status in (404, 405):
            if UNKNOWN_JOB not in text:  # else a proxy's own answer would end runs
                raise _NoRouteError
            raise NotFoundError(f"{path} is unknown to ComfyUI at {self.url}")
        if response.status == 413:
            raise TooLargeError(f"ComfyUI at {clean_url(self.url)} takes no body of this size")
        if response.status >= 300:
            raise self.unavailable(f"it answered {response.status} to {method} {path}")
        return text, whole


class _NoRouteError(Exception):
    """Raised where a ComfyUI is too old for a route."""


async def _refusal(response: aiohttp.ClientResponse, text: bytes) -> PromptInvalidError | None:
    """Return what ComfyUI finds wrong with a graph, or None where that is not what it says."""
    if response.status == 500 and response.content_type == "text/plain":
        # So ComfyUI answers where its own checks raise on a broken graph.
        sentence = "ComfyUI could not read the graph (it answered 500)"
        error: Any = {"type": "prompt_unreadable", "message": sentence, "details": ""}
        return PromptInvalidError(sentence, details=error, extra={"node_errors": {}})
    try:
        answer = await responses.parse(text)
    except ValueError:
        return None
    if response.status == 500 or not isinstance(answer, dict) or "error" not in answer:
        return None
    error = answer["error"]
    if not isinstance(error, dict):
        error = {"type": "prompt_invalid", "message": str(error), "details": ""}
    message = str(error.get("message") or "ComfyUI refused the graph")
    if error.get("details"):
        message = f"{message}: {error['details']}"
    node_errors = answer.get("node_errors")
    if not isinstance(node_errors, dict) or not all(
        isinstance(found, dict) for found in node_errors.values()
    ):
        node_errors = {}
    return PromptInvalidError(message, details=error, extra={"node_errors": node_errors})


def _without_redirects() -> aiohttp.TraceConfig:
    """Return what refuses redirects: a handshake cannot be told not to follow them."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientPayloadError("it leads elsewhere")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


def _unheard(after: asyncio.Future[None] | None) -> dict[str, Any]:
    """Return the details of a failure before which ComfyUI cannot have got a whole request."""
    if after is None or (after.done() and not after.cancelled() and after.exception() is None):
        return {}
    return {"sent": False}


async def _held_back(
    body: list[bytes], until: asyncio.Future[None] | None
) -> AsyncIterator[memoryview]:
    """Give a body in small pieces, its last byte only when something is done."""
    for part in [*body[:-1], body[-1][:-1]]:
        whole = memoryview(part)
        for start in range(0, len(whole), PIECE):
            yield whole[start : start + PIECE]
    if until is not None:
        await asyncio.shield(until)
    yield memoryview(body[-1][-1:])


def _by_number(item: list[Any]) -> tuple[Any, Any]:
    return item[0], str(item[1])


def _heads(text: bytes) -> dict[str, Any]:
    """Return what is read of the items of a queue: their numbers and the ids of their prompts.

    The graphs of all prompts are in it: each is forgotten as soon as it is read.
    """
    found: dict[str, Any] = responses.loads(text, 2, leaf=lambda item: item[:2])
    return found


async def _parse_without_graph(text: bytes) -> Any:
    """Parse what has a graph that nobody reads; a large one does not come into this process."""
    if len(text) > LARGE:
        return await worker.call(_without_graph, text)
    return await responses.parse(text)


def _without_graph(text: bytes) -> Any:
    """Return an answer of the jobs API or of the history without the graph of the prompt."""
    found = responses.loads(text)
    if isinstance(found, dict):
        for entry in (found, *found.values()):
            if isinstance(entry, dict):
                entry.pop("prompt", None)
                entry.pop("workflow", None)
    return found


def _last_status(text: bytes) -> dict[str, Any]:
    """Return the status at the end of a history that is too large to be read.

    ComfyUI has ``outputs`` before ``status`` there, and neither these words with their
    quotation marks in a text, where each would have a backslash.
    """
    found: Any = None
    begin = text.rfind(b'"status": {"status_str": ')
    if begin >= 0:
        with contextlib.suppress(ValueError):
            tail = text[begin + len(b'"status": ') :].decode(errors="replace")
            found, _ = json.JSONDecoder().raw_decode(tail)
    if not isinstance(found, dict):
        raise not_comfyui("/history")
    return found


async def _parse(text: bytes, *, with_graph: bool = False) -> dict[str, Any]:
    try:
        found = await (_parse_without_graph if with_graph else responses.parse)(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ComfyUIUnavailableError(
            "ComfyUI's answer is not the JSON object that was asked for",
            extra={"hint": "Check that the address really is ComfyUI's."},
        )
    return found


def not_comfyui(path: str) -> ComfyUIUnavailableError:
    """Return the error for an answer that ComfyUI does not give."""
    return ComfyUIUnavailableError(
        f"What answers {path} is not ComfyUI, or another version of it than is understood",
        extra={"hint": "Check that the address really is ComfyUI's."},
    )
