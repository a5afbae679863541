"""The routes that delete and pin runs, with the files of a real ComfyUI."""

import asyncio
import errno
import json
import os
import sqlite3
from contextlib import closing

import pytest

from tests.helpers.bodies import picture
from tests.helpers.waiting import until_async

HALF = "\ud83d"  # the first half of an emoji


@pytest.fixture
def limits():
    return {}


@pytest.fixture
def extension_config(config_with_folders, limits):
    return {**config_with_folders, "keep_runs": limits}


async def make(api, comfyui, prompt_id, **request):
    """Run a graph that saves one picture; return the path of the picture."""
    request.setdefault("workflow_api", picture(prompt_id))
    body = await api.run(prompt_id=prompt_id, **request)
    (image,) = body["outputs"]["2"]["images"]
    return comfyui.output_dir / image["subfolder"] / image["filename"]


async def delete(api, *prompt_ids, **fields):
    """Delete runs and their files, by default those with these ids; return the report."""
    body = {"prompt_ids": prompt_ids} if prompt_ids else {}
    code, report = await api.post("runs/delete", {**body, "files": True, **fields})
    assert code == 200, report
    return report


async def write(extension, statement, *values):
    """Change the database."""
    await extension.services.database.write(lambda store: store.execute(statement, values))


@pytest.fixture
def count(extension):
    """Return a function that counts the rows of a table."""

    async def rows(table):
        query = f"SELECT count(*) FROM {table}"
        return await extension.services.database.read(
            lambda connection: connection.execute(query).fetchone()[0]
        )

    return rows


async def known(api):
    return {run["prompt_id"] for run in (await api.get("runs"))[1]}


async def test_run_is_deleted_with_its_files(api, comfyui, count):
    kept = await make(api, comfyui, "del-record")
    report = await delete(api, "del-record", files=False)
    assert (report["runs"], report["files"], kept.exists()) == (1, 0, True)
    path = await make(api, comfyui, "del-files")
    size = path.stat().st_size
    counts = {"runs": 1, "files": 1, "bytes": size}
    report = {"success": True, **counts, "kept": [], "kept_count": 0}
    assert await delete(api, "del-files") == report
    assert not path.exists()
    assert (await api.get("check-status", prompt_id="del-files"))[0] == 404, "nor is it in memory"
    assert await known(api) == set()
    assert [await count(table) for table in ("runs", "graphs", "doomed_files")] == [0, 0, 0]
    assert await api.refusal("runs/delete", {"prompt_ids": ["del-files"]}) == (404, "prompt_ids")
    (await make(api, comfyui, "del-gone")).unlink()
    report = await delete(api, "del-gone")
    assert (report["runs"], report["files"], report["kept"]) == (1, 0, [])


async def test_a_graph_that_is_still_used_stays(api, count):
    for name in ("del-a", "del-b"):
        await api.post("run", {"workflow_api": picture("del-shared"), "prompt_id": name})
    _, saved = await api.post("workflow", {"name": "Kept", "workflow_api": picture("del-stored")})
    stored = {"workflow_id": saved["workflow_id"], "prompt_id": "del-c"}
    await api.run(**stored)
    await delete(api, "del-a", "del-c")
    assert await count("graphs") == 2, "that of del-b and that of the workflow"
    await delete(api, "del-b")
    assert await count("graphs") == 1
    assert (await api.get("workflow", workflow_id=saved["workflow_id"]))[0] == 200


async def test_a_pinned_run_is_not_deleted(api, comfyui):
    path = await make(api, comfyui, "del-pinned")
    pin = {"prompt_ids": ["del-pinned"], "pinned": True}
    code, body = await api.post("runs/update", {**pin, "prompt_ids": ["del-pinned", "unknown"]})
    assert (code, body["details"]["prompt_ids"]) == (404, ["unknown"])
    assert "pinned" not in (await api.get("check-status", prompt_id="del-pinned"))[1]
    assert await api.post("runs/update", pin) == (200, {"success": True, "updated": 1})
    assert (await api.get("check-status", prompt_id="del-pinned"))[1]["pinned"] is True
    assert [run["prompt_id"] for run in (await api.get("runs", pinned="true"))[1]] == ["del-pinned"]
    assert (await api.get("runs", pinned="false"))[1] == []
    report = await delete(api, status="success")
    kept = {"prompt_id": "del-pinned", "file": None, "reason": "it is pinned"}
    assert (report["runs"], report["kept"], report["kept_count"]) == (0, [kept], 1)
    assert path.exists()
    await api.post("runs/update", {**pin, "pinned": False})
    report = await delete(api, status="success")
    assert (report["runs"], report["files"]) == (1, 1)


