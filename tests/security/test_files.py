"""The files that the routes read and write, with any names, and the headers for browsers."""

import itertools
import json
import os
import re
from urllib.parse import urlencode

import pytest

from comfydeploy_jupyter.handlers import operations
from comfydeploy_jupyter.util.media_types import media_type
from tests.helpers.selection import few

from .conftest import EVIL, routes

SECRET = "what is outside"


@pytest.fixture
def home(tmp_path):
    """The folder of a ComfyUI that does not run, and private files beside it."""
    home = tmp_path / "ComfyUI"
    for folder in ("comfy", "models/loras", "input/sub", "output", "temp"):
        (home / folder).mkdir(parents=True)
    (home / "main.py").touch()
    for place in (tmp_path / "outside", home / "custom_nodes"):
        place.mkdir()
        (place / "secret.png").write_text(SECRET)
    for root in ("models/loras", "input", "output", "temp"):
        (home / root / "link.png").symlink_to(tmp_path / "outside/secret.png")
        (home / root / "way").symlink_to(tmp_path / "outside")
        os.mkfifo(home / root / "pipe.png")
    return home


@pytest.fixture
def settings(home):
    return {"comfyui_path": str(home), "allowed_api_urls": ["http://127.0.0.1:9"]}


# -- confinement -------------------------------------------------------------------------------

MODEL = {"action": "add", "source": "local", "path": "models/loras/a", "folder": "loras"}
TO_CLOUD = {**MODEL, "target": "cloud", "cd_token": "key", "api_url": "http://127.0.0.1:9"}
MOVE = {"action": "move", "folder": "loras", "filename": "a", "to_folder": "loras"}
PRESIGNED = {"url": "http://127.0.0.1:9/presign"}
PART = {"uploadUrl": "http://127.0.0.1:9/put", "start": 0, "end": 1}
INPUT = {"workflow_api": {"1": {"class_type": "ComfyUIDeployExternalImage", "inputs": {}}}}
# Of each field that takes a path or a part of one: what else is asked for with it.
FIELDS = {
    ("get", "get-file-hash", "filename"): ({},),
    ("get", "get-file-hash", "file_path"): ({},),
    ("get", "fs/stat", "path"): ({},),
    ("get", "view", "filename"): ({}, {"type": "input"}, {"thumbnail": 64}),
    ("get", "editor/workflow", "file"): ({},),
    ("get", "view", "subfolder"): ({"filename": "secret.png"},),
    ("head", "view", "filename"): ({},),
    ("head", "view", "subfolder"): ({"filename": "secret.png"},),
    ("get", "models", "folder"): ({},),
    ("get", "models/preview", "folder"): ({"filename": "a"},),
    ("get", "models/preview", "filename"): ({"folder": "loras"},),
    ("get", "models/uses", "folder"): ({"filename": "a"},),
    ("get", "models/uses", "filename"): ({"folder": "loras"},),
    ("post", "upload-file", "file_path"): (PRESIGNED,),
    ("post", "api/v2/assets/from-hash", "file_path"): ({"hash": f"blake3:{'0' * 64}"},),
    ("post", "volume/file/upload-part-from-path", "filePath"): (PART,),
    ("post", "volume/model", "path"): (MODEL, TO_CLOUD),
    ("post", "volume/model", "folder"): (MODEL, {**MOVE, "action": "delete"}),
    ("post", "volume/model", "folderPath"): ({**MODEL, "folder": None},),
    ("post", "volume/model", "filename"): (MODEL, {**MOVE, "action": "delete"}, MOVE),
    ("post", "volume/model", "to_folder"): (MOVE,),
    ("post", "volume/model", "to_filename"): (MOVE,),
    ("post", "workflow/convert", "filename"): ({"type": "output"}, {"type": "input"}),
    ("post", "workflow/convert", "subfolder"): ({"filename": "secret.png", "type": "output"},),
    ("post", "workflow/outline", "filename"): ({"type": "file"}, {"type": "editor"}),
    ("post", "workflow/outline", "subfolder"): ({"filename": "secret.png", "type": "output"},),
    ("post", "workflow/export", "filename"): ({"type": "file", "path": "a.json"},),
    ("post", "workflow/export", "subfolder"): (
        {"filename": "secret.png", "type": "output", "path": "a.json"},
    ),
    ("post", "workflow/export", "path"): (INPUT,),
    ("get", "workflow/files", "folder"): ({},),
    ("post", "workflow/schema", "filename"): ({"type": "output"}, {"type": "input"}),
    ("post", "workflow/schema", "subfolder"): ({"filename": "secret.png", "type": "output"},),
    ("post", "workflow/form", "filename"): ({"type": "output"}, {"type": "input"}),
    ("post", "workflow/form", "subfolder"): ({"filename": "secret.png", "type": "output"},),
    ("post", "snapshot-to-docker", "name"): ({"snapshot": {"comfyui": {}}},),
}
# What only names something inside a folder stays there, whatever it is.
INSIDE = {
    ("get", "models/uses", "filename"),
    ("post", "volume/model", "filename"),
    ("post", "volume/model", "to_filename"),
    ("post", "snapshot-to-docker", "name"),
}
# They name a program or a folder that this user may have used anyway; see docs/security.md.
PROGRAMS = {"comfyui_path", "shared_dir"}
# Whether the files of runs are deleted too, and one of three forms of a reply.
NO_PATHS = {
    ("post", "runs/delete", "files"),
    ("delete", "batch/{batch_id}", "files"),
    ("get", "runs/{run_id}/environment", "file"),
}
# Parts of the form of an upload: tests/files/test_names.py and test_uploads.py.
IN_FORMS = {("post", "upload-file", "subfolder")}


