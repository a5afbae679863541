"""A ComfyUI-Manager that answers as the real one, and installs from a list instead of the internet.

`manager.json` in ComfyUI's base directory says which one: ``version`` ("3", "4", or "4-pages" for
Manager 4 with its older page), ``security_level``, ``loopback``, ``delay`` of an installation, and
``packs``: by id or address, the ``classes`` in the list, and the ``code`` that is installed.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer

CONFIG = json.loads(Path(folder_paths.base_path, "manager.json").read_text())
VERSION = CONFIG["version"]
NODES = Path(folder_paths.get_folder_paths("custom_nodes")[0])
PREFIX = "/v2" if VERSION.startswith("4") else ""
REFUSED = (
    "ERROR: To use this action, security_level must be any value other than 'strong'. Please"
    " contact the administrator.\nReference: https://example.org/security-policy"
)
log = logging.getLogger(__name__)
NODE_CLASS_MAPPINGS: dict[str, type] = {}
routes = PromptServer.instance.routes
tasks: queue.Queue = queue.Queue()
history: dict[str, dict] = {}
unfinished: list[str] = []
worker: threading.Thread | None = None


def installed() -> dict[str, dict]:
    found = {}
    for folder in NODES.iterdir():
        facts = folder / "pack.json"
        if facts.exists():
            found[folder.name] = {**json.loads(facts.read_text()), "enabled": True}
    return found


AT_START = installed()


def is_allowed(*, is_unknown: bool) -> bool:
    return CONFIG.get("security_level", "normal") != "strong" and not is_unknown


def install(key: str, version: str) -> str:
    time.sleep(CONFIG.get("delay", 0))
    by_folder = {each.rpartition("/")[2]: each for each in CONFIG["packs"]}
    pack = by_folder.get(key)
    if pack is None or ("/" in pack) != (version == "unknown"):
        return f"Cannot resolve install target: '{key}@{version}'"
    code = CONFIG["packs"][pack].get("code")
    if code is None:
        log.error("[ComfyUI-Manager] Installation failed:\nfailed to fetch the archive")
        return "failed to fetch the archive"
    folder = NODES / key
    folder.mkdir(exist_ok=True)
    is_known = "/" not in pack
    aux_id = None if is_known else pack.removeprefix("https://github.com/")
    facts = {"ver": "1.0.0", "cnr_id": pack if is_known else None, "aux_id": aux_id}
    (folder / "__init__.py").write_text(code)
    (folder / "pack.json").write_text(json.dumps(facts))
    return "success"


def work() -> None:
    while not tasks.empty():
        id_, key, version = tasks.get()
        if VERSION == "4" and not is_allowed(is_unknown=False):
            log.error(REFUSED)
            result = "failed"
        else:
            result = install(key, version)
        unfinished.remove(id_)
        if VERSION == "4":
            history[id_] = {"ui_id": id_, "kind": "install", "result": result}


def put(id_: str, key: str, version: str) -> None:
    unfinished.append(id_)
    tasks.put((id_, key, version))


def start() -> int:
    global worker
    if worker is not None and worker.is_alive():
        return 201
    worker = threading.Thread(target=work)
    worker.start()
    return 200


def accept(wanted: dict) -> web.Response:
    """Check and queue a request of Manager 3."""
    if not is_allowed(is_unknown=False):
        log.error(REFUSED)
        words = "A security error has occurred. Please check the terminal logs"
        return web.Response(status=403, text=words)
    if wanted["version"] == "unknown":
        if not is_allowed(is_unknown=wanted["files"][0] not in CONFIG["packs"]):
            log.error("ERROR: This action requires BOTH: (1) 'allow_git_url_install = true'")
            words = "A security error has occurred. Please check the terminal logs"
            return web.Response(status=404, text=words)
        put(wanted["ui_id"], wanted["files"][0].rpartition("/")[2], "unknown")
    else:
        put(wanted["ui_id"], wanted["id"], wanted["selected_version"])
    assert wanted["channel"] == "default"
    assert wanted["mode"] == "cache"
    return web.Response()


@routes.get(f"{PREFIX}/manager/version")
async def version(_: web.Request) -> web.Response:
    return web.Response(text=f"V{VERSION[0]}.39")


@routes.get(f"{PREFIX}/customnode/getmappings")
async def mappings(request: web.Request) -> web.Response:
    assert request.query["mode"] in ("cache", "local")
    packs = CONFIG["packs"].items()
    about = {key: {"title_aux": pack.get("title", key)} for key, pack in packs}
    for key, pack in packs:
        if "pattern" in pack:
            about[key]["nodename_pattern"] = pack["pattern"]
    return web.json_response({key: [pack["classes"], about[key]] for key, pack in packs})


@routes.get(f"{PREFIX}/customnode/installed")
async def list_installed(request: web.Request) -> web.Response:
    return web.json_response(AT_START if request.query.get("mode") == "imported" else installed())


@routes.post(f"{PREFIX}/customnode/import_fail_info")
async def fail_info(request: web.Request) -> web.Response:
    wanted = (await request.json()).get("cnr_id")
    why = CONFIG["packs"].get(wanted, {}).get("why")
    return web.json_response({"msg": why}) if why else web.Response(status=400)


@routes.get(f"{PREFIX}/manager/queue/status")
async def status(_: web.Request) -> web.Response:
    is_processing = worker is not None and worker.is_alive()
    return web.json_response({"total_count": len(unfinished), "is_processing": is_processing})


if VERSION != "4-pages":

    @routes.post(f"{PREFIX}/manager/queue/start")
    async def queue_start(request: web.Request) -> web.Response:
        forms = ("multipart/form-data", "text/plain", "application/x-www-form-urlencoded")
        return web.Response(status=400 if request.content_type in forms else start())


if VERSION == "3":

    @routes.post("/manager/queue/install")
    async def queue_install(request: web.Request) -> web.Response:
        return accept(await request.json())


elif VERSION == "4":

    @routes.post("/v2/manager/queue/task")
    async def queue_task(request: web.Request) -> web.Response:
        task = await request.json()
        assert task["kind"] == "install"
        wanted = task["params"]
        assert {"id", "version", "selected_version", "mode", "channel"} <= wanted.keys()
        put(task["ui_id"], wanted["id"], wanted["selected_version"])
        return web.Response()

    @routes.get("/v2/manager/queue/history")
    async def queue_history(request: web.Request) -> web.Response:
        return web.json_response({"history": history.get(request.query["ui_id"], {})})


else:

    @routes.post("/v2/manager/queue/batch")
    async def queue_batch(request: web.Request) -> web.Response:
        batch = await request.json()
        failed = [each["id"] for each in batch["install"] if accept(each).status != 200]
        start()
        return web.json_response({"failed": failed})


@routes.get("/v2/manager/is_legacy_manager_ui")
async def is_legacy(_: web.Request) -> web.Response:
    return web.json_response({"is_legacy_manager_ui": VERSION == "4-pages"})
