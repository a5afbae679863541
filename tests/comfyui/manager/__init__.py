"""A ComfyUI-Manager that answers as the real one, and installs from a list instead of the internet.

`manager.json` in ComfyUI's base directory says which one: ``version`` ("3", "4", or "4-pages" for
Manager 4 with its older page), ``security_level``, ``loopback``, ``delay`` of an installation, and
``packs``: by id or address, the ``classes`` in the list, and the ``code`` that is installed, of a
pack in the registry also by its version in ``versions``; or the repository that is cloned.
``models`` is its list of models.
"""

from __future__ import annotations

import json
import logging
import queue
import subprocess
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
            if (folder / ".git").exists():
                commit = git("-C", str(folder), "rev-parse", "HEAD")
                is_detached = not (folder / ".git/HEAD").read_text().startswith("ref: ")
                found[folder.name]["ver"] = f"{commit}\n" if is_detached else commit
    return found


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


AT_START = installed()


def is_allowed(*, is_unknown: bool) -> bool:
    return CONFIG.get("security_level", "normal") != "strong" and not is_unknown


def install(key: str, version: str) -> str:
    log.info("Collecting \x1b[1m%s", key)
    time.sleep(CONFIG.get("delay", 0))
    by_folder = {each.rpartition("/")[2]: each for each in CONFIG["packs"]}
    pack = by_folder.get(key)
    is_known = version == "unknown" if "/" in (pack or "") else version != "unknown"
    about = CONFIG["packs"].get(pack, {})
    versions = {"latest": about.get("code"), **about.get("versions", {})}
    clone = about.get("clone") if version in ("unknown", "nightly") else None
    if pack is None or not is_known or (clone is None and version not in (*versions, "unknown")):
        return f"Cannot resolve install target: '{key}@{version}'"
    code = versions.get(version, about.get("code"))
    if code is None and clone is None:
        log.error("[ComfyUI-Manager] Installation failed:\nfailed to fetch the archive")
        return "failed to fetch the archive"
    folder = NODES / key
    aux_id = pack.removeprefix("https://github.com/") if "/" in pack else None
    newest = max(about.get("versions", {}), default="1.0.0")
    facts = {"ver": newest if version == "latest" else version, "aux_id": aux_id}
    facts["cnr_id"] = None if aux_id else pack
    if clone is not None:
        git("clone", "-q", clone, str(folder))
        if version == "nightly":
            (folder / ".git/.cnr-id").write_text(pack)
        git("-C", str(folder), "remote", "set-url", "origin", f"https://github.com/{aux_id}")
    else:
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(code)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{pack}"\nversion = "{facts["ver"]}"\n'
        )
        (folder / ".tracking").write_text("__init__.py\npyproject.toml\n")
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


def repository(key: str) -> str:
    return f"https://github.com/registered/{key}"


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
        is_clone = wanted["selected_version"] == "nightly"
        if is_clone and wanted.get("repository") != repository(wanted["id"]):
            log.error("ERROR: This action requires BOTH: (1) 'allow_git_url_install = true'")
            return web.Response(status=404)
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


if VERSION != "4":

    @routes.get(f"{PREFIX}/customnode/getlist")
    async def list_packs(request: web.Request) -> web.Response:
        assert dict(request.query) == {"mode": "cache", "skip_update": "true"}
        packs = {key: {"repository": repository(key)} for key in CONFIG["packs"] if "/" not in key}
        return web.json_response({"channel": "default", "node_packs": packs})


@routes.get(f"{PREFIX}/externalmodel/getlist")
async def list_models(request: web.Request) -> web.Response:
    assert request.query["mode"] == "cache"
    return web.json_response({"models": CONFIG.get("models", [])})


@routes.get(f"{PREFIX}/snapshot/get_current")
async def snapshot(_: web.Request) -> web.Response:
    packs = installed()
    urls = {name: f"https://github.com/{each['aux_id']}" for name, each in packs.items()}
    cloned = {name for name in packs if (NODES / name / ".git").exists()}
    return web.json_response(
        {
            "comfyui": "c" * 40,
            "git_custom_nodes": {
                **{urls[name]: {"hash": packs[name]["ver"], "disabled": False} for name in cloned},
                "/home/ada/mine": {"hash": "a" * 40, "disabled": False},
            },
            "cnr_custom_nodes": {
                each["cnr_id"]: each["ver"]
                for name, each in packs.items()
                if name not in cloned and each["cnr_id"]
            },
            "file_custom_nodes": [],
            "pips": {"numpy==2.2.0": "", "torch==2.9.0+cpu": "", "-e git+bad": ""},
        }
    )


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
