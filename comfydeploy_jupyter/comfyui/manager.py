"""ComfyUI-Manager in a ComfyUI: the node packs that it knows, and how it installs one.

Manager 3 and 4 have other paths and other requests, and Manager 4 with its older page has those of
a third kind. All of them queue an installation, and tell its end only to their own page in words;
what they refuse, they say in ComfyUI's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import ComfyDeployError, ConflictError, TooLargeError
from ..util import worker
from .client import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .client import ComfyUIClient

INTERVAL = 1.0  # seconds between two looks at an installation
MAX_WORDS = 600  # characters of what Manager says
MAX_LINE = 200  # characters of a line of ComfyUI's log
_CHANNEL = {"channel": "default", "mode": "cache"}
_VERSION = re.compile(r"[\w.+ -]{1,40}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]{1,200}(?:/[A-Za-z0-9._~%-]{1,200}){1,8}")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^\[(?:ERROR|WARNING)\]\s*")  # which newer ComfyUIs write first
# In the lines of ComfyUI's log that say why something was not installed.
_WHY = re.compile(r"security_level|allow_git_url_install|Manager\].*fail|ERROR", re.DOTALL)


@dataclass(frozen=True)
class Pack:
    """A node pack: its id in ComfyUI's registry, or the https address of its repository."""

    id: str
    title: str

    @property
    def in_registry(self) -> bool:
        return not self.id.startswith("https://")

    @property
    def url(self) -> str:
        """The page about it."""
        return f"https://registry.comfy.org/nodes/{self.id}" if self.in_registry else self.id

    @property
    def folder(self) -> str:
        """The name by which Manager knows one that is not in the registry."""
        return self.id.removesuffix(".git").rpartition("/")[2]

    def is_in(self, installed: dict[str, Any]) -> dict[str, Any] | None:
        """Return what Manager says of it among the installed and enabled ones; None without it."""
        return installed.get(self.folder_in(installed))

    def folder_in(self, installed: dict[str, Any]) -> str:
        """Return the folder of an installed and enabled pack; empty if it is not installed."""
        _, _, repository = self.id.partition("github.com/")
        for name, known in installed.items():
            if not isinstance(known, dict) or known.get("enabled") is False:
                continue
            names = (known.get("cnr_id"), known.get("aux_id"), name)
            mine = {self.id.lower(), self.folder.lower(), repository.removesuffix(".git").lower()}
            if mine & {str(each).lower() for each in names if each}:
                return name
        return ""


def pack_of(name: str, title: str = "") -> Pack | None:
    """Return the pack that a workflow or Manager's list names; None if the name can be none."""
    if _REPOSITORY.fullmatch(name):  # the `aux_id` of a workflow
        return Pack(f"https://github.com/{name}", title or name)
    if _ID.fullmatch(name) or _ADDRESS.fullmatch(name):
        return Pack(name, title or name)
    return None


