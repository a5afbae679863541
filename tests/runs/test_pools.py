"""Runs of pools, with two simulated ComfyUIs: their assignment and their ends."""

import asyncio
import hashlib
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError, ConflictError
from comfydeploy_jupyter.machines.registry import Pool
from comfydeploy_jupyter.runs import creation
from tests.helpers.selection import THOROUGH

from .world import World


@pytest.fixture(autouse=True)
def no_hidden_errors():
    """`World` checks for errors."""


@pytest.fixture
def world():
    """Two machines that are known to be equally fast."""
    found = World()
    compare(found)
    yield found
    found.check()
    found.close()


def compare(world):
    """Let each machine execute the same workflow."""
    for comfyui in world.comfyuis:
        world.submit(machine=comfyui.machine.id, wait=False)
        world.tick(0.2)
        execute(world, comfyui.machine.id)


def submit(world, count, **fields):
    """Submit runs of the pool, one after the other, each of a workflow without known durations."""
    found = []
    for _ in range(count):
        graph = {"1": {"class_type": f"X{len(world.waiting)}", "inputs": {}}}
        request = {"machine": "gpus", "wait": False, "workflow_api": graph}
        found.append(world.submit(**{**request, **fields}))
        world.tick(0.2)
    return found


def record(world, prompt_id):
    return world.do(world.service.record(prompt_id))


def places(world, runs):
    return [(record(world, run).machine, record(world, run).status) for run in runs]


def positions(world, runs):
    replies = [world.service.reply(record(world, run)) for run in runs]
    return [reply.get("queue_position") for reply in replies]


def execute(world, name="local"):
    """Let a ComfyUI execute its next prompt."""
    comfyui = world.comfyuis[name == "second"]
    world.call(comfyui.begin)
    world.tick(0.5)
    world.call(comfyui.finish, "execution_success")
    world.tick(1.0)


def test_runs_wait_until_a_machine_has_a_free_place(world):
    runs = submit(world, 7)
    machines = [machine for machine, _ in places(world, runs)]
    assert sorted(machines[:4]) == ["local", "local", "second", "second"]
    assert machines[4:] == ["gpus"] * 3
    assert {record(world, run).status for run in runs} == {"queued"}
    assert world.store.rows[runs[6]].waits, "it is stored before its client has an answer"
    assert positions(world, runs[4:]) == [3, 4, 5]
    execute(world, "second")
    assert [machine for machine, _ in places(world, runs[4:])] == ["second", "gpus", "gpus"]
    assert positions(world, runs[5:]) == [3, 4]
    assert len(world.second.pending) == 2


def test_runs_reach_a_machine_in_their_order(world, monkeypatch):
    for comfyui in world.comfyuis:
        world.call(comfyui.disconnect)
    runs = submit(world, 4)
    first_read = world.store.prompt

    async def read(prompt_id):
        """Read the graphs of the runs that are first in the queue more slowly."""
        await asyncio.sleep(0.1 * (len(runs) - runs.index(prompt_id)))
        return await first_read(prompt_id)

    monkeypatch.setattr(world.store, "prompt", read)
    world.call(world.comfyui.connect)
    world.tick(5.0)
    sent = [record(world, run).comfyui_id for run in runs[:2]]
    assert world.comfyui.pending == sent


def test_waiting_runs_of_a_machine_that_ends_return_to_the_pool(world):
    runs = submit(world, 6)
    world.call(world.comfyui.begin)
    world.call(world.second.begin)
    world.tick(0.5)
    running = next(run for run in runs if record(world, run).comfyui_id == world.comfyui.running)
    here = [run for run in runs if record(world, run).machine == "local"]
    world.call(world.comfyui.die)
    world.tick(2.0)
    assert record(world, running).status == "failed"
    (returned,) = [run for run in here if run != running]
    assert places(world, [returned]) == [("gpus", "queued")]
    world.call(world.second.finish, "execution_success")
    world.tick(1.0)
    assert places(world, [returned]) == [("second", "queued")], "it has kept its place"


