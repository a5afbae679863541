"""The routes of models and files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import uuid

import pytest

from comfydeploy_jupyter.files.uploads import BATCH, STAGING_PREFIX
from tests.helpers.disks import files_limited_to
from tests.helpers.waiting import until_async


@pytest.fixture(params=["folders", "remote"])
def where(request):
    return request.param


@pytest.fixture
def extension_config(comfyui, tmp_path, where):
    config = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}
    if where == "folders":
        config["comfyui_path"] = str(comfyui.path)
    return config


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body of (field, filename, content) and its headers."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, filename, content in parts:
        extra = f'; filename="{filename}"' if filename is not None else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode()
        )
        body += content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@pytest.fixture
def upload(api):
    async def send(*parts: tuple[str, str | None, bytes]):
        body, headers = form(*parts)
        return await api.post("upload-file", body, headers=headers)

    return send


async def test_upload_and_view(upload, api, comfyui):
    content = os.urandom(300_000)
    name = f"{uuid.uuid4().hex} ü.png"
    code, body = await upload(("subfolder", None, b"pics"), ("file", name, content))
    assert code == 200, body
    assert body["success"] is True
    assert (body["filename"], body["name"]) == (name, name)
    assert (body["subfolder"], body["type"], body["size"]) == ("pics", "input", len(content))
    assert body["content_type"] == "image/png"
    assert body["file_hash"] == hashlib.sha256(content).hexdigest()
    assert (comfyui.input_dir / "pics" / name).read_bytes() == content
    seen = await api.raw(
        "GET", "view", params={"filename": name, "subfolder": "pics", "type": "input"}
    )
    assert seen.body == content
    assert body["url"].endswith("type=input")


async def test_full_disk(upload, comfyui, tmp_path):
    """For a ComfyUI on another machine the local disk is full: it receives the whole file first."""
    name = f"{uuid.uuid4().hex}.bin"
    content = os.urandom(2_500_000)
    with files_limited_to(2_000_000):
        code, body = await upload(("file", name, content))
    assert (code, body["code"], body["details"]["field"]) == (413, "too_large", "file")
    assert "no space left" in body["error"]
    outbox = tmp_path / "data" / "outbox"
    for folder in (comfyui.input_dir, outbox):
        assert not [p for p in folder.rglob("*") if name in p.name or STAGING_PREFIX in p.name]
    code, body = await upload(("file", name, content))
    assert (code, body["size"]) == (200, len(content))


async def test_same_content_is_reused_and_other_gets_a_free_name(upload):
    name = uuid.uuid4().hex
    assert (await upload(("file", f"{name}.png", b"one")))[1]["name"] == f"{name}.png"
    assert (await upload(("file", f"{name}.png", b"one")))[1]["name"] == f"{name}.png"
    assert (await upload(("file", f"{name}.png", b"two")))[1]["name"] == f"{name} (1).png"


async def test_overwrite(upload, comfyui):
    name = f"{uuid.uuid4().hex}.png"
    await upload(("file", name, b"one"))
    _, body = await upload(("overwrite", None, b"true"), ("file", name, b"two"))
    assert body["name"] == name
    assert (comfyui.input_dir / name).read_bytes() == b"two"


async def test_several_files(upload):
    stem = uuid.uuid4().hex
    code, body = await upload(("file", f"{stem}-1.txt", b"1"), ("file", f"{stem}-2.txt", b"22"))
    assert code == 200
    assert [file["name"] for file in body["files"]] == [f"{stem}-1.txt", f"{stem}-2.txt"]
    assert body["name"] == f"{stem}-1.txt"


@pytest.mark.parametrize(
    ("parts", "code", "field"),
    [
        ([("type", None, b"input")], 400, "file"),
        ([("type", None, b"moon"), ("file", "a", b"1")], 400, "type"),
        ([("subfolder", None, b"../.."), ("file", "a", b"1")], 403, "subfolder"),
        ([("overwrite", None, b"perhaps"), ("file", "a", b"1")], 400, "overwrite"),
        ([("type", None, b"input"), ("type", None, b"temp"), ("file", "a", b"1")], 400, "type"),
        ([("machine", None, b"other"), ("file", "a", b"1")], 400, "machine"),
        ([("file", "a", b"1"), ("machine", None, b"other")], 400, "machine"),
    ],
)
async def test_bad_forms(upload, comfyui, parts, code, field):
    before = sorted(comfyui.input_dir.rglob("*"))
    status, body = await upload(*parts)
    assert status == code, body
    assert body["details"]["field"] == field
    assert sorted(comfyui.input_dir.rglob("*")) == before


@pytest.mark.parametrize("machine", [b"local", b""])
async def test_the_form_may_repeat_the_machine_of_the_query(upload, machine):
    name = f"{uuid.uuid4().hex}.txt"
    code, body = await upload(("machine", None, machine), ("file", name, b"1"))
    assert (code, body["name"]) == (200, name)


async def test_a_body_that_is_not_a_form(api):
    code, body = await api.post("upload-file", {})
    assert (code, body["code"]) == (400, "invalid_request")
    code, body = await api.post("upload-file", "{")
    assert (code, body["code"]) == (400, "invalid_json")


async def test_upload_larger_than_jupyters_own_limit(upload, http_server):
    http_server.conn_params.max_body_size = 1024
    content = os.urandom(100_000)
    code, body = await upload(("file", f"{uuid.uuid4().hex}.bin", content))
    assert (code, body["size"]) == (200, len(content))


async def test_upload_larger_than_comfyuis_limit(upload, where, comfyui, tmp_path):
    name = f"{uuid.uuid4().hex}.bin"
    content = bytes(101 * 1024 * 1024)
    code, body = await upload(("file", name, content))
    if where == "folders":
        assert (code, body["size"]) == (200, len(content))
        (comfyui.input_dir / name).unlink()
    else:
        assert (code, body["code"]) == (413, "too_large")
        assert not list(comfyui.base_dir.rglob(name))
        assert not list(tmp_path.glob("data/outbox/*"))


async def test_aborted_upload_leaves_nothing(
    extension, http_server, where, comfyui, tmp_path, jp_http_port, jp_base_url, jp_auth_header
):
    tops = [comfyui.base_dir, tmp_path / "data" / "outbox"]

    def files():
        return sorted(path for top in tops for path in top.rglob("*"))

    before = files()
    body, headers = form(("file", "half.bin", os.urandom(3 * BATCH)))
    _, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
    writer.write(
        f"POST {jp_base_url}comfyui-deploy/upload-file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: {jp_auth_header['Authorization']}\r\n"
        f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body[: 2 * BATCH]
    )
    await writer.drain()
    await until_async(lambda: any(STAGING_PREFIX in path.name for path in files()))
    writer.close()
    await until_async(lambda: files() == before)


@pytest.mark.parametrize("where", ["folders"], indirect=True)
class TestFolders:
    """Requests that need ComfyUI's folders."""

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_large_files_over_a_reused_connection(
        self, extension, http_server, comfyui, jp_http_port, jp_base_url, jp_auth_header, chunked
    ):
        stem = uuid.uuid4().hex
        contents = {f"{stem}-{n}.bin": os.urandom(5_000_000 + n) for n in range(3)}
        body, headers = form(*(("file", name, content) for name, content in contents.items()))
        common = (
            "Host: 127.0.0.1\r\nAuthorization: " + jp_auth_header["Authorization"] + "\r\n"
        ).encode()
        size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        if chunked:
            step = 2_500_000
            pieces = [body[start : start + step] for start in range(0, len(body), step)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        reader, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
        address = f"{jp_base_url}comfyui-deploy/"
        writer.write(
            f"POST {address}upload-file HTTP/1.1\r\n".encode()
            + common
            + f"Content-Type: {headers['Content-Type']}\r\n".encode()
            + size
            + b"\r\n\r\n"
            + body
            + f"GET {address}check-ws-status HTTP/1.1\r\nConnection: close\r\n".encode()
            + common
            + b"\r\n"
        )
        answers = await reader.read()
        writer.close()
        assert answers.count(b"HTTP/1.1 200 OK") == 2, answers
        assert b'"connected"' in answers
        for name, content in contents.items():
            assert (comfyui.input_dir / name).read_bytes() == content
            assert hashlib.sha256(content).hexdigest().encode() in answers

    async def test_hash(self, api, comfyui):
        path = comfyui.input_dir / f"{uuid.uuid4().hex}.bin"
        path.write_bytes(b"abc")
        digest = hashlib.sha256(b"abc").hexdigest()
        code, body = await api.get("get-file-hash", filename=f"input/{path.name}")
        assert code == 200
        assert body == {
            "filename": f"input/{path.name}",
            "file_hash": digest,
            "algorithm": "sha256",
            "size": 3,
            "cached": False,
        }
        _, again = await api.get("get-file-hash", file_path=str(path))
        assert again["cached"] is True
        path.write_bytes(b"abcd")
        _, changed = await api.get("get-file-hash", filename=f"input/{path.name}")
        assert (changed["cached"], changed["size"]) == (False, 4)
        assert changed["file_hash"] == hashlib.sha256(b"abcd").hexdigest()

    async def test_hashes_of_removed_files_are_deleted(self, api, comfyui, extension):
        path = comfyui.input_dir / f"{uuid.uuid4().hex}.bin"
        path.write_bytes(b"abc")
        await api.get("get-file-hash", filename=f"input/{path.name}")
        database = extension.services.database.path

        def known() -> int:
            with contextlib.closing(sqlite3.connect(database)) as store:
                query = "SELECT count(*) FROM hashes WHERE path = ?"
                return store.execute(query, (str(path),)).fetchone()[0]

        assert known() == 1
        path.unlink()
        await extension.stop_extension()
        await extension.open_services()
        await until_async(lambda: not known())

    @pytest.mark.parametrize(
        ("params", "code", "error"),
        [
            ({}, 400, "invalid_request"),
            ({"filename": "input/not-there"}, 404, "not_found"),
            ({"filename": "/etc/passwd"}, 403, "forbidden_path"),
            ({"filename": "input/../../../../etc/passwd"}, 403, "forbidden_path"),
            ({"filename": "/proc/self/environ"}, 403, "forbidden_path"),
        ],
    )
    async def test_hash_of_an_unreadable_file(self, api, params, code, error):
        status, body = await api.get("get-file-hash", **params)
        assert (status, body["code"]) == (code, error)

    async def test_stat(self, api, comfyui):
        code, body = await api.get("fs/stat")
        assert code == 200
        assert body["filesystem"]["free"] > 0
        code, body = await api.get("fs/stat", path="input")
        assert (code, body["type"]) == (200, "directory")
        code, body = await api.get("fs/stat", path="input/not-there")
        assert (code, body["code"]) == (404, "not_found")
        code, body = await api.get("fs/stat", path="/etc")
        assert (code, body["code"]) == (403, "forbidden_path")


async def test_models(api, comfyui):
    folder = comfyui.models_dir / "checkpoints"
    folder.mkdir(exist_ok=True)
    name = f"{uuid.uuid4().hex}.safetensors"
    (folder / name).write_bytes(b"12345")
    code, body = await api.get("models", search=name)
    assert code == 200
    (model,) = body
    assert (model["name"], model["folder"], model["size"]) == (name, "checkpoints", 5)
    assert model["modified"] > 0
    code, names = await api.get("filename_list_cache")
    assert code == 200
    assert f"checkpoints/{name}" in names
    _, by_folder = await api.get("filename_list_cache", format="folders")
    assert name in by_folder["filename_list"]["checkpoints"]
    _, folders = await api.get("models", format="folders")
    directories, extensions, files = folders["checkpoints"]
    assert name in files
    assert ".safetensors" in extensions
    assert directories
    (folder / name).unlink()
    assert f"checkpoints/{name}" not in (await api.get("filename_list_cache"))[1]
    code, body = await api.get("models", format="tree")
    assert (code, body["details"]["field"]) == (400, "format")


async def test_uploaded_picture_runs(upload, api):
    from io import BytesIO

    from PIL import Image

    picture = BytesIO()
    Image.new("RGB", (12, 9), "blue").save(picture, "PNG")
    _, stored = await upload(("file", f"{uuid.uuid4().hex}.png", picture.getvalue()))
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": stored["name"]}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    code, body = await api.post("run", json.loads(json.dumps({"workflow_api": graph})))
    assert (code, body["status"]) == (200, "success"), body