class Manager:
    """The ComfyUI-Manager of one ComfyUI."""

    def __init__(self, client: ComfyUIClient, version: str, prefix: str, in_batches: bool) -> None:
        self.version = version
        self._client = client
        self._prefix = prefix
        self._in_batches = in_batches

    @classmethod
    async def find(cls, client: ComfyUIClient) -> Manager | None:
        """Return the Manager of a ComfyUI; None if it has none, or one before version 3."""
        for prefix in ("/v2", ""):
            status, text = await client.answer("GET", f"{prefix}/manager/version")
            version = text[:100].decode(errors="replace").strip()
            if status != 200 or not _VERSION.fullmatch(version):
                continue
            in_batches = False
            if prefix:
                _, about = await client.answer("GET", "/v2/manager/is_legacy_manager_ui")
                in_batches = b"true" in about[:100]
            elif (await client.answer("GET", "/manager/queue/status"))[0] != 200:
                return None
            return cls(client, version.removeprefix("V"), prefix, in_batches)
        return None

    async def packs_with(self, classes: Iterable[str]) -> dict[str, list[Pack]]:
        """Return the packs that have node classes, by the class."""
        text = b"{}"
        for mode in ("cache", "local"):  # without the internet, Manager has only its own list
            with contextlib.suppress(ComfyDeployError):
                path = f"{self._prefix}/customnode/getmappings?mode={mode}"
                text = await self._client.request("GET", path, compressed=True)
                break
        found = await worker.call(_search, text, sorted(set(classes)))
        return {
            name: [pack for key, title in packs if (pack := pack_of(key, title)) is not None]
            for name, packs in found.items()
        }

    async def installed(self, *, at_start: bool = False) -> dict[str, Any]:
        """Return the packs that are installed, or were when ComfyUI started."""
        query = "?mode=imported" if at_start else ""
        return await self._client.get_object(f"{self._prefix}/customnode/installed{query}")

    async def snapshot(self) -> dict[str, Any]:
        """Return what it would restore: commits and versions of ComfyUI, packs and packages."""
        return await self._client.get_object(f"{self._prefix}/snapshot/get_current")

    async def model_links(self) -> dict[str, str]:
        """Return the addresses of the models that it knows, by the names of their files."""
        path = f"{self._prefix}/externalmodel/getlist?mode=cache"
        text = await self._client.request("GET", path, compressed=True)
        return await worker.call(_links, text)

    async def why_not_loaded(self, pack: Pack) -> str:
        """Return why ComfyUI could not load an installed pack; empty if Manager does not say."""
        key = "cnr_id" if pack.in_registry else "url"
        path = f"{self._prefix}/customnode/import_fail_info"
        status, text = await self._client.answer("POST", path, _json({key: pack.id}))
        if status == 200:
            with contextlib.suppress(ComfyDeployError):
                return _brief(str((await parse_object(text)).get("msg") or ""))
        return ""

    async def install(
        self, pack: Pack, id_: str, tell: Callable[[str], object], version: str = "latest"
    ) -> None:
        """Install a pack and wait until that is done; ConflictError says why it was not.

        ``tell`` gets the last line of ComfyUI's log, where the packages are named that it installs.
        ``version``: of the registry; ``nightly`` is the newest commit of its repository.
        """
        log = await self._log()
        since = log[-1][0] if log else ""
        wanted = pack.id if pack.in_registry else pack.folder
        version = version if pack.in_registry else "unknown"
        facts: dict[str, Any] = {"id": wanted, "version": version, **_CHANNEL}
        facts["selected_version"] = version
        if self._prefix and not self._in_batches:
            task = {"ui_id": id_, "client_id": id_, "kind": "install", "params": facts}
            await self._order("queue/task", task, since)
        else:
            if version == "nightly":
                facts["repository"] = await self._repository(pack)
            one = {**facts, "files": [pack.id], "ui_id": id_, "skip_post_install": False}
            order = {"batch_id": id_, "install": [one]} if self._in_batches else one
            kind = "batch" if self._in_batches else "install"
            said = await self._order(f"queue/{kind}", order, since)
            if self._in_batches and (await parse_object(said)).get("failed"):
                raise ConflictError(await self._why(since) or "ComfyUI-Manager refuses it")
        if not self._in_batches:
            await self._order("queue/start", None, since)
        result = await self._result(id_, since, tell)
        if result not in ("success", "skip") and not pack.is_in(await self.installed()):
            words = "" if result in (None, "failed") else result
            why = await self._why(since)
            raise ConflictError(why or _brief(words or "") or "ComfyUI-Manager did not install it")

    async def _repository(self, pack: Pack) -> str | None:
        """Return the repository of a pack of the registry, by which Manager decides on a clone."""
        path = f"{self._prefix}/customnode/getlist?mode=cache&skip_update=true"
        with contextlib.suppress(ComfyDeployError):
            text = await self._client.request("GET", path, compressed=True)
            return await worker.call(_repository_of, text, pack.id)
        return None

    async def _result(self, id_: str, since: str, tell: Callable[[str], object]) -> str | None:
        """Wait until an installation is done; return Manager's word for its end, if it has one."""
        has_history = self._prefix and not self._in_batches
        while True:
            status = await self._client.get_object(f"{self._prefix}/manager/queue/status")
            if has_history:
                query = urlencode({"ui_id": id_})
                found = await self._client.get_object(f"/v2/manager/queue/history?{query}")
                task = found.get("history")
                if isinstance(task, dict) and task.get("result"):
                    return str(task["result"])
            if not status.get("is_processing"):
                return None
            lines = [_plain(line) for time, line in await self._log() if time > since]
            if said := [line for line in lines if line]:
                tell(said[-1][-MAX_LINE:])
            await asyncio.sleep(INTERVAL)

    async def _order(self, path: str, body: dict[str, Any] | None, since: str) -> bytes:
        path = f"{self._prefix}/manager/{path}"
        content = None if body is None else _json(body)
        status, text = await self._client.answer("POST", path, content)
        if status == 405:  # before Manager 3.38
            status, text = await self._client.answer("GET", path)
        if status == 413:
            raise TooLargeError("ComfyUI does not accept a body of this size")
        if status >= 300:
            words = _brief(text.decode(errors="replace"))
            why = await self._why(since)
            raise ConflictError(why or words or f"ComfyUI-Manager answered {status}")
        return text

    async def _log(self) -> list[tuple[str, str]]:
        """Return times and lines of the end of ComfyUI's log; none if it does not tell them."""
        with contextlib.suppress(ComfyDeployError):
            entries = (await self._client.get_object("/internal/logs/raw")).get("entries")
            if isinstance(entries, list):
                found = [each for each in entries if isinstance(each, dict)]
                return [(str(each.get("t", "")), str(each.get("m", ""))) for each in found]
        return []

    async def _why(self, since: str) -> str:
        """Return what the log says since a time about what was not installed."""
        lines = [_LEVEL.sub("", _plain(line)) for time, line in await self._log() if time > since]
        return _brief("\n".join([line for line in lines if _WHY.search(line)][-3:]))


