"""The node definitions (``object_info``) of a ComfyUI: live, cached or bundled."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ComfyUIUnavailableError
from ..graphs.definitions import NodeDefinitions, is_newer
from ..util import jsons
from ..util.system import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .client import ComfyUIClient

log = logging.getLogger(__name__)

MAX_KINDS = 10  # that one line of the log names
_KINDS = re.compile(rb'"(COMFY_\w{1,60})"', re.ASCII)

ASK_AGAIN = 5.0  # seconds until the next request to a ComfyUI that did not return them
# requested now; from the last time that ComfyUI answered; the core nodes of the ComfyUI version
# for which this package was made
Source = Literal["live", "cached", "bundled"]
BUNDLE = "core_nodes.json.gz"  # made by scripts/bundle_definitions.py


class DefinitionSet:
    """The node definitions of one ComfyUI, in the forms that code on graphs needs."""

    def __init__(
        self,
        object_info: dict[str, Any],
        source: Source,
        comfyui_version: str | None,
        replacements: dict[str, Any] | None = None,  # None: the bundled ones
        *,
        packed: bytes | None = None,  # all of this as a file of `Definitions`, for workers
    ) -> None:
        self._packed = packed
        self.object_info = object_info
        self.source = source
        self.comfyui_version = comfyui_version
        self.nodes = NodeDefinitions(
            object_info, version=comfyui_version, replacements=replacements
        )

    @classmethod
    def unpacked(cls, packed: bytes, source: Source) -> DefinitionSet:
        kept = jsons.loads(gzip.decompress(packed))
        replacements = kept.get("node_replacements")
        if not isinstance(replacements, dict):  # the file is older than these
            replacements = None
        info, version = kept["object_info"], kept["comfyui_version"]
        return cls(info, source, version, replacements, packed=packed)

    def __reduce__(self) -> Any:
        """Pickle the content of the file: the objects made from it would be much larger."""
        if self._packed is None:
            return super().__reduce__()
        return _unpickled, (self._packed, self.source)

    def origin(self) -> dict[str, Any]:
        return {"source": self.source, "comfyui_version": self.comfyui_version}


@lru_cache(maxsize=2)
def _unpickled(packed: bytes, source: Source) -> DefinitionSet:
    """Return definitions in a worker process, which reads them for several calls once."""
    return DefinitionSet.unpacked(packed, source)


@dataclass(frozen=True)
class _Live:
    client: ComfyUIClient
    definitions: DefinitionSet
    digest: str
    asked_at: float  # monotonic time


class Definitions:
    """Requests, caches and stores the node definitions of one ComfyUI.

    They are requested again after each connection: a restarted ComfyUI may have other nodes.
    The lists of model files in them change while ComfyUI runs: code that needs current lists passes
    a ``max_age``.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._live: _Live | None = None
        self._offline: DefinitionSet | None = None
        self._error: ComfyUIUnavailableError | None = None
        self._told: set[str] = set()  # the kinds of inputs that were looked at
        self._failed_at = 0.0
        self._connections = 0  # an answer to a request before the last one may be outdated
        self._lock = asyncio.Lock()

    @property
    def known(self) -> DefinitionSet | None:
        """The definitions in memory, without a request and without reading the file."""
        return self._offline if self._live is None else self._live.definitions

    def attach(self) -> None:
        """Handle a new connection to ComfyUI: its definitions may differ from the known ones."""
        self._connections += 1
        self._live = self._error = None

    async def get(
        self, client: ComfyUIClient, version: str | None, *, max_age: float | None = None
    ) -> DefinitionSet:
        """Return the definitions of a ComfyUI that answers, at most ``max_age`` seconds old."""
        async with self._lock:
            live = self._live
            if live is not None and live.client is client:
                age = time.monotonic() - live.asked_at
                if max_age is None or age <= max_age:
                    return live.definitions
            if self._error is not None and time.monotonic() - self._failed_at < ASK_AGAIN:
                raise self._error.with_traceback(None)  # another caller has just failed
            return (await self._ask(client, version))[1]

    async def text(self, client: ComfyUIClient, version: str | None) -> bytes:
        """Request the definitions, and return them as JSON text."""
        async with self._lock:
            return (await self._ask(client, version))[0]

    async def offline(self) -> DefinitionSet:
        """Return the last definitions that were received, else those of the core nodes."""
        async with self._lock:
            if self._offline is None:
                self._offline = await asyncio.to_thread(self._read)
            return self._offline

    async def _ask(self, client: ComfyUIClient, version: str | None) -> tuple[bytes, DefinitionSet]:
        asked_at, connections = time.monotonic(), self._connections
        try:
            text, object_info = await client.object_info()
            replacements = await client.node_replacements()
        except ComfyUIUnavailableError as error:
            if self._connections == connections:
                self._error, self._failed_at = error, time.monotonic()
            raise
        live = self._live
        about = json.dumps({"comfyui_version": version, "node_replacements": replacements})
        digest = sha256(text + about.encode()).hexdigest()
        if live is not None and live.digest == digest:
            definitions = live.definitions
        else:
            packed = await asyncio.to_thread(self._keep, text, about)
            definitions = DefinitionSet(object_info, "live", version, replacements, packed=packed)
        self._offline = None
        if self._connections == connections:
            self._live, self._error = _Live(client, definitions, digest, asked_at), None
        return text, definitions

    def _keep(self, text: bytes, about: str) -> bytes:
        found = {kind.decode() for kind in _KINDS.findall(text)} - self._told
        self._told |= found
        newer = [kind for kind in sorted(found) if is_newer(kind)]
        if newer:
            kinds = ", ".join(newer[:MAX_KINDS])
            log.warning("ComfyUI has kinds of inputs that are not known here: %s", kinds)
        whole = b'%s, "object_info": %s}' % (about.removesuffix("}").encode(), text)
        packed = gzip.compress(whole, 1)
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._cache, packed)
        except OSError as error:
            log.warning("The node definitions cannot be stored for later: %s", error)
        return packed

    def _read(self) -> DefinitionSet:
        try:
            return DefinitionSet.unpacked(self._cache.read_bytes(), "cached")
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
            return DefinitionSet.unpacked(_bundle(), "bundled")


def _bundle() -> bytes:
    return files(__package__).joinpath(BUNDLE).read_bytes()


@lru_cache(maxsize=1)
def core_classes() -> tuple[str, Mapping[str, str]]:
    """Return the version of the bundled definitions, and the Python module of each class."""
    kept = jsons.loads(gzip.decompress(_bundle()))
    modules = {name: entry["python_module"] for name, entry in kept["object_info"].items()}
    return kept["comfyui_version"], modules