def test_a_machine_that_does_not_reply_keeps_its_runs(world):
    runs = submit(world, 4)
    here = [run for run in runs if record(world, run).machine == "local"]
    world.call(world.comfyui.disconnect)
    execute(world, "second")
    execute(world, "second")
    world.tick(100.0)
    assert places(world, here) == [("local", "queued")] * 2
    world.call(world.comfyui.connect)
    execute(world)
    assert record(world, here[0]).status == "success"


def test_a_run_is_executed_again_if_its_request_allows_that(world):
    (run,) = submit(world, 1, retry=1)
    comfyui = next(c for c in world.comfyuis if c.pending)
    world.call(comfyui.begin)
    world.tick(0.5)
    world.call(comfyui.die)
    world.tick(2.0)
    other = record(world, run).machine
    assert other in {"local", "second"} - {comfyui.machine.id}
    assert (record(world, run).status, record(world, run).started_at) == ("queued", None)
    (survivor,) = [c for c in world.comfyuis if c is not comfyui]
    world.call(survivor.begin)
    world.tick(0.5)
    world.call(survivor.die)
    world.tick(2.0)
    assert record(world, run).status == "failed", "it is executed again only once"


def test_a_run_of_a_single_machine_is_not_executed_again(world):
    """Even if its request allows that: no other machine may take it."""
    (run,) = submit(world, 1, machine="second", retry=1)
    world.call(world.second.begin)
    world.tick(0.5)
    world.happens("ComfyUI dies", world.second)
    world.happens("ComfyUI is started", world.second)
    world.tick(2.0)
    assert places(world, [run]) == [("second", "failed")]


def test_waiting_runs_wait_again_after_a_restart(world):
    runs = submit(world, 6)
    first = submit(world, 1, front=True)[0]
    assert positions(world, [first, runs[4]]) == [3, 4]
    before = places(world, [*runs, first])
    world.kill()
    world.tick(3.0)
    assert places(world, [*runs, first]) == before
    for _ in range(2):  # one at a time, as the new server does not know how fast they are
        execute(world)
        execute(world, "second")
    assert [machine for machine, _ in places(world, [first, runs[4], runs[5]])].count("gpus") == 1
    assert places(world, [runs[5]]) == [("gpus", "queued")]


def test_a_run_keeps_its_place_if_its_machine_ends_after_a_restart(world):
    runs = submit(world, 6)
    here = [run for run in runs if record(world, run).machine == "local"]
    world.kill()
    world.tick(3.0)
    world.call(world.comfyui.die)
    world.tick(2.0)
    assert places(world, here) == [("gpus", "queued")] * 2
    assert positions(world, [*here, *runs[4:]]) == [2, 3, 4, 5]


def test_a_run_is_executed_once_if_its_machine_queues_it_after_a_restart(world):
    """Jupyter ends after the request was sent; the machine handles it three seconds later."""
    for comfyui in world.comfyuis:
        world.call(comfyui.disconnect)
    (run,) = submit(world, 1)
    world.second.answer = "late"
    world.call(world.second.connect)
    world.tick(0.5)
    world.call(world.comfyui.connect)
    world.kill()
    world.tick(30.0)
    assert [*world.comfyui.pending, *world.second.pending] == [record(world, run).comfyui_id]
    execute(world, "second")
    assert record(world, run).status == "success"


def given_up(world):
    """Return a run whose prompt was held back on the way to the second ComfyUI for too long."""
    world.call(world.comfyui.disconnect)
    world.second.answer = "held"
    (run,) = submit(world, 1)
    world.second.answer = "taken"
    return run


@pytest.mark.parametrize("moves", [True, False])
def test_a_prompt_that_arrives_after_it_was_given_up_is_not_executed(world, moves):
    """Its run is executed by the other ComfyUI, or by the same one, where it has another id."""
    run = given_up(world)
    if moves:
        world.second.refuses = True
        world.tick(1.5)
        world.call(world.comfyui.connect)
        world.second.refuses = False
    first = record(world, run).comfyui_id
    world.tick(40.0)
    moved = record(world, run)
    assert moved.machine == ("local" if moves else "second")
    assert moved.comfyui_id != first
    execute(world, moved.machine)
    world.tick(30.0)
    assert first in world.second.held
    assert first not in (*world.second.pending, *world.second.history_of)
    assert record(world, run).status == "success"