def spellings(outside):
    up = f"{'/'.join(['..'] * 12)}{outside}"
    beside = f"../../{outside.parent.name}/secret.png"
    return [  # one of each kind first
        *(str(outside), "../outside/secret.png", "link.png", "way/secret.png", "pipe.png"),
        *(f"{outside}\0.png", "/dev/zero", "..", "a" * 5000, up, beside.replace("/", "\\")),
        *(
            f"/{up}",
            f"//{outside}",
            f"input/{up}",
            f"models/loras/{up}",
            "../../outside/secret.png",
        ),
        *(f"models/loras/../../custom_nodes/{beside}", "../custom_nodes/secret.png"),
        *("....//....//outside/secret.png", "./.././../outside/secret.png", "input/link.png"),
        *("models/loras/link.png", "output/way/secret.png", "way", "input/pipe.png"),
        *("/proc/self/environ", "/etc/passwd", "~/.ssh/id_rsa", f"file://{outside}", "\0", "/"),
        *(up.replace("/", "\\"), str(outside).replace("/", "%2f"), "../outside/secret.png "),
    ]


def test_every_field_that_takes_a_path_is_tried():
    names = re.compile(r"path|file|folder|dir", re.IGNORECASE)
    found = set()
    for operation in operations():
        declared = operation.declared
        models = [declared.query, *(content.schema for content in declared.bodies)]
        for model in models:
            for name, field in getattr(model, "model_fields", {}).items():
                spelled = field.alias or name
                route = operation.path.removeprefix("/comfyui-deploy/")
                if names.search(spelled) and spelled not in PROGRAMS:
                    found.add((operation.method.lower(), route, spelled))
    endpoints = {key for key in found if key[2] == "file_upload_endpoint"}
    assert {key[1] for key in endpoints} == {"run", "run/streaming"}, "an address, no path"
    assert found - endpoints - IN_FORMS - NO_PATHS <= FIELDS.keys()


@pytest.mark.timeout(600)
async def test_no_spelling_leads_outside(call, jp_auth_header, home, tmp_path):
    (home / "models/loras/a").write_text("a model")
    before = _everything(tmp_path)
    tried = few(spellings(tmp_path / "outside/secret.png"), 6)
    for field, others in FIELDS.items():
        for other, spelling in itertools.product(others, tried):
            method, route, name = field
            given = {key: value for key, value in {**other, name: spelling}.items() if value}
            path = f"comfyui-deploy/{route}"
            body = given if method == "post" else None
            query = "" if method == "post" else f"?{urlencode(given)}"
            response = await call(method.upper(), path + query, dict(jp_auth_header), body)
            refused = 400 <= response.code < 500
            inside = field in INSIDE and response.code == 200
            assert refused or inside, (field, given, response.body)
            assert SECRET.encode() not in (response.body or b"")
    assert _everything(tmp_path) == before


