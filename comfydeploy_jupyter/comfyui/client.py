"""The HTTP routes of ComfyUI, and how to reach it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import re
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    TooLargeError,
)
from ..util import http, jsons, proxy, worker
from ..util.http import (
    CheckedConnector,
    client_context,
    new_session,
    text_of,
    without_redirects,
)
from ..util.jsons import PROCESS_ABOVE
from ..util.secrets import clean_url
from ..util.sockets import Peers
from ..util.tasks import wait_for
from ..util.times import timestamp_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

T = TypeVar("T")

HOLD_TIMEOUT = 10.0  # seconds that ``after`` of a request may take, a write to the store
POST_CHUNK = 256 * 1024  # bytes of one chunk of a prompt
MAX_ANSWER = 1024**2  # bytes of an answer that may be an error
MAX_RESPONSE = 64 * 1024**2  # bytes; the definitions of thousands of nodes take about 20 MB
UNTRUSTED = (
    "The certificate of the server at comfyui_url is not trusted: set comfyui_ca to the PEM file"
    " of the authority that has signed it."
)
UNKNOWN_JOB = b"Job not found"  # the text of ComfyUI 0.33
REPLY_TIMEOUT = 5.0  # seconds that ComfyUI has to answer before a caller continues without it
CHUNK = 512 * 1024  # bytes of one write to a file
CHUNK_TIMEOUT = 60.0  # seconds that ComfyUI has for the next chunk of a file
STORE_FACTOR = 4  # factor of the usual timeout for ComfyUI to store an uploaded file
MAX_QUEUE = 256 * 1024**2  # bytes; the queue contains the graphs of all its prompts
OWN_PROMPT = "comfydeploy_jupyter"  # the key in extra_data of all prompts of this package
MAX_HISTORY = 16 * 1024**2  # bytes; a history contains the graph and the texts of one prompt
FAILED_LOOPS = (b'"node_type": "StartLoop"', b'"node_type":"StartLoop"')  # in a history
JOBS_AT_ONCE = 8  # concurrent requests about prompts
WORKFLOWS = "workflows"  # the folder of ComfyUI's editor, within that of its user
MAX_WORKFLOWS = 1000  # files that are listed
MAX_WORKFLOW = 64 * 1024**2  # bytes of such a file that is read
TEMPLATES = ("templates", "api/workflow_templates")  # ComfyUI's own, and those of node packs
MAX_ABOUT = 1000  # characters of the description of a template
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110, 5.1
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
# Headers that belong to one message or connection; ComfyUI compares Origin with Host.
_OURS = proxy.HOP_BY_HOP | {
    *("content-length", "content-type", "content-encoding", "expect", "host", "origin")
}


@dataclass(frozen=True)
class Access:
    """What each connection to a ComfyUI needs besides its address."""

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


PLAIN = Access()


@dataclass(frozen=True)
class Credentials:
    """The headers for each request to a ComfyUI, and the certificates for its connections."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorization: str = field(default="", repr=False)  # for the user and password in the address
    # PEM files; the key may be in the file of the certificate
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""  # the authorities that are trusted instead of those of the system

    @property
    def all_headers(self) -> dict[str, str]:
        password = {"Authorization": self.authorization} if self.authorization else {}
        return {**self.headers, **password}

    def read(self) -> Access:
        """Read the certificates, and return the `Access` for connections. Call it in a thread."""
        headers = self.all_headers
        context = client_context(
            client_cert=self.client_cert, client_key=self.client_key, ca=self.ca
        )
        return Access(context, headers) if context or headers else PLAIN


NONE = Credentials()


def split_address(url: str) -> tuple[str, str]:
    """Return an address without user and password, and the ``Authorization`` for these.

    The second item is ``""`` if the address has none. Errors do not contain the address.
    """
    try:
        parts = urlsplit(url)
        userinfo, at, host = parts.netloc.rpartition("@")
    except ValueError:
        raise InvalidRequestError.of_field("comfyui_url", "is not an address") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise InvalidRequestError.of_field(
            "comfyui_url", "has an @ after its host; write / ? # in a password as %2F %3F %23"
        )
    if not at:
        return url, ""
    user, _, password = userinfo.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return urlunsplit(
        (parts.scheme, host, parts.path, parts.query, parts.fragment)
    ), f"Basic {base64.b64encode(pair).decode()}"