async def test_run_that_is_pinned_while_it_runs_stays_pinned(api, chain):
    await api.start(chain(("TestSleep", {"seconds": 60})), prompt_id="del-early")
    await api.post("runs/update", {"prompt_ids": ["del-early"], "pinned": True})
    assert (await delete(api, "del-early"))["kept"][0]["reason"] == "it has not ended"
    await api.post("interrupt", {"prompt_id": "del-early"})
    assert (await api.until("del-early", "cancelled"))["pinned"] is True
    assert (await delete(api, "del-early"))["kept"][0]["reason"] == "it is pinned"


async def test_stars_and_notes_stay_with_runs(api, comfyui):
    note = 'the “best” light, "f/2"'
    for name in ("star-a", "star-b"):
        await make(api, comfyui, name)
    both = {"prompt_ids": ["star-a", "star-b"]}
    assert await api.post("runs/update", {**both, "starred": True, "note": note}) == (
        200,
        {"success": True, "updated": 2},
    )
    code, body = await api.post("runs/update", {"prompt_ids": ["star-b"], "starred": False})
    assert code == 200
    runs = {run["prompt_id"]: run for run in (await api.get("runs"))[1]}
    assert (runs["star-a"]["starred"], "starred" in runs["star-b"]) == (True, False)
    assert runs["star-b"]["note"] == note
    for starred, found in (("true", ["star-a"]), ("false", ["star-b"])):
        _, cards = await api.get("runs/cards", starred=starred)
        assert [card["prompt_id"] for card in cards["runs"]] == found
        assert cards["runs"][0]["note"] == note
    for text, number in (("LIGHT", 2), ("“best”", 2), ('"f/2"', 2), ("worst", 0)):
        assert (await api.get("runs/cards", search=text))[1]["total"] == number, text
    await api.post("runs/update", {**both, "note": ""})
    assert (await api.get("runs/details", prompt_id="star-a"))[1]["note"] == ""
    for wrong, field in (
        ({}, "body"),
        ({"note": "x" * 10_001}, "note"),
        ({"starred": "maybe"}, "starred"),
        ({"note": None}, "body"),
    ):
        code, body = await api.post("runs/update", {**both, **wrong})
        assert (code, body["code"]) == (400, "invalid_request")
        assert field in body["details"].get("field", "body")


async def test_a_file_of_two_runs_stays_until_both_are_deleted(api, comfyui):
    shared = {"workflow_api": picture("del-cached")}
    path = await make(api, comfyui, "del-first", **shared)
    assert await make(api, comfyui, "del-second", **shared) == path, "from the cache"
    report = await delete(api, "del-first")
    kept = {"prompt_id": "del-first", "file": path.name, "reason": "run del-second uses it"}
    assert (report["runs"], report["files"], report["kept"]) == (1, 0, [kept])
    assert path.exists()
    await make(api, comfyui, "del-third", **shared)
    report = await delete(api, search="del-cached")
    assert (report["runs"], report["files"], report["kept"]) == (2, 1, [])
    assert not path.exists()


