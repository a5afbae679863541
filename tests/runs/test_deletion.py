"""Deletions that are interrupted, and files that change in the meantime."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import NoSpaceError, StoreUnavailableError
from comfydeploy_jupyter.machines.outputs import KeptOutputs
from comfydeploy_jupyter.machines.registry import MachineRegistry, Pool
from comfydeploy_jupyter.runs import deletion
from comfydeploy_jupyter.runs.active import EndedRuns
from comfydeploy_jupyter.runs.background import Background
from comfydeploy_jupyter.runs.deletion import Deleter, DeletionRepository, KeepRuns
from comfydeploy_jupyter.runs.records import RunFilter, RunRecord, RunRepository
from comfydeploy_jupyter.store.database import Database


class Active(list[Any]):
    """Unfinished runs, of which none needs the output of another."""

    ended = EndedRuns()

    def find(self, prompt_id):
        return self.ended.get(prompt_id)

    def needed(self):
        return set()

    def edited(self):
        pass


class World:
    """A store, the folders of a ComfyUI that does not run, and the server that deletes files."""

    def __init__(self, folder):
        self.home = folder / "ComfyUI"
        self.output = self.home / "output"
        self.output.mkdir(parents=True)
        self.database = Database(folder / "comfydeploy.db")
        self.runs = RunRepository(self.database)
        self.machine = SimpleNamespace(path=self.home, connected=True, folders=self._folders)
        self.machines = {"local": self.machine}
        self.active = Active()
        self.background = Background()
        self.kept_outputs = KeptOutputs(folder / "copies", MachineRegistry())

    def server(self, session="s", keep=None):
        """Return what deletes in a server with this session."""
        shared = SimpleNamespace(
            repository=self.runs,
            machines=SimpleNamespace(find=self.machines.get),
            session=SimpleNamespace(id=session),
            active=self.active,
            background=self.background,
            kept_outputs=self.kept_outputs,
        )
        return Deleter(shared, DeletionRepository(self.database), keep or KeepRuns())

    async def add(self, name, graph=b"{}", folder=None, **fields):
        """Store a run with one output file; return the path of the file."""
        path = (folder or self.output) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        known = {"machine": "local", "status": "success", "outputs": listing(path.name), **fields}
        record = RunRecord(name, session="s", created_at="2026-01-01T00:00:00.000Z", **known)
        await self.runs.add(record, graph, None)
        return path

    async def count(self, table):
        """Return the number of rows of a table."""
        return int(
            await self.database.read(
                lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            )
        )

    async def _folders(self):
        return await asyncio.to_thread(Folders, self.home)


def listing(filename):
    """Return the outputs of a run with one file."""
    return {"2": {"images": [{"filename": filename, "subfolder": "", "type": "output"}]}}


@pytest.fixture
def world(tmp_path, jp_asyncio_loop):
    made = World(tmp_path)
    jp_asyncio_loop.run_until_complete(made.database.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.background.close())
    jp_asyncio_loop.run_until_complete(made.database.close())


ALL = RunFilter(statuses=["success"])


class Killed(BaseException):
    """The server ends here."""


async def test_the_next_server_knows_the_last_ids_of_deleted_runs(world, monkeypatch):
    """ComfyUI's history may have their prompts."""
    monkeypatch.setattr(deletion, "IDS_KEPT", 2)
    for n in range(4):
        await world.add(f"run-{n}")
        await world.server().delete(ALL, files=False)
    after = Database(world.database.path)
    await after.open()
    known = [await RunRepository(after).was_deleted(f"run-{n}") for n in range(5)]
    await after.close()
    assert known == [False, False, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("step", range(7))
async def test_the_next_server_completes_deletions_of_a_killed_one(world, monkeypatch, step):
    """It ends before one of the steps; the next server completes a stored deletion."""
    paths = [await world.add(f"run-{n}") for n in range(3)]
    monkeypatch.setattr(deletion, "AT_A_TIME", 2)
    left = step

    def count_down():
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    original = deletion.delete_file

    def delete_file(*arguments):
        count_down()
        return original(*arguments)

    monkeypatch.setattr(deletion, "delete_file", delete_file)
    for name in ("delete", "forget"):
        method = getattr(DeletionRepository, name)

        async def counted(*arguments, method=method, **options):
            count_down()
            return await method(*arguments, **options)

        monkeypatch.setattr(DeletionRepository, name, counted)
    with pytest.raises(Killed):
        await world.server().delete(ALL, files=True)
    monkeypatch.undo()
    await world.server("next").finish(["s"])
    assert await world.count("doomed_files") == 0
    listed = {record.prompt_id for record in await world.runs.newest()}
    assert {path.stem for path in paths if path.exists()} == listed
    assert len(listed) == (3 if step == 0 else 1 if step < 5 else 0)


async def test_only_the_files_of_ended_servers_are_deleted_and_no_new_ones(world, monkeypatch):
    path = await world.add("run")
    monkeypatch.setattr(deletion, "delete_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await world.server("living").delete(ALL, files=True)
    monkeypatch.undo()
    await world.server("other").finish(["other", "dead"])
    assert path.exists()
    assert await world.count("doomed_files") == 1
    path.unlink()
    path.write_bytes(b"by another run")
    await world.server("other").finish(["living"])
    assert path.read_bytes() == b"by another run"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("a run with this input begins", "the graph of run new uses it"),
        ("a run with this output ends", "run other uses it"),
        ("it is pinned", "pinned"),
    ],
)
async def test_a_change_after_the_search_for_uses_keeps_the_file(
    world, monkeypatch, change, reason
):
    path = await world.add("old")
    await world.add("other", status="running")
    original = DeletionRepository.workflow_uses

    async def searched(self, names):
        found = await original(self, names)
        if change == "a run with this input begins":
            await world.add("new", b'{"1": {"inputs": {"image": "old.png [output]"}}}')
        elif change == "a run with this output ends":
            ended = replace(await world.runs.get("other"), status="success")
            await world.runs.save(replace(ended, outputs=listing("old.png")))
        else:
            await world.runs.mark(["old"], {"pinned": True})
        return found

    monkeypatch.setattr(DeletionRepository, "workflow_uses", searched)
    report = await world.server().delete(RunFilter(prompt_ids=["old"]), files=True)
    assert (report.runs, report.files) == (int(change != "it is pinned"), 0)
    assert reason in report.kept[0].reason
    assert path.exists()


