"""The routes that delete and pin runs, with the files of a real ComfyUI."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
from contextlib import closing

import pytest

from tests.helpers.waiting import until_async

HALF = "\ud83d"  # the first half of an emoji


def graph(prefix: str, colour: int = 255, width: int = 32) -> dict:
    size = {"width": width, "height": 32, "batch_size": 1, "color": colour}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


@pytest.fixture
def limits() -> dict:
    return {}


@pytest.fixture
def extension_config(config_with_folders, limits):
    return {**config_with_folders, "keep_runs": limits}


async def make(api, comfyui, prompt_id: str, **request):
    """Run a graph that saves one picture; return the path of the picture."""
    request.setdefault("workflow_api", graph(prompt_id))
    code, body = await api.post("run", {"prompt_id": prompt_id, **request})
    assert (code, body["status"]) == (200, "success"), body
    (image,) = body["outputs"]["2"]["images"]
    return comfyui.output_dir / image["subfolder"] / image["filename"]


@pytest.fixture
def count(extension):
    """Return a function that counts the rows of a table."""

    async def rows(table: str) -> int:
        query = f"SELECT count(*) FROM {table}"
        return await extension.services.database.read(
            lambda connection: connection.execute(query).fetchone()[0]
        )

    return rows


async def known(api) -> set[str]:
    return {run["prompt_id"] for run in (await api.get("runs"))[1]}


async def test_run_is_deleted_with_its_files(api, comfyui, count):
    path = await make(api, comfyui, "del-files")
    size = path.stat().st_size
    code, body = await api.post("runs/delete", {"prompt_ids": ["del-files"], "files": True})
    assert (code, body) == (
        200,
        {"success": True, "runs": 1, "files": 1, "bytes": size, "kept": [], "kept_count": 0},
    )
    assert not path.exists()
    assert (await api.get("check-status", prompt_id="del-files"))[0] == 404, "nor is it in memory"
    assert await known(api) == set()
    assert [await count(table) for table in ("runs", "graphs", "doomed_files")] == [0, 0, 0]
    code, body = await api.post("runs/delete", {"prompt_ids": ["del-files"]})
    assert (code, body["details"]["field"]) == (404, "prompt_ids")


async def test_graph_of_a_run(api, comfyui):
    wide = {"inputs": {"width": 48}, "prompt_id": "del-graph"}
    await api.post("run", {"workflow_api": graph("del-graph"), **wide})
    code, body = await api.get("runs", graph="del-graph")
    assert (code, body["workflow_api"]["1"]["inputs"]["width"]) == (200, 48)
    assert body["workflow"] is None
    code, body = await api.get("runs", graph="del-unknown")
    assert (code, body["code"]) == (404, "not_found")


async def test_files_stay_unless_their_deletion_is_requested(api, comfyui):
    path = await make(api, comfyui, "del-record")
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-record"]})
    assert (body["runs"], body["files"]) == (1, 0)
    assert path.exists()


async def test_a_graph_that_is_still_used_stays(api, comfyui, count):
    shared = graph("del-shared")
    for name in ("del-a", "del-b"):
        await api.post("run", {"workflow_api": shared, "prompt_id": name})
    _, saved = await api.post("workflow", {"name": "Kept", "workflow_api": graph("del-stored")})
    stored = {"workflow_id": saved["workflow_id"], "prompt_id": "del-c"}
    assert (await api.post("run", stored))[1]["status"] == "success"
    await api.post("runs/delete", {"prompt_ids": ["del-a", "del-c"]})
    assert await count("graphs") == 2, "that of del-b and that of the workflow"
    await api.post("runs/delete", {"prompt_ids": ["del-b"]})
    assert await count("graphs") == 1
    assert (await api.get("workflow", workflow_id=saved["workflow_id"]))[0] == 200


async def test_a_pinned_run_is_not_deleted(api, comfyui):
    path = await make(api, comfyui, "del-pinned")
    code, body = await api.post("runs/update", {"prompt_ids": ["del-pinned"], "pinned": True})
    assert (code, body) == (200, {"success": True, "updated": 1})
    assert (await api.get("check-status", prompt_id="del-pinned"))[1]["pinned"] is True
    assert [run["prompt_id"] for run in (await api.get("runs", pinned="true"))[1]] == ["del-pinned"]
    assert (await api.get("runs", pinned="false"))[1] == []
    _, body = await api.post("runs/delete", {"status": "success", "files": True})
    kept = {"prompt_id": "del-pinned", "file": None, "reason": "it is pinned"}
    assert (body["runs"], body["kept"], body["kept_count"]) == (0, [kept], 1)
    assert path.exists()
    await api.post("runs/update", {"prompt_ids": ["del-pinned"], "pinned": False})
    _, body = await api.post("runs/delete", {"status": "success", "files": True})
    assert (body["runs"], body["files"]) == (1, 1)


async def test_pin_of_an_unknown_run_changes_nothing(api, comfyui):
    await make(api, comfyui, "del-known")
    ids = ["del-known", "del-unknown"]
    code, body = await api.post("runs/update", {"prompt_ids": ids, "pinned": True})
    assert (code, body["details"]["prompt_ids"]) == (404, ["del-unknown"])
    assert "pinned" not in (await api.get("check-status", prompt_id="del-known"))[1]


async def test_run_that_is_pinned_while_it_runs_stays_pinned(api, chain):
    body = {"workflow_api": chain(("TestSleep", {"seconds": 0.6})), "prompt_id": "del-early"}
    await api.post("run", {**body, "wait": False})
    await api.post("runs/update", {"prompt_ids": ["del-early"], "pinned": True})
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-early"]})
    assert body["kept"][0]["reason"] == "it has not ended"
    assert (await api.until("del-early", "success"))["pinned"] is True
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-early"]})
    assert body["kept"][0]["reason"] == "it is pinned"


async def test_a_file_of_two_runs_stays_until_both_are_deleted(api, comfyui):
    shared = graph("del-cached")
    path = await make(api, comfyui, "del-first", workflow_api=shared)
    assert await make(api, comfyui, "del-second", workflow_api=shared) == path, "from the cache"
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-first"], "files": True})
    assert (body["runs"], body["files"]) == (1, 0)
    assert body["kept"] == [
        {"prompt_id": "del-first", "file": path.name, "reason": "run del-second uses it"}
    ]
    assert path.exists()
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-second"], "files": True})
    assert (body["files"], body["kept"]) == (1, [])
    assert not path.exists()


async def test_a_file_of_runs_deleted_together_is_deleted(api, comfyui):
    shared = graph("del-both")
    path = await make(api, comfyui, "del-one", workflow_api=shared)
    await make(api, comfyui, "del-two", workflow_api=shared)
    _, body = await api.post("runs/delete", {"search": "del-both", "files": True})
    assert (body["runs"], body["files"], body["kept"]) == (2, 1, [])
    assert not path.exists()


LOADERS = {
    "annotated": "{name} [output]",
    "path": "{path}",
    "escaped": "{name} [output]",
}


@pytest.mark.parametrize("form", LOADERS)
async def test_file_that_a_kept_run_loads_stays(api, comfyui, form):
    prefix = "del-größe" if form == "escaped" else f"del-load-{form}"
    path = await make(api, comfyui, "del-made", workflow_api=graph(prefix))
    name = LOADERS[form].format(name=path.name, path=path)
    loader = {"class_type": "LoadImage", "inputs": {"image": name}}
    loading = {**graph("del-loaded"), "1": loader}
    await api.post("run", {"workflow_api": loading, "prompt_id": "del-loads"})
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-made"], "files": True})
    assert body["kept"] == [
        {
            "prompt_id": "del-made",
            "file": path.name,
            "reason": "the graph of run del-loads uses it",
        }
    ]
    assert path.exists()


async def test_file_that_a_workflow_names_stays(api, comfyui):
    path = await make(api, comfyui, "del-made")
    loader = {"class_type": "LoadImage", "inputs": {"image": f"{path.name} [output]"}}
    await api.post("workflow", {"name": "Portrait", "workflow_api": {**graph("x"), "1": loader}})
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-made"], "files": True})
    assert body["kept"][0]["reason"] == "the workflow 'Portrait' uses it"
    assert path.exists()


async def rewrite(extension, prompt_id: str, item: dict) -> None:
    """Add another file to the outputs of a run, as a custom node could."""

    def work(connection):
        connection.execute(
            "UPDATE runs SET record = json_set(record, '$.outputs', json(?)) WHERE prompt_id = ?",
            (json.dumps({"2": {"images": [item]}}), prompt_id),
        )

    await extension.services.database.write(work)


@pytest.mark.parametrize(
    "item",
    [
        {"filename": "secret.png", "subfolder": "..", "type": "output"},
        {"filename": "../secret.png", "subfolder": "", "type": "output"},
        {"filename": "secret.png", "subfolder": "{outside}", "type": "output"},
        {"filename": "secret.png", "subfolder": "linked", "type": "output"},
        {"filename": "link.png", "subfolder": "", "type": "output"},
        {"filename": "secret.png", "subfolder": "", "type": "input"},
        {"filename": "linked", "subfolder": "", "type": "output"},
        {"filename": "..", "subfolder": "", "type": "output"},
        {"filename": "a\0b", "subfolder": "\0", "type": "temp"},
        {"filename": "secret.png", "subfolder": "", "type": "models/checkpoints"},
        {"filename": f"{HALF}.png", "subfolder": "", "type": "output"},
        {"filename": "secret.png", "subfolder": HALF, "type": "output"},
    ],
    ids=lambda item: ascii(f"{item['type']}-{item['subfolder']}-{item['filename']}"),
)
async def test_no_file_outside_the_output_folder_is_deleted(api, comfyui, extension, item):
    await make(api, comfyui, "del-hostile")
    outside = comfyui.output_dir.parent
    secrets = [outside / "secret.png", comfyui.input_dir / "secret.png"]
    for path in secrets:
        path.write_bytes(b"secret")
    links = [comfyui.output_dir / "linked", comfyui.output_dir / "link.png"]
    try:
        links[0].symlink_to(outside)
        links[1].symlink_to(secrets[0])
        item = {**item, "subfolder": item["subfolder"].format(outside=outside)}
        await rewrite(extension, "del-hostile", item)
        code, body = await api.post("runs/delete", {"prompt_ids": ["del-hostile"], "files": True})
        assert (code, body["runs"], body["files"], body["kept_count"]) == (200, 1, 0, 1), body
        assert body["kept"][0]["reason"]
        assert all(path.read_bytes() == b"secret" for path in secrets)
        assert all(link.is_symlink() for link in links)
    finally:
        for path in (*secrets, *links):
            path.unlink(missing_ok=True)


async def test_a_file_that_is_already_gone_is_no_error(api, comfyui):
    path = await make(api, comfyui, "del-gone")
    path.unlink()
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-gone"], "files": True})
    assert (body["runs"], body["files"], body["kept"]) == (1, 0, [])


async def test_a_file_that_cannot_be_deleted_is_reported(api, comfyui, monkeypatch):
    path = await make(api, comfyui, "del-readonly")
    unlink = os.unlink

    def refuse(name, **options):
        if name == os.fsencode(path.name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    _, body = await api.post("runs/delete", {"prompt_ids": ["del-readonly"], "files": True})
    assert (body["runs"], body["files"]) == (1, 0)
    assert body["kept"][0]["reason"] == "it cannot be deleted: Permission denied"
    assert path.exists()


async def test_comfyui_elsewhere_keeps_its_files(api, comfyui, extension):
    path = await make(api, comfyui, "del-far")

    def work(connection):
        connection.execute("UPDATE runs SET machine = 'far' WHERE prompt_id = 'del-far'")

    await extension.services.database.write(work)
    _, body = await api.post("runs/delete", {"machine": "far", "files": True})
    assert (body["runs"], body["files"]) == (1, 0)
    assert "files there cannot be deleted" in body["kept"][0]["reason"]
    assert path.exists()


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"status": "failed"}, ["ok-1", "ok-2"]),
        ({"before": "2026-01-02T00:00:00+02:00"}, ["ok-2", "bad"]),
        ({"after": "2026-01-02"}, ["ok-1"]),
        ({"metadata": {"client": "acme"}}, ["ok-1", "bad"]),
        ({"search": "no such sampler"}, ["ok-1", "ok-2"]),
        ({"machine": "LOCAL", "status": "success"}, ["bad"]),
        ({"prompt_ids": ["ok-1", "bad"], "status": "success"}, ["ok-2", "bad"]),
    ],
    ids=str,
)
async def test_filter(api, chain, extension, fields, left):
    await api.post("run", {"workflow_api": chain(), "prompt_id": "ok-1"})
    labels = {"client": "acme"}
    await api.post("run", {"workflow_api": chain(), "prompt_id": "ok-2", "metadata": labels})
    failing = chain(("TestFail", {"message": "no such sampler"}))
    await api.post("run", {"workflow_api": failing, "prompt_id": "bad"})

    def work(connection):
        connection.executemany(
            "UPDATE runs SET created_at = ? WHERE prompt_id = ?",
            [("2026-01-01T20:00:00.000Z", "ok-1"), ("2026-01-02T00:00:00.000Z", "ok-2")],
        )

    await extension.services.database.write(work)
    code, body = await api.post("runs/delete", fields)
    assert (code, body["runs"]) == (200, 3 - len(left)), body
    assert await known(api) == set(left)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": True},
        {"search": ""},
        {"prompt_ids": []},
        {"prompt_ids": "one"},
        {"status": "running"},
        {"before": "yesterday"},
        {"before": "9999-12-31T23:59:59-14:00"},
        {"files": "yes", "status": "failed"},
    ],
    ids=str,
)
async def test_bad_request(api, chain, body):
    await api.post("run", {"workflow_api": chain(), "prompt_id": "stays"})
    code, reply = await api.post("runs/delete", body)
    assert (code, reply["code"]) == (400, "invalid_request")
    assert await known(api) == {"stays"}


async def test_many_runs_at_once(api, comfyui, extension, count):
    path = await make(api, comfyui, "del-template")
    folder, size = path.parent, path.stat().st_size

    def work(connection):
        row = connection.execute("SELECT * FROM runs").fetchone()
        names = [name for name in row.keys() if name != "id"]  # noqa: SIM118 - values otherwise
        for number in range(450):
            (folder / f"del-many-{number}.png").write_bytes(b"0123456789")
            item = f'{{"filename": "del-many-{number}.png", "subfolder": "", "type": "output"}}'
            record = f'{{"outputs": {{"2": {{"images": [{item}]}}}}}}'
            values = {**dict(row), "prompt_id": f"many-{number}", "record": record}
            connection.execute(
                f"INSERT INTO runs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                [values[name] for name in names],
            )

    await extension.services.database.write(work)
    _, body = await api.post("runs/delete", {"status": "success", "files": True})
    assert (body["runs"], body["files"], body["kept_count"]) == (451, 451, 0)
    assert body["bytes"] == 450 * 10 + size
    assert list(folder.glob("del-many-*")) == []
    assert [await count(table) for table in ("runs", "graphs", "doomed_files")] == [0, 0, 0]


async def test_deletions_at_the_same_time_delete_each_file_once(api, comfyui):
    shared = graph("del-race")
    path = await make(api, comfyui, "race-0", workflow_api=shared)
    for number in range(1, 4):
        await make(api, comfyui, f"race-{number}", workflow_api=shared)
    answers = await asyncio.gather(
        *(
            api.post("runs/delete", {"prompt_ids": [f"race-{number}"], "files": True})
            for number in range(4)
        )
    )
    assert [body["runs"] for _, body in answers] == [1, 1, 1, 1]
    assert sum(body["files"] for _, body in answers) == 1
    assert not path.exists()


class TestLimits:
    @pytest.fixture
    def limits(self):
        return {"number": 2, "days": 30, "bytes": 10**9}

    async def test_limit_of_the_number_of_runs(self, api, comfyui, extension):
        paths = [await make(api, comfyui, f"limit-{n}") for n in range(4)]
        await api.post("runs/update", {"prompt_ids": ["limit-0"], "pinned": True})
        report = await extension.services.runs.deleter.apply_limits()
        assert (report.runs, report.files) == (1, 1)
        assert await known(api) == {"limit-0", "limit-2", "limit-3"}
        assert [path.exists() for path in paths] == [True, False, True, True]

    async def test_limit_of_the_age_in_days(self, api, comfyui, extension):
        await make(api, comfyui, "limit-old")

        def work(connection):
            connection.execute("UPDATE runs SET created_at = '2020-01-01T00:00:00.000Z'")

        await extension.services.database.write(work)
        await make(api, comfyui, "limit-new")
        await extension.services.runs.deleter.apply_limits()
        assert await known(api) == {"limit-new"}


class TestLimitOfBytes:
    @pytest.fixture
    def limits(self):
        return {"bytes": 250}

    async def test_a_name_that_is_no_text_does_not_prevent_deletions(self, api, comfyui, extension):
        paths = [await make(api, comfyui, f"text-{n}") for n in range(4)]
        item = {"filename": f"{HALF}.png", "subfolder": "", "type": "output"}
        await rewrite(extension, "text-1", item)
        for path in paths:
            path.write_bytes(bytes(200))
        report = await extension.services.runs.deleter.apply_limits()
        assert (report.runs, report.files) == (2, 2)
        assert await known(api) == {"text-1", "text-3"}
        code, body = await api.post(
            "runs/delete", {"prompt_ids": ["text-1", "text-3"], "files": True}
        )
        assert (code, body["runs"], body["files"]) == (200, 2, 1)
        assert [kept["file"] for kept in body["kept"]] == [f"{HALF}.png"]

    async def test_limit_of_the_size_in_bytes(self, api, comfyui, extension):
        paths = [await make(api, comfyui, f"size-{n}") for n in range(3)]
        for path in paths:
            path.write_bytes(bytes(100))
        await extension.services.runs.deleter.apply_limits()
        assert await known(api) == {"size-1", "size-2"}
        assert [path.exists() for path in paths] == [False, True, True]


def pages(path) -> tuple[int, int]:
    with closing(sqlite3.connect(path)) as connection:
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return connection.execute("PRAGMA page_count").fetchone()[0], free


async def test_the_file_of_the_database_shrinks(api, chain, extension, tmp_path):
    noise = os.urandom(300_000).hex()
    for number in range(4):
        large = chain(("TestText", {"text": f"{number} {noise}"}))
        await api.post("run", {"workflow_api": large, "prompt_id": f"large-{number}"})
    path = tmp_path / "data" / "comfydeploy.db"
    before, _ = pages(path)
    await api.post("runs/delete", {"search": "large-"})
    after, _ = await until_async(lambda: asyncio.to_thread(pages, path), lambda found: not found[1])
    assert after < before / 4