def _everything(folder):
    return {
        str(path): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
        if not {"data", "loras"} & set(path.relative_to(folder).parts)
    }


# -- headers for browsers ----------------------------------------------------------------------

HARMLESS = re.compile(r"image/(?!svg)[\w.+-]+|video/[\w.+-]+|audio/[\w.+-]+|text/plain")
SCRIPTS = (
    *("a.html", "a.HTM", "a.xhtml", "a.XHT", "a.xml", "a.svg", "a.SVG", "a.svgz", "a.js", "a.mjs"),
    *("a.pdf", "a.mhtml", "a.mht", "a.swf", "a.xsl", "a.css", "a.json", "a.wasm", "a.htc", "a.hta"),
    *("a", "a.", ".html", "a.unknown", "a.png.html", "a.html ", "a.xbl", "a.rdf"),
    *("a;b.html", "data:image,a.html", "a.vtt", "a.webmanifest"),
)
SHOWN = ("a.png", "a.html.png", "a.html%00.png", "a.PNG", "a.mp4", "a.flac", "a.txt", "a.webp")
POLYGLOT = b"GIF89a/*<html><script>alert(1)</script>*/=1"


async def test_no_output_runs_scripts_in_jupyters_origin(call, jp_auth_header, home):
    for name in (*SCRIPTS, *SHOWN):
        (home / "output" / name).write_bytes(POLYGLOT)
        query = urlencode({"filename": name, "content_type": "text/html"})
        response = await call("GET", f"comfyui-deploy/view?{query}", dict(jp_auth_header))
        assert (response.code, response.body) == (200, POLYGLOT), name
        kind, shown = response.headers["Content-Type"], response.headers["Content-Disposition"]
        if name in SHOWN:
            assert HARMLESS.fullmatch(kind), (name, kind)
        else:
            assert kind == "application/octet-stream", (name, kind)
            assert shown.startswith("attachment")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_a_media_type_is_valid_and_follows_from_the_suffix():
    for name in (
        'data:video/x"><script>alert(1)<!--,a.mp4',
        "data:image/png\r\nSet-Cookie: a=1,a.png",
        "http://x/a?b.mp4",
        "a\r\nX: 1.png",
    ):
        assert re.fullmatch(r"[\w.+-]+/[\w.+-]+", media_type(name) or "")


async def test_a_file_name_cannot_add_a_header(call, jp_auth_header, home):
    for name in ('a\r\nSet-Cookie: a=1".png', "ä\u2028\x1b[2J.png", "a%0d%0aX: 1.png"):
        (home / "output" / name).write_bytes(b"x")
        path = f"comfyui-deploy/view?{urlencode({'filename': name})}"
        response = await call("GET", path, dict(jp_auth_header))
        assert response.code == 200
        assert "a=1" not in "".join(response.headers.get_list("Set-Cookie"))
        assert "X" not in response.headers
        shown = response.headers["Content-Disposition"]
        assert re.fullmatch(r"inline; filename\*=UTF-8''[\w%.-]+", shown)


async def test_replies_are_data_and_are_not_cached(call, jp_auth_header):
    """The replies of all routes of this extension, without a ComfyUI."""
    for method, path in routes():
        response = await call(method, path, {**jp_auth_header, "Origin": EVIL})
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
        policy = response.headers["Content-Security-Policy"]
        if path.startswith("comfyui/") or path.endswith(("/ws", "/overview")):
            assert "frame-ancestors 'self'" in policy
            continue
        assert "default-src 'none'" in policy, path
        if not path.endswith(("openapi.json", "view")) or response.code >= 400:
            assert response.headers["Cache-Control"] == "no-store", path
        if method != "HEAD" and not path.endswith("/app"):  # a page
            json.loads(response.body)