def test_a_prompt_that_arrives_after_it_was_given_up_is_interrupted(world):
    """It could not be deleted while it waited."""
    run = given_up(world)
    first = record(world, run).comfyui_id
    world.tick(40.0)
    execute(world, "second")
    world.second.refuses = True
    world.tick(20.0)
    assert world.second.pending == [first]
    world.second.refuses = False
    world.call(world.second.begin)
    world.tick(1.0)
    assert world.second.running is None
    assert world.second.history_of[first]["status"]["status_str"] == "error"
    assert record(world, run).status == "success"


def test_a_request_to_queue_a_run_again_may_be_given_up_too(world):
    _, run = submit(world, 2, machine="second")
    first = record(world, run).comfyui_id
    world.call(world.second.begin)
    assert world.second.pending == [first]
    world.call(world.second.die)
    world.second.answer = "held"
    world.happens("ComfyUI is started", world.second)
    world.tick(5.0)
    world.second.answer = "taken"
    world.tick(30.0)
    again = record(world, run).comfyui_id
    assert world.second.pending == [again] != [first]
    world.tick(40.0)
    assert world.second.held == {first}
    assert world.second.pending == [again]
    execute(world, "second")
    assert record(world, run).status == "success"


def test_a_run_that_was_told_failed_is_not_executed_later(world):
    world.second.answer = "held"
    run = world.submit(machine="second", wait=False)
    world.tick(40.0)
    failed = record(world, run)
    assert (failed.status, failed.error["type"]) == ("failed", "NotQueued")
    world.tick(40.0)
    assert world.second.held == {failed.comfyui_id}
    assert world.second.pending == []


def test_a_prompt_of_another_client_counts_after_the_end_of_a_run(world):
    for number in range(2):
        world.call(world.second.take, f"not-ours-{number}")
    submit(world, 1)
    world.call(world.comfyui.take, "not-ours")
    execute(world)
    world.call(world.comfyui.begin)
    runs = [world.submit(machine="gpus", wait=False) for _ in range(2)]
    world.tick(0.5)
    assert [machine for machine, _ in places(world, runs)] == ["local", "gpus"]
    assert positions(world, runs) == [1, 3]


def test_a_run_does_not_wait_for_prompts_whose_end_was_not_reported(world):
    """The sockets are open, but receive no event, and no machine has a run."""
    for comfyui in world.comfyuis:
        for number in range(2):
            world.call(comfyui.take, f"not-ours-{number}")
    (run,) = submit(world, 1)
    assert places(world, [run]) == [("gpus", "queued")]
    world.second.pending.clear()
    world.tick(10.0)
    assert places(world, [run]) == [("second", "queued")]


def test_an_unreachable_machine_gets_no_run(world):
    world.comfyui.refuses = True
    runs = submit(world, 3)
    world.tick(1.0)
    assert [machine for machine, _ in places(world, runs)].count("second") == 2
    world.comfyui.refuses = False
    world.tick(3.0)
    assert [machine for machine, _ in places(world, runs)].count("local") == 1


def test_a_run_in_the_queue_of_another_server_cannot_be_cancelled_here(world):
    waiting = world.store.rows[submit(world, 5)[4]]
    other = waiting.changed(prompt_id="other", comfyui_id="other", session="of another server")
    world.store.rows["other"] = other
    with pytest.raises(ConflictError, match="another Jupyter server"):
        world.do(world.service.interrupt("other", None))
    assert record(world, "other").status == "queued"