async def test_the_output_of_an_unfinished_run_stays(world):
    path = await world.add("old")
    record = SimpleNamespace(outputs=listing("old.png"))
    world.active.append(SimpleNamespace(record=record, prompt_id="going"))
    report = await world.server().delete(ALL, files=True)
    assert [kept.reason for kept in report.kept] == ["run going uses it"]
    assert path.exists()


REFERENCES = ["old.png", "sub/old.png", r"C:\\out\\old.png", "old.png [output]", "old.png [temp]"]
ESCAPED = [r"\u006fld.png [output]", r"old.p\u006eg"]
OTHERS = ["older.png", "cold.png", "old.png.txt", "old"]


@pytest.mark.parametrize(
    ("text", "counts"),
    [*((text, True) for text in REFERENCES + ESCAPED), *((text, False) for text in OTHERS)],
)
async def test_every_reference_to_a_file_counts_and_no_similar_name(world, text, counts):
    path = await world.add("old")
    await world.add("user", b'{"1": {"inputs": {"any": ["%s"]}}}' % text.encode())
    report = await world.server().delete(RunFilter(prompt_ids=["old"]), files=True)
    reasons = ["the graph of run user uses it"] if counts else []
    assert [kept.reason for kept in report.kept] == reasons
    assert path.exists() is counts