def _search(text: bytes, classes: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the keys and titles of Manager's list that have classes; those that name it first."""
    try:
        packs = json.loads(text)
    except ValueError:
        packs = None
    named: dict[str, list[tuple[str, str]]] = {name: [] for name in classes}
    matching: dict[str, list[tuple[str, str]]] = {name: [] for name in classes}
    for key, entry in packs.items() if isinstance(packs, dict) else ():
        match entry:
            case [list() as having, dict() as about, *_]:
                one = key, str(about.get("title_aux") or "")
                pattern = about.get("nodename_pattern")
                names = {each for each in having if isinstance(each, str)}
                for name in classes:
                    if name in names:
                        named[name].append(one)
                    elif isinstance(pattern, str) and _matches(pattern, name):
                        matching[name].append(one)
    return {name: [*named[name], *matching[name]] for name in classes}


def _repository_of(text: bytes, pack_id: str) -> str | None:
    try:
        found = json.loads(text)["node_packs"][pack_id]["repository"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _links(text: bytes) -> dict[str, str]:
    try:
        listed = json.loads(text)["models"]
    except (ValueError, KeyError, TypeError):
        listed = None
    links: dict[str, str] = {}
    for entry in listed if isinstance(listed, list) else ():
        match entry:
            case {"filename": str(name), "url": str(url)}:
                links.setdefault(name, url)
    return links


def _matches(pattern: str, name: str) -> bool:
    with contextlib.suppress(re.error):
        return re.match(pattern, name[:200]) is not None
    return False


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _plain(text: str) -> str:
    return "".join(c for c in _ANSI.sub("", text) if c == "\n" or c.isprintable()).strip()


def _brief(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= MAX_WORDS else f"{plain[: MAX_WORDS - 1]}…"