# Seconds; after the last one, ComfyUI has the run.
AT = [number / 100 for number in range(0, 30, 1 if THOROUGH else 3)]


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["taken", "ignored"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_run_goes_to_another_member_if_its_own_one_leaves_meanwhile(answer, waits):
    """At any time while it is sent, at once or after it has waited for a place."""
    for pause in AT:
        world = World()
        world.second.answer = answer
        for comfyui in world.comfyuis:
            world.call(comfyui.disconnect)
        if not waits:
            world.call(world.second.connect)
        run = world.submit(machine="gpus", wait=False)
        if waits:
            world.tick(1.0)
            world.call(world.second.connect)
        world.tick(pause)
        world.remove(world.second)
        world.call(world.comfyui.connect)
        world.tick(60.0)
        assert places(world, [run]) == [("local", "queued")], pause
        world.call(world.second.clear)
        world.check()
        world.close()


def test_the_end_of_a_lease_whose_connection_was_lost_before_stays_the_reason(
    world,
):
    """It is still looked at whether its ComfyUI has ended when its provider says so."""
    for comfyui in world.comfyuis:
        comfyui.answer, comfyui.patience, comfyui.machine.verdict_takes = "lost", 3.0, 0.2
    run = world.submit(machine="gpus", wait=False)
    world.tick(0.2)
    at = next(c for c in world.comfyuis if c.machine.id == record(world, run).machine)
    [other] = [c for c in world.comfyuis if c is not at]
    other.answer = "taken"
    at.alive = False
    world.call(at.disconnect)
    world.tick(0.1)
    world.remove(at)
    world.tick(1.0)
    waiting = world.service.find(run)
    assert waiting.comfyui_exit == "Its lease has ended"
    world.tick(60.0)
    found = record(world, run)
    assert (found.machine, found.attempts) == (other.machine.id, 1)
    world.call(at.clear)


def test_a_run_of_a_single_member_ends_with_it(world):
    runs = submit(world, 2, machine="second")
    world.call(world.second.begin)
    world.tick(0.5)
    world.remove(world.second)
    world.tick(1.0)
    assert [record(world, run).status for run in runs] == ["failed"] * 2


def test_a_run_ends_with_a_member_that_reported_its_success_only(world):
    """Its start was missed, and its outputs could not be read before its member ended."""
    runs = submit(world, 1, machine="gpus")
    comfyui = next(c for c in world.comfyuis if c.pending)
    world.call(comfyui.disconnect)
    world.call(comfyui.begin)
    comfyui.refuses = True
    world.call(comfyui.connect)
    world.call(comfyui.finish, "execution_success")
    world.tick(1.0)
    assert record(world, runs[0]).status == "queued"
    world.remove(comfyui)
    world.tick(1.0)
    assert record(world, runs[0]).status == "failed"


PICTURE = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}


def test_a_run_whose_outputs_ended_with_their_member_has_not_succeeded(world):
    """Its member ends before the reply to the request that queued it."""
    world.registry.set_pool(Pool("gpus", "gpus", "dask", ("second",)))
    world.second.answer, world.second.output = "slow", PICTURE
    run = world.submit(machine="gpus", wait=False)
    world.tick(0.2)
    world.call(world.second.begin)
    world.call(world.second.finish, "execution_success")
    world.registry.set_pool(Pool("gpus", "gpus", "dask"))
    world.remove(world.second)
    world.tick(5.0)
    failed = record(world, run)
    assert failed.status == "failed"
    assert failed.error["type"] == "OutputsLost"


def test_a_run_ends_although_the_name_of_its_output_cannot_be_encoded(world, tmp_path):
    (tmp_path / "second" / "output").mkdir(parents=True)
    pool = Pool("gpus", "gpus", "dask", ("second",), shared_dirs=(str(tmp_path),))
    world.registry.set_pool(pool)
    image = {**PICTURE["images"][0], "filename": "half of an emoji \ud83d.png"}
    world.second.output = {"images": [image]}
    (run,) = submit(world, 1)
    execute(world, "second")
    assert record(world, run).status == "success"