async def test_file_that_a_kept_run_or_a_workflow_names_stays(api, comfyui):
    for number, (prefix, form) in enumerate(
        (("del-load", "{name} [output]"), ("del-load", "{path}"), ("del-größe", "{name} [output]"))
    ):
        made, loads = f"del-made-{number}", f"del-loads-{number}"
        graph = picture(f"{prefix}-{number}")
        path = await make(api, comfyui, made, workflow_api=graph)
        name = form.format(name=path.name, path=path)
        loading = {**graph, "1": {"class_type": "LoadImage", "inputs": {"image": name}}}
        await api.post("run", {"workflow_api": loading, "prompt_id": loads})
        reason = f"the graph of run {loads} uses it"
        kept = {"prompt_id": made, "file": path.name, "reason": reason}
        assert (await delete(api, made))["kept"] == [kept]
        assert path.exists()
    path = await make(api, comfyui, "del-made")
    loading["1"]["inputs"]["image"] = f"{path.name} [output]"
    await api.post("workflow", {"name": "Portrait", "workflow_api": loading})
    report = await delete(api, "del-made")
    assert report["kept"][0]["reason"] == "the workflow 'Portrait' uses it"
    assert path.exists()


async def rewrite(extension, prompt_id, item):
    """Add another file to the outputs of a run, as a custom node could."""
    statement = (
        "UPDATE runs SET record = json_set(record, '$.outputs', json(?)) WHERE prompt_id = ?"
    )
    await write(extension, statement, json.dumps({"2": {"images": [item]}}), prompt_id)


HOSTILE = [
    ("secret.png", "..", "output"),
    ("../secret.png", "", "output"),
    ("secret.png", "{outside}", "output"),
    ("secret.png", "linked", "output"),
    ("link.png", "", "output"),
    ("secret.png", "", "input"),
    ("linked", "", "output"),
    ("..", "", "output"),
    ("a\0b", "\0", "temp"),
    ("secret.png", "", "models/checkpoints"),
    (f"{HALF}.png", "", "output"),
    ("secret.png", HALF, "output"),
]


async def test_no_file_outside_the_output_folder_is_deleted(api, comfyui, extension):
    outside = comfyui.output_dir.parent
    secrets = [outside / "secret.png", comfyui.input_dir / "secret.png"]
    links = [comfyui.output_dir / "linked", comfyui.output_dir / "link.png"]
    try:
        for path in secrets:
            path.write_bytes(b"secret")
        links[0].symlink_to(outside)
        links[1].symlink_to(secrets[0])
        for number, (name, subfolder, kind) in enumerate(HOSTILE):
            prompt_id = f"del-hostile-{number}"
            await make(api, comfyui, prompt_id, workflow_api=picture("del-hostile"))
            place = {"subfolder": subfolder.format(outside=outside), "type": kind}
            await rewrite(extension, prompt_id, {"filename": name, **place})
            report = await delete(api, prompt_id)
            counts = (report["runs"], report["files"], report["kept_count"])
            assert counts == (1, 0, 1), ascii((name, subfolder, kind))
            assert report["kept"][0]["reason"]
            assert all(path.read_bytes() == b"secret" for path in secrets)
            assert all(link.is_symlink() for link in links)
    finally:
        for path in (*secrets, *links):
            path.unlink(missing_ok=True)