def check_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return headers that may be sent with each request; an error has no values."""
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"{name[:80]!r} is not the name of a header"
            )
        if name.lower() in _OURS:
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"{name} belongs to each request and cannot be set"
            )
        if not _VALUE.fullmatch(value):
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"the value of {name} is not one line of Latin-1 text"
            )
    return dict(given)


class NoRouteError(Exception):
    """The ComfyUI is too old to have a route."""


class FailedJobError(NoRouteError):
    """The jobs API fails for one prompt; older routes can be used instead."""


class ComfyUIClient:
    """Client of one ComfyUI, for the routes of its ``server.py`` that this package uses."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        peers: Peers | None = None,
        access: Access = PLAIN,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._peers = peers or Peers()
        self._access = access
        self._opened: tuple[aiohttp.ClientSession, aiohttp.ClientSession] | None = None
        self._closed = False
        self._lacks: set[str] = set()  # routes that this ComfyUI does not have

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._sessions()[0]

    @property
    def sockets(self) -> aiohttp.ClientSession:
        """The connection pool for WebSockets, which refuses redirects."""
        return self._sessions()[1]

    async def close(self) -> None:
        self._closed = True
        sessions, self._opened = self._opened or (), None
        for session in reversed(sessions):
            await session.close()

    def _sessions(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        if self._closed:
            raise self.unavailable(
                "its machine was changed or restarted during the request", sent=False
            )
        if self._opened is None:
            connector = CheckedConnector(self._peers, self._access.tls)
            make = partial(
                new_session,
                connector,
                connect=None,
                total=self.timeout,
                headers=dict(self._access.headers),
            )
            guard = without_redirects()
            self._opened = make(), make(connector_owner=False, trace_configs=[guard])
        return self._opened

    async def forward(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """Send a request unchanged; return the response before its body is read."""
        try:
            address = URL(self.url + target, encoded=True)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            return await proxy.send(self.session, method, address, headers, body, timeout=timeout)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self.unavailable(text_of(error)) from error

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self.unavailable(f"the connection was lost ({error})") from error

    async def open_socket(self, target: str) -> aiohttp.ClientWebSocketResponse[bool]:
        """Open a WebSocket on behalf of another client."""
        try:
            return await self.sockets.ws_connect(
                URL(self.url + target, encoded=True), max_msg_size=0, compress=0, heartbeat=30.0
            )
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self.unavailable(text_of(error)) from error

    def unavailable(
        self,
        reason: str,
        *,
        hint: str | None = None,
        what: str = "does not answer",
        **details: Any,
    ) -> ComfyUIUnavailableError:
        """Return the error for a ComfyUI that does not reply, or has another fault."""
        url = clean_url(self.url)
        start = f"Start ComfyUI so that it listens at {url}, or set comfyui_url."
        return ComfyUIUnavailableError(
            f"ComfyUI at {url} {what}: {reason}",
            details={"url": url, "reason": reason, **details},
            extra={"hint": hint or start},
        )

    async def get_list(self, path: str, kind: type[T], **options: Any) -> list[T]:
        text = await self.request("GET", path, **options)
        try:
            found = await worker.parse(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            raise not_comfyui(path)
        return found

    async def get_object(self, path: str, **options: Any) -> dict[str, Any]:
        return await parse_object(await self.request("GET", path, **options))

    async def request(
        self,
        method: str,
        path: str,
        *,
        limit: int = MAX_RESPONSE,
        **options: Any,
    ) -> bytes:
        """Return the body of a response of at most ``limit`` bytes; see `_request`."""
        text, whole = await self._request(method, path, limit=limit, **options)
        if not whole:
            what = f"{method} {path}"
            raise self.unavailable(f"its answer to {what} is larger than {limit // 1024**2} MiB")
        return text

    async def answer(
        self, method: str, path: str, body: bytes | None = None, *, limit: int = MAX_ANSWER
    ) -> tuple[int, bytes]:
        """Return the status and at most ``limit`` bytes of the body of any response."""
        response, text, _ = await self._send(method, path, limit=limit, body=body)
        return response.status, text

    async def _request(
        self,
        method: str,
        path: str,
        *,
        passes: tuple[int, ...] = (),  # statuses whose body may say why ComfyUI refuses a graph
        may_lack: bool = False,  # whether this ComfyUI may be too old for the route
        **options: Any,
    ) -> tuple[bytes, bool]:
        """Return the body of a response with a status below 300, and whether it is complete.

        The other options are those of `_send`. With ``may_lack``, NoRouteError, FailedJobError and
        NotFoundError are the answers of the jobs API; ``details["sent"]`` of other errors is false
        if ComfyUI cannot have the request.
        """
        response, text, whole = await self._send(method, path, **options)
        if response.status in passes:
            refused = await refusal(response, text)
            if refused is not None:
                raise refused
        if may_lack and response.status in (404, 405):
            if UNKNOWN_JOB not in text:  # a proxy's own 404 must not end runs
                raise NoRouteError
            raise NotFoundError(f"{path} is unknown to ComfyUI at {clean_url(self.url)}")
        if may_lack and response.status == 500:
            raise FailedJobError
        if response.status == 413:
            raise TooLargeError(
                f"ComfyUI at {clean_url(self.url)} does not accept a body of this size"
            )
        if response.status >= 300:
            raise self.unavailable(f"it answered {response.status} to {method} {path}")
        return text, whole

    async def _send(
        self,
        method: str,
        path: str,
        *,
        limit: int,  # bytes of the body that are read
        body: bytes | list[bytes] | aiohttp.FormData | None = None,
        after: asyncio.Future[None] | None = None,  # before it, the last byte of a list is not sent
        timeout: aiohttp.ClientTimeout | None = None,
        within: float | None = None,  # seconds for the whole request, if less than usual
        to_the_end: bool = False,  # whether the last bytes of a body that is too large are returned
        compressed: bool = False,
    ) -> tuple[aiohttp.ClientResponse, bytes, bool]:
        """Return a response, its body, and whether this is complete."""
        headers = {} if compressed else {"Accept-Encoding": "identity"}
        data: Any = body
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        elif isinstance(body, list):
            size = sum(map(len, body))
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(size)
            parts = [b"".join(body)] if size <= POST_CHUNK else body
            # with nothing to wait for, a small one is sent with its headers
            at_once = len(parts) == 1 and not _sent_detail(after)
            data = parts[0] if at_once else _held_back(parts, after)
        patience = min(self.timeout, within or self.timeout)
        if timeout is None:
            connecting = min(patience, 5.0)
            timeout = aiohttp.ClientTimeout(total=patience, sock_connect=connecting)
            if after is not None:  # ComfyUI's time starts after the complete request
                timeout = aiohttp.ClientTimeout(
                    total=patience + HOLD_TIMEOUT, sock_connect=connecting, sock_read=patience
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
                text, whole = await http.read(response, limit, to_the_end=to_the_end)
        except asyncio.TimeoutError:
            details = _sent_detail(after) or {"hangs": True}
            raise self.unavailable(f"no answer within {patience:g} s", **details) from None
        except aiohttp.ClientSSLError as error:
            raise self.unavailable(
                text_of(error), hint=UNTRUSTED, sent=False, field="comfyui_ca"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise self.unavailable(text_of(error), sent=False) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = text_of(error)
            raise self.unavailable(reason, **_sent_detail(after)) from error
        return response, text, whole

    # -- routes ------------------------------------------------------------------------------

    def forget_features(self) -> None:
        """Delete the list of missing routes: a restarted ComfyUI may be a newer version."""
        self._lacks.clear()

    async def system_stats(self) -> dict[str, Any]:
        """Return what ComfyUI says of itself: ``system``, and a list of objects ``devices``."""
        stats = await self.get_object("/system_stats")
        system, devices = stats.get("system"), stats.get("devices")
        if not isinstance(system, dict) or not isinstance(devices, list):
            raise not_comfyui("/system_stats")
        if not isinstance(system.get("comfyui_version", ""), str):
            raise not_comfyui("/system_stats")
        return {**stats, "devices": [each for each in devices if isinstance(each, dict)]}

    async def queue_remaining(self, *, within: float | None = None) -> int:
        """Return the number of waiting and executing prompts, from a small response."""
        reply = await self.get_object("/prompt", within=within)
        try:
            return int(reply["exec_info"]["queue_remaining"])
        except (LookupError, TypeError, ValueError, OverflowError):
            raise not_comfyui("/prompt") from None

    async def queue(self) -> tuple[list[str], list[str]]:
        """Return the ids of the executing and of the waiting prompts, the next one first."""
        text = await self.queue_text()
        try:
            reply = await worker.run(queue_heads, text)
            running = [str(item[1]) for item in reply["queue_running"]]
            waiting = sorted(reply["queue_pending"], key=lambda item: (item[0], str(item[1])))
            pending = [str(item[1]) for item in waiting]
        except (LookupError, TypeError, ValueError):
            raise not_comfyui("/queue") from None
        return running, pending

    async def queue_text(self) -> bytes:
        return await self.request("GET", "/queue", limit=MAX_QUEUE)

    async def find(self, prompt_ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return which of some prompts are executing, and which of them are queued.

        If ComfyUI has the jobs API (``GET /api/jobs/{id}``), each prompt is requested from it. The
        whole queue, which contains the graphs of all prompts, is only read if it has not.
        """
        places: dict[str, str | None] = {}
        ids = list(prompt_ids)
        try:
            for first in ids[:1]:  # a single request first: it shows whether there is a jobs API
                places[first] = await self._job_status(first)
            for start in range(1, len(ids), JOBS_AT_ONCE):
                some = ids[start : start + JOBS_AT_ONCE]
                found = await asyncio.gather(*map(self._job_status, some))
                places.update(zip(some, found, strict=True))
        except NoRouteError:
            running, pending = map(frozenset, await self.queue())
            return running.intersection(ids), pending.intersection(ids)
        return (
            frozenset(one for one, place in places.items() if place == "in_progress"),
            frozenset(one for one, place in places.items() if place == "pending"),
        )

    async def _job_status(self, prompt_id: str) -> str | None:
        """Return the status of a prompt in the jobs API; None if the API does not have it."""
        try:
            job = await self._job("GET", prompt_id)
        except NotFoundError:
            return None
        status = job.get("status")
        return status if isinstance(status, str) else None

    async def _job(self, method: str, prompt_id: str, action: str = "") -> dict[str, Any]:
        """Send a request to a route of the jobs API; NotFoundError: it does not have the prompt.

        FailedJobError: it fails for this one, as 0.33.0 does for outputs of unexpected form.
        """
        route = f"{method} {action}"
        if route in self._lacks:
            raise NoRouteError
        path = f"/api/jobs/{quote(prompt_id, safe='')}{action}"
        try:
            text, whole = await self._request(
                method, path, limit=MAX_HISTORY, to_the_end=True, may_lack=True
            )
            if not whole:  # only a job that has ended has outputs
                return {"id": prompt_id, "status": "completed"}
            reply = await parse_without_graph(text)
            found = reply if isinstance(reply, dict) else {}
            if found.get("id") == prompt_id or isinstance(found.get("cancelled"), bool):
                return found
        except FailedJobError:
            raise
        except (NoRouteError, ValueError):
            pass
        self._lacks.add(route)
        raise NoRouteError

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return ``status`` and ``outputs`` of a prompt that has ended, or None.

        Without ``outputs`` if the response is too large to be read. A large one has its graph only
        if a loop has failed, since that tells which of its nodes did.
        """
        path = f"/history/{quote(prompt_id, safe='')}"
        text, whole = await self._request("GET", path, limit=MAX_HISTORY, to_the_end=True)
        if not whole:
            return {"status": last_status(text)}
        reply = await parse_object(text, without_graph=not any(f in text for f in FAILED_LOOPS))
        found = reply.get(prompt_id)
        if found is None:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("status") or {}, dict):
            raise not_comfyui(path)
        if not isinstance(found.get("outputs") or {}, dict):
            raise not_comfyui(path)
        return {"outputs": {}, **found}

    async def recent_history(self, most: int) -> bytes | None:
        """Return the history of the last prompts as JSON, oldest first; None: it is too large."""
        path = f"/history?max_items={most}"
        text, whole = await self._request("GET", path, limit=MAX_HISTORY)
        return text if whole else None

    async def object_info(self) -> tuple[bytes, dict[str, Any]]:
        """Return the definitions of all nodes: ComfyUI's JSON text, and the parsed object."""
        text = await self.request("GET", "/object_info", compressed=True)
        found = await parse_object(text)
        if not all(isinstance(node, dict) and "input" in node for node in found.values()):
            raise not_comfyui("/object_info")
        return text, found

    async def node_replacements(self) -> dict[str, Any]:
        """Return the node classes that ComfyUI replaces by others; empty if it is too old."""
        try:
            return await self.get_object("/node_replacements", may_lack=True)
        except NoRouteError:
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
        """Queue a graph; the last byte, without which it cannot be parsed, waits for ``after``.

        ``workflow`` is the UI graph that ComfyUI writes into images; ``outputs`` are the output
        nodes to execute, by default all. ``details["sent"]`` of an error is false if ComfyUI
        cannot have received the prompt.
        """
        fields: dict[str, Any] = {"prompt_id": prompt_id, "client_id": client_id}
        if front:
            fields["front"] = True
        if outputs is not None:
            fields["partial_execution_targets"] = list(outputs)
        extra_data = json.dumps({OWN_PROMPT: True, **(extra or {})}).encode()
        with_extra = [extra_data]
        if workflow is not None:
            with_extra = [b'{"extra_pnginfo": {"workflow": ', workflow, b"}, ", extra_data[1:]]
        rest = json.dumps(fields).encode()[1:]
        body = [b'{"prompt": ', prompt, b', "extra_data": ', *with_extra, b", " + rest]
        text = await self.request("POST", "/prompt", body=body, after=after, passes=(400, 500))
        reply = await parse_object(text)
        number, node_errors = reply.get("number"), reply.get("node_errors")
        if reply.get("prompt_id") != prompt_id or not isinstance(number, (int, float, type(None))):
            raise not_comfyui("/prompt")
        return {**reply, "node_errors": node_errors if isinstance(node_errors, dict) else {}}

    async def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or interrupt it if it is executing.

        Nothing is done if it has ended or is unknown; other prompts are not changed.
        """
        try:
            await self._job("POST", prompt_id, "/cancel")
        except NoRouteError:
            await self.withdraw(prompt_id)
            await self.interrupt(prompt_id)

    async def withdraw(self, prompt_id: str) -> None:
        """Remove a prompt from the queue; one that is executing is not changed."""
        body = json.dumps({"delete": [prompt_id]}).encode()
        await self.request("POST", "/queue", body=body)

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt the executing prompt if it is this one."""
        await self.request("POST", "/interrupt", body=json.dumps({"prompt_id": prompt_id}).encode())

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Request that ComfyUI frees memory as soon as it executes no prompt."""
        body = {"unload_models": unload_models, "free_memory": free_memory}
        await self.request("POST", "/free", body=json.dumps(body).encode())

    async def upload(
        self,
        file: IO[bytes],
        filename: str,
        *,
        subfolder: str = "",
        kind: str = "input",
        overwrite: bool = False,
    ) -> tuple[str, str]:
        """Upload a file from the disk; return its name and subfolder there. The file is closed.

        Without ``overwrite``, a file with the same content is reused; if the content differs, the
        new file gets another name (ComfyUI, ``server.py``).
        """
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=5, sock_read=STORE_FACTOR * self.timeout
        )
        try:
            form = aiohttp.FormData(quote_fields=False)  # ComfyUI does not unquote names
            form.add_field("image", file, filename=filename)
            for name, value in (("subfolder", subfolder), ("type", kind)):
                form.add_field(name, value)
            if overwrite:
                form.add_field("overwrite", "true")
            reply = await parse_object(
                await self.request("POST", "/upload/image", body=form, timeout=timeout)
            )
        finally:
            await asyncio.to_thread(file.close)
        stored = reply.get("name"), reply.get("subfolder") or ""
        if not isinstance(stored[0], str) or not isinstance(stored[1], str):
            raise not_comfyui("/upload/image")
        return stored[0], stored[1]

    @contextlib.asynccontextmanager
    async def view(
        self, query: Mapping[str, str], headers: Mapping[str, str], path: str = "/view"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request an output or input file, or an asset; the caller streams the response."""
        try:
            "".join(query.values()).encode()
        except UnicodeEncodeError:  # aiohttp would request another name, without these characters
            raise InvalidRequestError.of_field("filename", "is not valid Unicode text") from None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=CHUNK_TIMEOUT)
        requesting = self.session.get(
            f"{self.url}{path}",
            params=dict(query),
            headers={"Accept-Encoding": "identity", **headers},
            timeout=timeout,
            allow_redirects=False,
            auto_decompress=False,  # older aiohttp decompresses without a limit
        )
        try:
            async with await wait_for(requesting, self.timeout) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise self.unavailable(
                        "it compresses the response of GET /view, although the request does not"
                        " allow that"
                    )
                yield response
        except asyncio.TimeoutError:
            raise self.unavailable(
                "it does not send more of the response of GET /view", hangs=True
            ) from None
        except aiohttp.ClientError as error:
            raise self.unavailable(text_of(error)) from error

    async def size(self, query: Mapping[str, str]) -> int:
        async with self.view(query, {"Range": "bytes=0-0"}) as response:
            whole = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status in (206, 416) and whole.isdecimal():
                return int(whole)
            if response.status == 200 and response.content_length is not None:
                return response.content_length
            what = "the request for a file's size"
            raise self.unavailable(f"it answered {response.status} to {what}")

    async def fetch(
        self, query: Mapping[str, str], file: IO[bytes], limit: float = math.inf
    ) -> None:
        """Write one of ComfyUI's files into an open file; NotFoundError: there is none.

        TooLargeError: it has more bytes than ``limit``.
        """
        size = 0
        async with self.view(query, {}) as response:
            if response.status in (400, 403, 404):
                text = f"ComfyUI has no {query['type']} file {query['filename']!r}"
                raise NotFoundError.of_field("filename", text)
            if response.status != 200:
                raise self.unavailable(f"it answered {response.status} to GET /view")
            async for chunk in response.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > limit:
                    raise TooLargeError(f"{query['filename']} is larger than {limit / 2**20:g} MiB")
                await asyncio.to_thread(file.write, chunk)

    # -- workflows of its editor, in ``user/…/workflows`` ---------------------------------------

    async def list_workflows(self) -> list[dict[str, Any]]:
        """Return the workflow files; the last changed one is first."""
        try:
            found = await self.get_list(
                f"/userdata?dir={WORKFLOWS}&recurse=true&full_info=true", dict, may_lack=True
            )
        except NoRouteError:  # there is no such folder before the first workflow is saved
            return []
        except FailedJobError:
            raise self.unavailable("it cannot list the workflows of its editor") from None
        files = [file for file in map(_workflow_file, found) if file is not None]
        return sorted(files, key=lambda file: str(file["updated_at"]), reverse=True)[:MAX_WORKFLOWS]

    async def read_workflow(self, path: str) -> bytes:
        try:
            return await self.request(
                "GET", _workflow_path(path), limit=MAX_WORKFLOW, may_lack=True
            )
        except (NoRouteError, FailedJobError):
            text = f"ComfyUI's editor has no workflow {path!r}"
            raise NotFoundError.of_field("file", text, file=path) from None

    async def list_templates(self) -> list[dict[str, str]]:
        """Return the workflows that ComfyUI and its node packs bring along; never an error."""
        found: list[dict[str, str]] = []
        with contextlib.suppress(ComfyDeployError):
            for group in await self.get_list("/templates/index.json", dict, may_lack=True):
                rows = group.get("templates")
                for row in rows if isinstance(rows, list) else ():
                    found += _template(f"{TEMPLATES[0]}/", group.get("title"), row)
        with contextlib.suppress(ComfyDeployError):
            packs = await self.get_object("/api/workflow_templates", may_lack=True)
            for pack, names in packs.items():
                for name in names if isinstance(names, list) else ():
                    found += _template(f"{TEMPLATES[1]}/{pack}/", pack, {"name": name})
        return found[:MAX_WORKFLOWS]

    async def read_template(self, name: str) -> bytes:
        """Return a template by its ``filename`` in `list_templates`."""
        try:
            if name.startswith(tuple(f"{folder}/" for folder in TEMPLATES)):
                path = f"/{quote(name)}"
                return await self.request("GET", path, limit=MAX_WORKFLOW, may_lack=True)
        except (NoRouteError, FailedJobError):
            pass
        raise NotFoundError.of_field("filename", f"ComfyUI has no template {name!r}")

    async def write_workflow(self, path: str, content: bytes) -> None:
        await self.request("POST", f"{_workflow_path(path)}?overwrite=true", body=content)


def _sent_detail(after: asyncio.Future[None] | None) -> dict[str, Any]:
    """Return ``{"sent": False}`` if ComfyUI cannot have received the complete request."""
    if after is None or (after.done() and not after.cancelled() and after.exception() is None):
        return {}
    return {"sent": False}


async def _held_back(
    body: list[bytes], after: asyncio.Future[None] | None
) -> AsyncIterator[memoryview]:
    """Yield a body in small chunks; the last byte only when ``after`` is done."""
    for part in [*body[:-1], body[-1][:-1]]:
        whole = memoryview(part)
        for start in range(0, len(whole), POST_CHUNK):
            yield whole[start : start + POST_CHUNK]
    if after is not None:
        await asyncio.shield(after)
    yield memoryview(body[-1][-1:])


def _workflow_path(path: str) -> str:
    return f"/userdata/{quote(f'{WORKFLOWS}/{path}', safe='')}"


def _template(folder: str, group: Any, row: Any) -> list[dict[str, str]]:
    """Return the entry of a template in the list, if it has a name."""
    name = row.get("name") if isinstance(row, dict) else None
    if not isinstance(name, str) or not name:
        return []
    title, about = row.get("title"), row.get("description")
    return [
        {
            "filename": f"{folder}{name}.json",
            "title": title if isinstance(title, str) and title else name,
            "group": group if isinstance(group, str) else "",
            "description": about[:MAX_ABOUT] if isinstance(about, str) else "",
        }
    ]


def _workflow_file(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry of a file in the list; None if it is not a workflow."""
    path, size, modified = found.get("path"), found.get("size"), found.get("modified")
    if not isinstance(path, str) or not path.lower().endswith(".json") or path.startswith("."):
        return None
    if not isinstance(size, int) or not isinstance(modified, (int, float)):
        return None
    # ComfyUI gives the time in s; newer versions in ms.
    seconds = modified / 1000 if modified > 10**11 else modified
    try:
        return {"path": path, "size": size, "updated_at": timestamp_of(seconds)}
    except (OverflowError, ValueError, OSError):
        return None


async def refusal(response: aiohttp.ClientResponse, text: bytes) -> PromptInvalidError | None:
    if response.status == 500 and response.content_type == "text/plain":
        # ComfyUI's response if its validation raises an exception for a malformed graph.
        sentence = "ComfyUI could not read the graph (it answered 500)"
        error: Any = {"type": "prompt_unreadable", "message": sentence, "details": ""}
        return PromptInvalidError(sentence, details=error, extra={"node_errors": {}})
    try:
        reply = await worker.parse(text)
    except ValueError:
        return None
    if response.status == 500 or not isinstance(reply, dict) or "error" not in reply:
        return None
    error = reply["error"]
    if not isinstance(error, dict):
        error = {"type": "prompt_invalid", "message": str(error), "details": ""}
    message = str(error.get("message") or "ComfyUI refused the graph")
    if error.get("details"):
        message = f"{message}: {error['details']}"
    node_errors = reply.get("node_errors")
    if not isinstance(node_errors, dict) or not all(
        isinstance(found, dict) for found in node_errors.values()
    ):
        node_errors = {}
    return PromptInvalidError(message, details=error, extra={"node_errors": node_errors})


def queue_heads(text: bytes) -> dict[str, Any]:
    """Parse a queue; of each item, only the number and the id of the prompt are kept.

    The graph of each prompt is dropped as soon as it is parsed.
    """
    found: dict[str, Any] = jsons.loads(text, 2, leaf=lambda item: item[:2])
    return found


async def parse_without_graph(text: bytes) -> Any:
    """Parse a job or a history without the graph of its prompt.

    A large text is parsed in a worker process, so that the graph is never in this one.
    """
    if len(text) > PROCESS_ABOVE:
        return await worker.call(_without_graph, text)
    return await worker.parse(text)


def _without_graph(text: bytes) -> Any:
    found = jsons.loads(text)
    if isinstance(found, dict):
        for entry in (found, *found.values()):
            if isinstance(entry, dict):
                entry.pop("prompt", None)
                entry.pop("workflow", None)
    return found


def last_status(text: bytes) -> dict[str, Any]:
    """Return the status at the end of a history that is too large to be read.

    In it, ComfyUI writes ``outputs`` before ``status``. Texts cannot contain these keys with their
    quotation marks, since these would be escaped by a backslash.
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


async def parse_object(text: bytes, *, without_graph: bool = False) -> dict[str, Any]:
    try:
        found = await (parse_without_graph if without_graph else worker.parse)(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise not_comfyui("a request")
    return found


def not_comfyui(asked: str) -> ComfyUIUnavailableError:
    return ComfyUIUnavailableError(
        f"The response to {asked} is not from ComfyUI, or from a version that is not supported",
        extra={"hint": "Check that this is the address of ComfyUI."},
    )