PHOTO = b"a photo"
WITH_PHOTO = {"1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}}}


@pytest.fixture
def photographer(tmp_path):
    """A world with ``photo.png`` in the folder of files for pools."""
    (tmp_path / "kept" / "input").mkdir(parents=True)
    (tmp_path / "kept" / "input" / "photo.png").write_bytes(PHOTO)
    found = World(tmp_path / "kept")
    compare(found)
    yield found
    found.check()
    found.close()


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (f"comfydeploy/{hashlib.sha256(PHOTO).hexdigest()[:16]}-photo.png/folder", "directory"),
        ("comfydeploy", "is a file"),
    ],
)
def test_a_run_whose_files_a_machine_cannot_take_fails(photographer, tmp_path, obstacle, reason):
    blocked = tmp_path / "comfyui" / "input" / obstacle
    blocked.parent.mkdir(parents=True)
    blocked.write_bytes(b"")
    for comfyui in photographer.comfyuis:
        comfyui.machine.path = tmp_path / "comfyui"
    (run,) = submit(photographer, 1, workflow_api=WITH_PHOTO)
    photographer.tick(1.0)
    failed = record(photographer, run)
    assert failed.status == "failed"
    assert failed.error["type"] == "NotQueued"
    assert "The input files cannot be sent to machine" in failed.error["message"]
    assert reason in failed.error["message"]
    others = submit(photographer, 4)
    assert sorted(places(photographer, others)) == [
        *[("local", "queued")] * 2,
        *[("second", "queued")] * 2,
    ], "it has left its place"


def test_a_run_whose_input_file_was_changed_while_it_waited_fails(photographer, tmp_path):
    runs = submit(photographer, 8, workflow_api=WITH_PHOTO)
    (tmp_path / "kept" / "input" / "photo.png").write_bytes(b"A PHOTO")
    waited = [run for run in runs if record(photographer, run).waits]
    for _ in range(8):
        execute(photographer)
        execute(photographer, "second")
    assert 0 < len(waited) < 8
    for run in runs:
        found = record(photographer, run)
        assert found.status == ("failed" if run in waited else "success")
        if found.status == "failed":
            assert found.error["type"] == "InputChanged"
            assert "1.image: The input file 'photo.png' was changed" in found.error["message"]


def test_a_run_waits_again_after_an_unexpected_error(photographer):
    for comfyui in photographer.comfyuis:
        comfyui.upload_faults.append(ZeroDivisionError("division by zero"))
    (run,) = submit(photographer, 1, workflow_api=WITH_PHOTO)
    photographer.tick(1.0)
    assert places(photographer, [run]) == [("gpus", "queued")]
    assert positions(photographer, [run]) == [1]
    photographer.tick(10.0)
    assert record(photographer, run).machine != "gpus"


def test_a_run_waits_again_after_an_unexpected_error_of_its_request(world):
    """ComfyUI may have received the request, so it is looked up there first."""
    for comfyui in world.comfyuis:
        world.call(comfyui.disconnect)
        comfyui.post_faults.append(ZeroDivisionError("division by zero"))
    (run,) = submit(world, 1)
    world.call(world.second.connect)
    world.tick(5.0)
    assert places(world, [run]) == [("second", "queued")]
    world.tick(20.0)
    assert places(world, [run]) == [("second", "queued")]
    execute(world, "second")
    assert record(world, run).status == "success"


def test_a_machine_that_fails_its_runs_is_paused(world):
    """Runs that it has, and the one with which it is tried, are executed by the other one."""
    runs = submit(world, 16)
    shown = set()
    for _ in range(60):
        for comfyui, end in zip(world.comfyuis, ("error", "success"), strict=True):
            world.call(comfyui.begin)
            world.tick(0.1)
            world.call(comfyui.finish, f"execution_{end}")
            world.tick(0.5)
            world.call(lambda: shown.add(world.registry.pause_of("local")))
    statuses = [status for _, status in places(world, runs)]
    assert statuses.count("failed") == 2
    assert statuses.count("success") == 14
    assert any("have failed" in text for text in shown if text)
    moved = [run for run in runs if "executed elsewhere" in str(record(world, run).story)]
    assert len(moved) >= 1
    assert {record(world, run).machine for run in moved} == {"second"}
    assert sum(world.comfyui.executions.values()) == 1 + 2 + len(moved)


