"""The routes of models and files."""

import contextlib
import hashlib
import os
import sqlite3
import uuid

import pytest

from comfydeploy_jupyter.files.uploads import BATCH, STAGING_PREFIX
from tests.helpers.bodies import form
from tests.helpers.disks import files_limited_to
from tests.helpers.waiting import until_async


@pytest.fixture
def extension_config(disk_or_comfyui):
    return disk_or_comfyui


@pytest.fixture
def on_disk(disk_or_comfyui):
    return "comfyui_path" in disk_or_comfyui


@pytest.fixture
def upload(api):
    async def send(*parts):
        body, headers = form(*parts)
        return await api.post("upload-file", body, headers=headers)

    return send


async def test_upload_and_view(upload, api, comfyui):
    content = os.urandom(300_000)
    name = f"{uuid.uuid4().hex} ü.png"
    code, body = await upload(("subfolder", None, b"pics"), ("file", name, content))
    assert (code, body["success"]) == (200, True), body
    assert (body["filename"], body["name"]) == (name, name)
    assert (body["subfolder"], body["type"], body["size"]) == ("pics", "input", len(content))
    assert body["content_type"] == "image/png"
    assert body["file_hash"] == hashlib.sha256(content).hexdigest()
    assert (comfyui.input_dir / "pics" / name).read_bytes() == content
    place = {"filename": name, "subfolder": "pics", "type": "input"}
    assert (await api.raw("GET", "view", params=place)).body == content
    assert body["url"].endswith("type=input")

    stem = uuid.uuid4().hex
    code, body = await upload(("file", f"{stem}-1.txt", b"1"), ("file", f"{stem}-2.txt", b"22"))
    assert code == 200
    assert [file["name"] for file in body["files"]] == [f"{stem}-1.txt", f"{stem}-2.txt"]
    assert body["name"] == f"{stem}-1.txt"
    for machine in (b"local", b""):
        code, body = await upload(("machine", None, machine), ("file", f"{stem}-1.txt", b"1"))
        assert (code, body["name"]) == (200, f"{stem}-1.txt")


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


async def test_bad_forms(upload, api, comfyui):
    before, file = sorted(comfyui.input_dir.rglob("*")), ("file", "a", b"1")
    for parts, expected in (
        ([("type", None, b"input")], (400, "file")),
        ([("subfolder", None, b"../.."), file], (403, "subfolder")),
        ([("machine", None, b"other"), file], (400, "machine")),
        ([file, ("machine", None, b"other")], (400, "machine")),
    ):
        body, headers = form(*parts)
        assert await api.refusal("upload-file", body, headers=headers) == expected
    assert sorted(comfyui.input_dir.rglob("*")) == before
    assert await api.refusal("upload-file", {}) == (400, "file_path")
    assert await api.refusal("upload-file", "{") == (400, "invalid_json")


async def test_uploads_larger_than_the_limits_of_jupyter_and_comfyui(
    upload, http_server, on_disk, comfyui, tmp_path
):
    http_server.conn_params.max_body_size = 1024
    name = f"{uuid.uuid4().hex}.bin"
    code, body = await upload(("file", name, bytes(100_000)))
    assert (code, body["size"]) == (200, 100_000)
    (comfyui.input_dir / name).unlink()
    code, body = await upload(("file", name, bytes(101 * 1024 * 1024)))
    if on_disk:
        assert (code, body["size"]) == (200, 101 * 1024 * 1024)
        (comfyui.input_dir / name).unlink()
    else:
        assert (code, body["code"]) == (413, "too_large")
        assert not list(comfyui.base_dir.rglob(name))
        assert not list(tmp_path.glob("data/outbox/*"))


async def test_aborted_upload_leaves_nothing(wire, comfyui, tmp_path):
    tops = [comfyui.base_dir, tmp_path / "data" / "outbox"]

    def files():
        return sorted(path for top in tops for path in top.rglob("*"))

    before = files()
    body, headers = form(("file", "half.bin", os.urandom(3 * BATCH)))
    headers["Content-Length"] = str(len(body))
    _, writer = await wire.send("POST", "comfyui-deploy/upload-file", headers, body[: 2 * BATCH])
    await until_async(lambda: any(STAGING_PREFIX in path.name for path in files()))
    writer.close()
    await until_async(lambda: files() == before)


@pytest.mark.parametrize("disk_or_comfyui", ["disk"], indirect=True)
class TestFolders:
    """Requests that need ComfyUI's folders."""

    @pytest.mark.thorough
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_large_files_over_a_reused_connection(self, wire, comfyui, chunked):
        stem = uuid.uuid4().hex
        contents = {f"{stem}-{n}.bin": os.urandom(5_000_000 + n) for n in range(3)}
        body, headers = form(*(("file", name, content) for name, content in contents.items()))
        headers["Connection"] = "keep-alive"
        if chunked:
            step = 2_500_000
            chunks = [body[start : start + step] for start in range(0, len(body), step)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
            headers["Transfer-Encoding"] = "chunked"
        reader, writer = await wire.send("POST", "comfyui-deploy/upload-file", headers, body)
        writer.write(wire.text("GET", "comfyui-deploy/check-ws-status"))
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
        name, digest = f"input/{path.name}", hashlib.sha256(b"abc").hexdigest()
        code, body = await api.get("get-file-hash", filename=name)
        shown = {"filename": name, "file_hash": digest, "algorithm": "sha256", "size": 3}
        assert (code, body) == (200, {**shown, "cached": False})
        _, again = await api.get("get-file-hash", file_path=str(path))
        assert again["cached"] is True
        path.write_bytes(b"abcd")
        _, changed = await api.get("get-file-hash", filename=name)
        assert (changed["cached"], changed["size"]) == (False, 4)
        assert changed["file_hash"] == hashlib.sha256(b"abcd").hexdigest()
        for params, code, error in (
            ({}, 400, "invalid_request"),
            ({"filename": "input/not-there"}, 404, "not_found"),
            ({"filename": "/etc/passwd"}, 403, "forbidden_path"),
            ({"filename": "input/../../../../etc/passwd"}, 403, "forbidden_path"),
            ({"filename": "/proc/self/environ"}, 403, "forbidden_path"),
        ):
            status, body = await api.get("get-file-hash", **params)
            assert (status, body["code"]) == (code, error), params

    async def test_hashes_of_removed_files_are_deleted(self, api, comfyui, extension):
        path = comfyui.input_dir / f"{uuid.uuid4().hex}.bin"
        path.write_bytes(b"abc")
        await api.get("get-file-hash", filename=f"input/{path.name}")
        database = extension.services.database.path

        def known():
            with contextlib.closing(sqlite3.connect(database)) as store:
                query = "SELECT count(*) FROM hashes WHERE path = ?"
                return store.execute(query, (str(path),)).fetchone()[0]

        assert known() == 1
        path.unlink()
        await extension.stop_extension()
        await extension.open_services()
        await until_async(lambda: not known())

    async def test_stat(self, api, comfyui):
        code, body = await api.get("fs/stat")
        assert code == 200
        assert body["filesystem"]["free"] > 0
        assert body["path"] == str(comfyui.models_dir.resolve())
        code, body = await api.get("fs/stat", path="input")
        assert (code, body["type"]) == (200, "directory")
        for path, expected in (
            ("input/not-there", (404, "not_found")),
            ("/etc", (403, "forbidden_path")),
        ):
            code, body = await api.get("fs/stat", path=path)
            assert (code, body["code"]) == expected


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