async def test_a_file_that_cannot_be_deleted_is_reported(api, comfyui, extension, monkeypatch):
    path = await make(api, comfyui, "del-readonly")
    unlink = os.unlink

    def refuse(name, **options):
        if name == os.fsencode(path.name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    report = await delete(api, "del-readonly")
    assert (report["runs"], report["files"]) == (1, 0)
    assert report["kept"][0]["reason"] == "it cannot be deleted: Permission denied"
    assert path.exists()
    path = await make(api, comfyui, "del-far")
    await write(extension, "UPDATE runs SET machine = 'far' WHERE prompt_id = 'del-far'")
    report = await delete(api, machine="far")
    assert (report["runs"], report["files"]) == (1, 0)
    assert "files there cannot be deleted" in report["kept"][0]["reason"]
    assert path.exists()


async def test_filter(api, chain, extension):
    failing = chain(("TestFail", {"message": "no such sampler"}))
    dates = {"ok-1": "2026-01-01T20:00:00.000Z", "ok-2": "2026-01-02T00:00:00.000Z"}
    for fields, left in (
        ({"status": "failed"}, ["ok-1", "ok-2"]),
        ({"before": "2026-01-02T00:00:00+02:00"}, ["ok-2", "bad"]),
        ({"after": "2026-01-02"}, ["ok-1"]),
        ({"metadata": {"client": "acme"}}, ["ok-1", "bad"]),
        ({"search": "no such sampler"}, ["ok-1", "ok-2"]),
        ({"machine": "LOCAL", "status": "success"}, ["bad"]),
        ({"prompt_ids": ["ok-1", "bad"], "status": "success"}, ["ok-2", "bad"]),
    ):
        await api.post("run", {"workflow_api": chain(), "prompt_id": "ok-1"})
        labelled = {"workflow_api": chain(), "metadata": {"client": "acme"}}
        await api.post("run", {**labelled, "prompt_id": "ok-2"})
        await api.post("run", {"workflow_api": failing, "prompt_id": "bad"})
        for name, date in dates.items():
            await write(extension, "UPDATE runs SET created_at = ? WHERE prompt_id = ?", date, name)
        assert (await delete(api, **fields))["runs"] == 3 - len(left), fields
        assert await known(api) == set(left)
        await delete(api, *left)


async def test_bad_request(api, chain):
    await api.post("run", {"workflow_api": chain(), "prompt_id": "stays"})
    for body in (
        {},
        {"files": True},
        {"search": ""},
        {"prompt_ids": []},
        {"prompt_ids": "one"},
        {"status": "running"},
        {"before": "yesterday"},
        {"before": "9999-12-31T23:59:59-14:00"},
        {"files": "yes", "status": "failed"},
    ):
        code, reply = await api.post("runs/delete", body)
        assert (code, reply["code"]) == (400, "invalid_request"), body
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
    report = await delete(api, status="success")
    assert (report["runs"], report["files"], report["kept_count"]) == (451, 451, 0)
    assert report["bytes"] == 450 * 10 + size
    assert list(folder.glob("del-many-*")) == []
    assert [await count(table) for table in ("runs", "graphs", "doomed_files")] == [0, 0, 0]


async def test_deletions_at_the_same_time_delete_each_file_once(api, comfyui):
    names = [f"race-{number}" for number in range(4)]
    paths = {await make(api, comfyui, n, workflow_api=picture("del-race")) for n in names}
    reports = await asyncio.gather(*(delete(api, name) for name in names))
    assert [report["runs"] for report in reports] == [1, 1, 1, 1]
    assert sum(report["files"] for report in reports) == len(paths) == 1
    assert not paths.pop().exists()


class TestLimits:
    @pytest.fixture
    def limits(self):
        return {"number": 2, "days": 30, "bytes": 10**9}

    async def test_limits_of_the_number_and_age_of_runs(self, api, comfyui, extension):
        paths = [await make(api, comfyui, f"limit-{n}") for n in range(4)]
        await api.post("runs/update", {"prompt_ids": ["limit-0"], "pinned": True})
        report = await extension.services.runs.deleter.apply_limits()
        assert (report.runs, report.files) == (1, 1)
        assert await known(api) == {"limit-0", "limit-2", "limit-3"}
        assert [path.exists() for path in paths] == [True, False, True, True]
        old = "UPDATE runs SET created_at = '2020-01-01T00:00:00.000Z' WHERE prompt_id = 'limit-3'"
        await write(extension, old)
        await extension.services.runs.deleter.apply_limits()
        assert await known(api) == {"limit-0", "limit-2"}


class TestLimitOfBytes:
    @pytest.fixture
    def limits(self):
        return {"bytes": 250}

    async def test_limit_of_the_size_in_bytes(self, api, comfyui, extension):
        """A name that is no text does not prevent deletions."""
        paths = [await make(api, comfyui, f"size-{n}") for n in range(4)]
        item = {"filename": f"{HALF}.png", "subfolder": "", "type": "output"}
        await rewrite(extension, "size-1", item)
        for path in paths:
            path.write_bytes(bytes(200))
        report = await extension.services.runs.deleter.apply_limits()
        assert (report.runs, report.files) == (2, 2)
        assert await known(api) == {"size-1", "size-3"}
        assert [path.exists() for path in paths] == [False, True, False, True]
        report = await delete(api, "size-1", "size-3")
        assert (report["runs"], report["files"]) == (2, 1)
        assert [kept["file"] for kept in report["kept"]] == [f"{HALF}.png"]


def pages(path):
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