@pytest.mark.parametrize("named", [True, False])
def test_a_pool_takes_turns_between_clients(world, named):
    """Also after a restart, and positions tell it."""

    def of(client):
        return {"client_id": client} if named else {"metadata": {"client": client}}

    many = submit(world, 16, **of("many"))
    few = submit(world, 2, **of("few"))
    assert positions(world, [few[0], many[4], few[1], many[5], many[6]]) == [3, 4, 5, 6, 7]
    world.kill()
    world.tick(3.0)
    assert positions(world, [many[4], few[0], many[5], few[1], many[6]]) == [3, 4, 5, 6, 7]
    for _ in range(4):
        execute(world)
        execute(world, "second")
    assert {status for _, status in places(world, [*many[:4], *few])} == {"success"}
    assert places(world, many[12:]) == [("gpus", "queued")] * 4


def test_a_machine_that_does_not_answer_pings_gets_no_run(world):
    world.comfyui.silent = True
    runs = submit(world, 4)
    world.tick(2.0)
    assert sorted(places(world, runs)) == [*[("gpus", "queued")] * 2, *[("second", "queued")] * 2]
    world.comfyui.silent = False
    world.tick(2.0)
    assert sorted(places(world, runs)) == [*[("local", "queued")] * 2, *[("second", "queued")] * 2]


def test_a_run_whose_error_was_told_is_not_executed_elsewhere(world):
    """Its machine is paused for the failure of the run before it, which is noticed later."""
    compare(world)
    told = []
    world.call(
        lambda: world.service.active.follow(lambda run, event: told.append((run, event.event)))
    )
    runs = submit(world, 8)

    def fail():
        world.comfyui.begin()
        world.comfyui.finish("execution_error")

    world.call(fail)
    world.tick(0.5)
    world.call(lambda: (fail(), fail()))
    for _ in range(8):
        world.tick(0.5)
        execute(world, "second")
    failed = {run.prompt_id for run, event in told if event == "execution_error"}
    assert len(failed) == 3
    assert failed == {run for run in runs if record(world, run).status == "failed"}


def test_a_machine_that_is_silent_for_a_moment_keeps_its_models(world):
    """One that loads a model may answer no pings meanwhile."""
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}}
    submit(world, 1, machine="local", workflow_api={"1": loader})
    world.comfyui.silent = True
    submit(world, 2)
    world.tick(2.0)
    world.comfyui.silent = False
    world.tick(2.0)
    activity = world.service._context.machines.activity("local")
    assert activity["models"] == ["a.safetensors"]


def test_a_run_that_has_ended_is_not_taken_for_a_prompt_of_another_client(world):
    """ComfyUI reports its success before its new number of prompts. The second one is slow."""
    workflow = {"workflow_api": {"1": {"class_type": "Y", "inputs": {}}}}
    for comfyui, seconds in zip(world.comfyuis, (1.0, 20.0), strict=True):
        submit(world, 1, machine=comfyui.machine.id, **workflow)
        world.call(comfyui.begin)
        world.tick(seconds)
        world.call(comfyui.finish, "execution_success")
        world.tick(1.0)
    world.comfyui.late = True
    runs = submit(world, 6, **workflow)
    for _ in range(8):
        world.call(world.comfyui.begin)
        world.tick(1.0)
        world.call(world.comfyui.finish, "execution_success")
        world.tick(0.1)
    assert places(world, runs) == [("local", "success")] * 6


# The models of each; one of them does not answer.
MEMBERS = {
    "first": ["a"],
    "second": ["a"],
    "third": ["b"],
    "fourth": [],
    "fifth": ["c"],
    "last": ["b"],
}


async def test_a_refused_input_is_tried_once_for_each_different_definition():
    asked = []

    def member(name, models):
        async def definitions(*, max_age):
            asked.append(name)
            if not models:
                raise ComfyUIUnavailableError("it does not answer")
            other = {"Other": {"input": {"name": [[name]]}}}
            return SimpleNamespace(object_info={"Loads": {"input": {"file": [models]}}, **other})

        return SimpleNamespace(id=name, definitions=definitions)

    members = [member(name, models) for name, models in MEMBERS.items()]
    graph = {"1": {"class_type": "Loads", "inputs": {}}}
    found = await creation._defining_otherwise(members, graph)
    assert [each.id for each in found] == ["third", "fifth"]
    assert asked == [*MEMBERS]
