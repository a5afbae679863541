"""The options of an input that its ComfyUI, or a public site, gives by a route."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from yarl import URL

from ..errors import (
    ComfyUIUnavailableError,
    InvalidRequestError,
    OfflineError,
    TooLargeError,
)
from ..graphs.remote import NoListError, RemoteList, remote_list
from ..transfers import http
from ..util import jsons
from ..util.http import read_whole
from ..util.tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..util.system import FetchPolicy

MAX_ANSWER = 4 * 1024**2  # bytes
HINT = "The input takes any value: type it."
# The first part of the paths that ComfyUI's own page sends to Comfy's API with a user's account.
_COMFY_API = "/proxy/"


class RemoteOptions:
    """Asks routes that node definitions name; callers only say which input they want.

    ComfyUI is asked with the credentials of its machine, a public address without any, and no
    other address at all. Redirects are not followed.
    """

    def __init__(self, fetching: FetchPolicy) -> None:
        self._fetching = fetching
        self._public: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._public is not None:
            await self._public.close()

    async def get(
        self, machine: Machine, class_type: str, name: str, inputs: str = "{}"
    ) -> dict[str, Any]:
        """Return the options of an input of a node class; ``inputs`` are others of it, as JSON."""
        others = _others(inputs)
        client = await machine.ready()
        definitions = await machine.definitions()
        remote = remote_list(definitions.nodes, class_type, name, others)
        what = f"has no list for {name} of {class_type}"
        try:
            text = await self._ask(client, remote)
            options, left_out = await asyncio.to_thread(_read, remote, text)
        except (http.TransferError, NoListError) as error:
            raise client.unavailable(str(error), hint=HINT, what=what) from None
        except (ComfyUIUnavailableError, OfflineError, TooLargeError) as error:
            reason = str(error.details.get("reason") or error)
            raise client.unavailable(reason, hint=HINT, what=what) from None
        return {"options": options, "left_out": left_out, "refresh": remote.refresh}

    async def _ask(self, client: ComfyUIClient, remote: RemoteList) -> bytes:
        if not remote.route:
            raise http.TransferError("its definition names no route", again=False)
        path = _path_at(client.url, remote.route)
        if path is None:
            return await self._ask_elsewhere(remote)
        try:
            return await client.request(
                "GET", _with(path, remote.query), limit=MAX_ANSWER, within=remote.timeout
            )
        except ComfyUIUnavailableError:
            if path.startswith(_COMFY_API):
                text = "its route is one of Comfy's API, which is asked in ComfyUI's page only"
                raise http.TransferError(text, again=False) from None
            raise

    async def _ask_elsewhere(self, remote: RemoteList) -> bytes:
        objection = http.objection(remote.route)
        if objection is not None:
            raise http.TransferError(objection, again=False)
        address = _with(remote.route, remote.query)
        host = URL(address).host or ""
        self._fetching.require(f"The list of {host}")
        if self._public is None:
            self._public = http.new_session(http.PublicConnector())
        try:
            return await wait_for(_fetch(self._public, address, host), remote.timeout)
        except asyncio.TimeoutError:
            text = f"{host} did not answer within {remote.timeout:g} s"
            raise http.TransferError(text, again=True) from None


async def _fetch(session: aiohttp.ClientSession, address: str, host: str) -> bytes:
    async with http.request(session, "GET", address, what=host) as response:
        return await read_whole(response, MAX_ANSWER)


def _others(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRequestError.of_field("inputs", "must be a JSON object")
    return found


def _read(remote: RemoteList, text: bytes) -> tuple[list[dict[str, Any]], int]:
    try:
        answer = jsons.loads(text)
    except (ValueError, RecursionError):
        raise NoListError("its answer is not JSON") from None
    return remote.options_in(answer)


def _with(route: str, query: Mapping[str, str]) -> str:
    """Return a route with further parameters, as a request has it."""
    try:
        return str(URL(route).update_query(query).with_fragment(None))
    except ValueError:
        raise http.TransferError("its definition names no valid route", again=False) from None


def _path_at(url: str, route: str) -> str | None:
    """Return the path of a route of the ComfyUI with this address; None if it is elsewhere."""
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|\\", route):
        return route if route.startswith("/") else f"/{route}"
    try:
        own, wanted = URL(url), URL(route)
        if not wanted.host or wanted.user or own.origin() != wanted.origin():
            return None
    except ValueError:
        return None
    start = own.path.rstrip("/")
    path = wanted.raw_path_qs
    return path.removeprefix(start) if path.startswith(f"{start}/") else None
