"""The HTTP routes of ComfyUI."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from typing import IO, TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import aiohttp

from ..errors import InvalidRequestError, NotFoundError
from ..util import worker
from ..util.responses import text_of
from ..util.tasks import wait_for
from ..util.unparsed import LARGE
from .parsing import (
    by_number,
    last_status,
    not_comfyui,
    parse_object,
    parse_without_graph,
    queue_heads,
)
from .transport import MAX_ANSWER, FailedJobError, NoRouteError, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence


ASK_WITHIN = 5.0  # seconds that ComfyUI has to answer before a caller continues without it
CHUNK = 512 * 1024  # bytes of one write to a file
BETWEEN_PIECES = 60.0  # seconds that ComfyUI has for the next chunk of a file
STORING = 4  # factor of the usual timeout for ComfyUI to store an uploaded file
MAX_QUEUE = 256 * 1024**2  # bytes; the queue contains the graphs of all its prompts
OWN_PROMPT = "comfydeploy_jupyter"  # the key in extra_data of all prompts of this package
MAX_HISTORY = 16 * 1024**2  # bytes; a history contains the graph and the texts of one prompt
JOBS_AT_ONCE = 8  # concurrent requests about prompts


class ComfyUIClient(Transport):
    """Client of one ComfyUI, for the routes of its ``server.py`` that this package uses.

    The parameters are those of `Transport`.
    """

    @functools.cached_property
    def _lacks(self) -> set[str]:
        """Return the routes that this ComfyUI does not have; `forget_features` empties the set."""
        return set()

    def forget_features(self) -> None:
        """Delete the list of missing routes: a restarted ComfyUI may be a newer version."""
        self._lacks.clear()

    async def system_stats(self) -> dict[str, Any]:
        """Return ComfyUI's version, arguments, memory and devices."""
        stats = await self.get_object("/system_stats")
        system, devices = stats.get("system"), stats.get("devices")
        if not isinstance(system, dict) or not isinstance(devices, list):
            raise not_comfyui("/system_stats")
        if not isinstance(system.get("comfyui_version", ""), str):
            raise not_comfyui("/system_stats")
        return stats

    async def queue_remaining(self, *, within: float | None = None) -> int:
        """Return the number of waiting and executing prompts, from a small response."""
        answer = await parse_object(await self.request("GET", "/prompt", within=within))
        try:
            return int(answer["exec_info"]["queue_remaining"])
        except (LookupError, TypeError, ValueError, OverflowError):
            raise not_comfyui("/prompt") from None

    async def queue(self) -> tuple[list[str], list[str]]:
        """Return the ids of the executing and of the waiting prompts, the next one first."""
        text = await self.queue_text()
        try:
            answer = await worker.compute(queue_heads, text, large=len(text) > LARGE)
            running = [str(item[1]) for item in answer["queue_running"]]
            pending = [str(item[1]) for item in sorted(answer["queue_pending"], key=by_number)]
        except (LookupError, TypeError, ValueError):
            raise not_comfyui("/queue") from None
        return running, pending

    async def queue_text(self) -> bytes:
        """Return the executing and the waiting prompts with their graphs, as JSON."""
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
            text, whole = await self.ask(
                method, path, limit=MAX_HISTORY, to_the_end=True, may_lack=True
            )
            if not whole:  # only a job that has ended has outputs
                return {"id": prompt_id, "status": "completed"}
            answer = await parse_without_graph(text)
            found = answer if isinstance(answer, dict) else {}
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

        Without ``outputs`` if the response is too large to be read.
        """
        path = f"/history/{quote(prompt_id, safe='')}"
        text, whole = await self.ask("GET", path, limit=MAX_HISTORY, to_the_end=True)
        if not whole:
            return {"status": last_status(text)}
        answer = await parse_object(text, without_graph=True)
        found = answer.get(prompt_id)
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
        text, whole = await self.ask("GET", path, limit=MAX_HISTORY)
        return text if whole else None

    async def object_info(self) -> tuple[bytes, dict[str, Any]]:
        """Return the definitions of all nodes: ComfyUI's JSON text, and the parsed object."""
        text, whole = await self.ask("GET", "/object_info", limit=MAX_ANSWER, compressed=True)
        if not whole:
            raise self.too_large("GET /object_info", MAX_ANSWER)
        found = await parse_object(text)
        if not all(isinstance(node, dict) and "input" in node for node in found.values()):
            raise not_comfyui("/object_info")
        return text, found

    async def node_replacements(self) -> dict[str, Any]:
        """Return the node classes that ComfyUI replaces by others; empty if it is too old."""
        try:
            return await parse_object(
                await self.request("GET", "/node_replacements", may_lack=True)
            )
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
        with_extra = [json.dumps({OWN_PROMPT: True, **(extra or {})}).encode()]
        if workflow is not None:
            with_extra = [
                b'{"extra_pnginfo": {"workflow": ',
                workflow,
                b"}, " + with_extra[0][1:],
            ]
        rest = json.dumps(fields).encode()[1:]
        body = [b'{"prompt": ', prompt, b', "extra_data": ', *with_extra, b", " + rest]
        text = await self.request("POST", "/prompt", body=body, after=after, passes=(400, 500))
        answer = await parse_object(text)
        number, node_errors = answer.get("number"), answer.get("node_errors")
        if answer.get("prompt_id") != prompt_id or not isinstance(number, (int, float, type(None))):
            raise not_comfyui("/prompt")
        return {**answer, "node_errors": node_errors if isinstance(node_errors, dict) else {}}

    async def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or interrupt it if it is executing.

        Nothing is done if it has ended or is unknown; other prompts are not changed.
        """
        try:
            await self._job("POST", prompt_id, "/cancel")
        except NoRouteError:
            body = json.dumps({"delete": [prompt_id]}).encode()
            await self.request("POST", "/queue", body=body)
            await self.interrupt(prompt_id)

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
            total=None, sock_connect=5, sock_read=STORING * self.timeout
        )
        try:
            form = aiohttp.FormData(quote_fields=False)  # ComfyUI does not unquote names
            form.add_field("image", file, filename=filename)
            for name, value in (("subfolder", subfolder), ("type", kind)):
                form.add_field(name, value)
            if overwrite:
                form.add_field("overwrite", "true")
            answer = await parse_object(
                await self.request("POST", "/upload/image", body=form, timeout=timeout)
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
        """Request an output or input file; the caller streams the response."""
        try:
            "".join(query.values()).encode()
        except UnicodeEncodeError:  # aiohttp would request another name, without these characters
            raise InvalidRequestError.of_field("filename", "is not valid Unicode text") from None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=BETWEEN_PIECES)
        asking = self.session.get(
            f"{self.url}/view",
            params=dict(query),
            headers={"Accept-Encoding": "identity", **headers},
            timeout=timeout,
            allow_redirects=False,
            auto_decompress=False,  # older aiohttp decompresses without a limit
        )
        try:
            async with await wait_for(asking, self.timeout) as answer:
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise self.unavailable(
                        "it compresses the response of GET /view, although the request does not"
                        " allow that"
                    )
                yield answer
        except asyncio.TimeoutError:
            raise self.unavailable(
                "it does not send more of the response of GET /view", hangs=True
            ) from None
        except aiohttp.ClientError as error:
            raise self.unavailable(text_of(error)) from error

    async def size(self, query: Mapping[str, str]) -> int:
        """Return the size of an output or input file in bytes."""
        async with self.view(query, {"Range": "bytes=0-0"}) as answer:
            whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status in (206, 416) and whole.isdecimal():
                return int(whole)
            if answer.status == 200 and answer.content_length is not None:
                return answer.content_length
            raise self.unavailable(f"it answered {answer.status} to the request for a file's size")

    async def fetch(self, query: Mapping[str, str], file: BinaryIO) -> None:
        """Write one of ComfyUI's files into an open file; NotFoundError: there is none."""
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