@pytest.mark.parametrize("connected", [True, False])
async def test_same_name_on_another_machine(world, connected):
    """A machine on another host has its own files; an unreachable one may have files here."""
    path = await world.add("old")
    world.machines["far"] = SimpleNamespace(path=None, connected=connected)
    await world.add("far", machine="far", outputs=listing("old.png"))
    report = await world.server().delete(RunFilter(prompt_ids=["old"]), files=True)
    assert path.exists() != connected
    assert [kept.reason for kept in report.kept] == ([] if connected else ["run far uses it"])


@pytest.mark.parametrize("fault", [NoSpaceError, StoreUnavailableError])
async def test_a_database_error_in_between_reports_the_deleted_runs(world, monkeypatch, fault):
    paths = [await world.add(f"run-{n}") for n in range(3)]
    monkeypatch.setattr(deletion, "AT_A_TIME", 1)
    original, calls = DeletionRepository.delete, []

    async def delete(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise fault("The store cannot be written")
        return await original(*arguments, **options)

    monkeypatch.setattr(DeletionRepository, "delete", delete)
    with pytest.raises(fault) as raised:
        await world.server().delete(ALL, files=True)
    assert (raised.value.details["runs"], raised.value.details["files"]) == (2, 2)
    assert [path.exists() for path in paths] == [False, False, True]
    assert [record.prompt_id for record in await world.runs.newest()] == ["run-2"]


async def test_runs_of_an_unreachable_machine_are_deleted_later(world):
    path = await world.add("old")
    server = world.server(keep=KeepRuns(number=0))
    world.machine.path, world.machine.connected = None, False
    assert (await server.apply_limits()).runs == 0
    world.machine.path = world.home
    report = await server.apply_limits()
    assert (report.runs, report.files) == (1, 1)
    assert not path.exists()


async def test_limits_leave_the_files_of_runs_of_the_editor_and_others_by_a_setting(world):
    old = await world.add("old")
    report = await world.server(keep=KeepRuns(number=0, files=False)).apply_limits()
    assert (report.runs, report.files, old.exists()) == (1, 0, True)
    own = await world.add("own")
    edited = await world.add("edited", from_editor=True)
    newest = await world.add("newest")
    size = own.stat().st_size + newest.stat().st_size
    assert (await world.server(keep=KeepRuns(bytes=size)).apply_limits()).runs == 0
    report = await world.server(keep=KeepRuns(number=1)).apply_limits()
    assert (report.runs, report.files) == (2, 1)
    assert (edited.exists(), own.exists()) == (True, False)


@pytest.mark.parametrize("where", ["copies", "shared"])
@pytest.mark.parametrize("by_limit", [False, True])
async def test_files_of_members_that_have_ended(world, tmp_path, where, by_limit):
    """Those that were copied from there, and those in a folder that the cluster shares."""
    registry = MachineRegistry()
    shared = str(tmp_path / "shared")
    registry.set_pool(Pool("hpc", "hpc", "dask", ("alive",), shared_dirs=(shared,)))
    world.kept_outputs = KeptOutputs(tmp_path / "copies", registry)
    paths = {}
    for member in ("gone", "alive"):
        folder = tmp_path / where / member / "output"
        paths[member] = await world.add(f"of-{member}", folder=folder, machine=member)
    kept = await world.add("kept", folder=tmp_path / where / "gone" / "output", machine="gone")
    if by_limit:
        report = await world.server(keep=KeepRuns(number=1)).apply_limits()
    else:
        which = RunFilter(prompt_ids=["of-gone", "of-alive"])
        report = await world.server().delete(which, files=True)
    assert (report.runs, report.files, report.kept) == (2, 2, [])
    assert not any(path.exists() for path in paths.values())
    assert kept.exists()
    assert paths["alive"].parent.is_dir(), "its member may copy or write into it now"
    await world.server().delete(ALL, files=True)
    assert not (tmp_path / where / "gone").exists()
