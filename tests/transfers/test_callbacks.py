"""Messages to status endpoints: in order, stored until delivered, without delaying runs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.transfers import callbacks
from comfydeploy_jupyter.transfers.callbacks import MAX_BACKLOG, MAX_REFUSALS, CallbackTarget
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few


async def target(harness, service, prompt_id="run-1", token="secret"):
    made = CallbackTarget(
        prompt_id, session="", status_endpoint=f"{service.url}/status", token=token
    )
    await harness.transfers.callbacks.add(made)
    return made


def send(harness, target, number, *, passing=False):
    body = json.dumps({"run_id": target.prompt_id, "number": number}).encode()
    harness.transfers.callbacks.send(target, body, passing=passing)


def delivered(service, prompt_id="run-1"):
    return [body["number"] for _, body in service.callbacks if body["run_id"] == prompt_id]


async def test_callbacks_are_retried_after_every_error_in_order(harness, bare_service):
    bare_service.replacements["status"].extend([500, 403, 404, "hang up", (302, {}), 429, 503])
    made = await target(harness, bare_service)
    for number in range(5):
        send(harness, made, number)
    await harness.until(lambda: len(bare_service.callbacks) == 5)
    assert delivered(bare_service) == list(range(5))
    assert {token for token, _ in bare_service.callbacks} == {"secret"}


async def test_one_unreachable_endpoint_does_not_delay_another_run(harness, bare_service):
    bare_service.replacements["status"].append("never")
    slow = await target(harness, bare_service)
    send(harness, slow, 1)
    await harness.until(lambda: not bare_service.replacements["status"])
    send(harness, await target(harness, bare_service, "run-2"), 1)
    await harness.until(lambda: delivered(bare_service, "run-2") == [1])
    assert delivered(bare_service) == []


async def test_an_endpoint_that_never_answers_is_tried_again(make_harness, bare_service, caplog):
    bare_service.replacements["status"].extend(["never"] * 3)
    harness = await make_harness(answer_timeout=0.2)
    made = await target(harness, bare_service)
    send(harness, made, 1)
    send(harness, made, 2)
    await harness.until(lambda: delivered(bare_service) == [1, 2])
    assert "did not answer within 0.2 s" in caplog.text
    assert caplog.text.count("the next attempt follows") == 1
    assert not bare_service.replacements["status"]


async def test_only_stale_progress_is_dropped(harness, bare_service):
    bare_service.replacements["status"].extend([500] * 3)
    made = await target(harness, bare_service)
    for number in range(1000):
        send(harness, made, number, passing=number % 10 != 0)
    await harness.until(lambda: delivered(bare_service)[-1:] == [999])
    got = delivered(bare_service)
    assert [number for number in got if number % 10 == 0] == list(range(0, 1000, 10))
    assert got == sorted(got)
    assert len(got) < 100 + 2 * MAX_BACKLOG


async def test_a_restart_delivers_the_remaining_messages(harness, bare_service):
    bare_service.replacements["status"].extend([None, None, "never"])
    made = await target(harness, bare_service)
    for number in range(6):
        send(harness, made, number)
    made.reported_status = "running"
    await harness.until(lambda: not bare_service.replacements["status"])
    await harness.reopen()
    (again,) = harness.transfers.callbacks.targets()
    assert again.status_endpoint == made.status_endpoint
    send(harness, again, 6)
    await harness.until(lambda: len(bare_service.callbacks) == 7)
    assert delivered(bare_service) == list(range(7))
    assert {token for token, _ in bare_service.callbacks} == {"secret"}


async def reopen_with_times(harness, made_at):
    await harness.close()
    store = Database(harness.database.path)
    await store.open()
    await store.write(lambda c: c.execute("UPDATE callbacks SET created_at = ?", (made_at,)))
    await store.close()
    await harness.open()


@pytest.mark.parametrize("made_at", [0.0, 1e11])
async def test_a_clock_that_was_set_loses_no_message(harness, bare_service, made_at):
    """Each is sent at least once; the time limit for repetitions uses the monotonic clock."""
    bare_service.replacements["status"].append("never")
    made = await target(harness, bare_service)
    send(harness, made, 0)
    send(harness, made, 1)
    await harness.until(lambda: not bare_service.replacements["status"])
    await reopen_with_times(harness, made_at)
    await harness.until(lambda: delivered(bare_service) == [0, 1])


async def test_too_old_messages_are_tried_once(harness, bare_service, caplog):
    bare_service.replacements["status"].extend(["never", 500])
    made = await target(harness, bare_service)
    send(harness, made, 0)
    await harness.until(lambda: len(bare_service.replacements["status"]) == 1)
    await reopen_with_times(harness, 0)
    await harness.until(lambda: "could not be delivered in time" in caplog.text)
    (again,) = harness.transfers.callbacks.targets()
    send(harness, again, 1)
    await harness.until(lambda: delivered(bare_service) == [1])


@pytest.mark.parametrize("answer", [400, (302, {})])
@pytest.mark.parametrize(("messages", "shown"), [(3, [1, 2]), (1, [0])])
async def test_a_refused_message_is_skipped_but_never_the_end(
    harness, bare_service, answer, messages, shown
):
    made = await target(harness, bare_service)
    bare_service.replacements["status"].extend(
        [answer] * MAX_REFUSALS * (2 if messages == 1 else 1)
    )
    for number in range(messages):
        send(harness, made, number)
    harness.transfers.callbacks.finish(made)
    await harness.until(lambda: not harness.transfers.callbacks.targets())
    assert delivered(bare_service) == shown


@pytest.mark.parametrize("token", ["sk-1\n", "sk-\udcff"])
async def test_a_stored_key_that_cannot_be_sent_is_reported(harness, bare_service, token, caplog):
    """Earlier versions stored any key. After a restart with a valid key the end is delivered."""
    made = await target(harness, bare_service, token=token.replace("\udcff", "\n"))
    made.token = token
    send(harness, made, 0)
    send(harness, made, 1)
    harness.transfers.callbacks.finish(made)
    await harness.until(lambda: harness.transfers.callbacks.waiting == 1)
    assert "The key for the status endpoint contains characters" in caplog.text
    assert "sk-" not in caplog.text
    made.token = "sk-1"
    await harness.until(lambda: not harness.transfers.callbacks.targets())
    assert delivered(bare_service) == [1]


async def test_any_error_of_a_delivery_is_a_failed_attempt(harness, bare_service, caplog):
    """A closed session raises a RuntimeError."""
    made = await target(harness, bare_service)
    await harness.transfers.http.close()
    send(harness, made, 0)
    send(harness, made, 1)
    harness.transfers.callbacks.finish(made)
    await harness.until(lambda: harness.transfers.callbacks.waiting == 1)
    assert caplog.text.count("A message of run run-1 could not be sent") == 2, "once for each"
    assert harness.transfers.callbacks.is_delivering


async def test_messages_to_a_dead_endpoint_are_limited(harness, bare_service, monkeypatch, caplog):
    """In the store, too; the end of no run is dropped, and another server gets all messages."""
    monkeypatch.setattr(callbacks, "MAX_WAITING", 40)
    dead = [
        CallbackTarget(f"run-{number}", session="", status_endpoint=f"http://127.0.0.1:9/{number}")
        for number in range(30)
    ]
    alive = await target(harness, bare_service, "alive")
    sent = harness.transfers.callbacks
    for made in dead:
        await sent.add(made)
        for number in range(5):
            send(harness, made, number)
        sent.finish(made)
    for number in range(5):
        send(harness, alive, number)
    await harness.until(lambda: delivered(bare_service, "alive") == [0, 1, 2, 3, 4])
    assert sent.waiting <= 30 + 40
    assert "127.0.0.1:9 does not accept messages" in caplog.text
    # The last message to the other server may be stored until its answer is read.
    left = "SELECT prompt_id, body FROM callbacks WHERE prompt_id != 'alive' ORDER BY number"
    await harness.close()
    store = Database(harness.database.path)
    await store.open()
    rows = await store.read(lambda c: c.execute(left).fetchall())
    await store.close()
    assert len(rows) <= 30 + 40
    ends = {row["prompt_id"]: json.loads(row["body"])["number"] for row in rows}
    assert ends == {made.prompt_id: 4 for made in dead}
    await harness.open()


async def test_one_message_to_a_dead_endpoint_may_have_any_size(harness, monkeypatch):
    monkeypatch.setattr(callbacks, "MAX_WAITING_BYTES", 1000)
    made = CallbackTarget("run-1", session="", status_endpoint="http://127.0.0.1:9/")
    await harness.transfers.callbacks.add(made)
    for size in (2000, 600, 600, 2000):
        harness.transfers.callbacks.send(made, b"x" * size)
    assert harness.transfers.callbacks.waiting == 2


def rename(old, new):
    return lambda connection: connection.execute(f"ALTER TABLE {old} RENAME TO {new}")


async def test_a_failing_database_loses_no_message(harness, bare_service, caplog):
    bare_service.replacements["status"].append("never")
    made = await target(harness, bare_service)
    await harness.database.write(rename("callbacks", "away"))
    send(harness, made, 0)
    await harness.until(lambda: "Storing messages to status endpoints failed" in caplog.text)
    send(harness, made, 1)
    await harness.database.write(rename("away", "callbacks"))
    await harness.reopen()
    await harness.until(lambda: delivered(bare_service) == [0, 1])


async def test_a_stop_while_the_store_is_busy_loses_no_message(harness, bare_service):
    bare_service.replacements["status"].append("never")
    made = await target(harness, bare_service)
    gate = threading.Event()
    busy = asyncio.ensure_future(harness.database.write(lambda _: gate.wait(20)))
    await asyncio.sleep(0)
    send(harness, made, 0)
    await harness.until(
        lambda: not bare_service.replacements["status"]
    )  # the writing waits by now too
    again = asyncio.create_task(harness.reopen())
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(busy, again)
    await harness.until(lambda: delivered(bare_service) == [0])


async def test_a_finished_target_is_deleted_with_its_token(harness, bare_service):
    bare_service.replacements["status"].append(500)
    made = await target(harness, bare_service)
    send(harness, made, 1)
    harness.transfers.callbacks.finish(made)
    assert harness.transfers.callbacks.target("run-1") is made
    await harness.until(lambda: harness.transfers.callbacks.target("run-1") is None)
    assert delivered(bare_service) == [1]
    await harness.reopen()
    assert harness.transfers.callbacks.targets() == []
    rows = await harness.database.read(
        lambda connection: connection.execute("SELECT count(*) FROM callbacks").fetchone()[0]
    )
    assert rows == 0


async def test_a_run_whose_record_is_damaged_keeps_no_other_message_in_the_store(
    harness, bare_service
):
    record = RunRecord("run-1", "success", "local", "s")
    await RunRepository(harness.database).add(record, b"{}", None)
    await harness.database.write(
        lambda connection: connection.execute("UPDATE runs SET record = '{'").rowcount
    )
    callbacks = harness.transfers.callbacks
    for prompt_id, webhook in ("run-1", {"view_url": "", "intermediate": False}), ("run-2", None):
        made = CallbackTarget(
            prompt_id, "", status_endpoint=f"{bare_service.url}/status", webhook=webhook
        )
        await callbacks.add(made)
        send(harness, made, 1)
        callbacks.finish(made)
    await harness.until(lambda: not callbacks.targets())
    await harness.reopen()
    assert harness.transfers.callbacks.targets() == []
    assert await harness.transfers.callbacks.webhook_status("run-1") is None


@pytest.mark.parametrize(
    ("known", "reopened"),
    few(
        [
            *(("delivering", False), ("written", True), ("settled", False)),
            *(("delivering", True), ("written", False), ("settled", True)),
        ],
        3,
    ),
)
async def test_a_run_with_the_id_of_a_deleted_one_keeps_its_messages(
    make_harness, bare_service, known, reopened
):
    """Whether or not the messages and the target of the deleted run are gone by then."""
    harness = await make_harness(answer_timeout=0.5)
    callbacks = harness.transfers.callbacks
    bare_service.replacements["status"].extend(["never"] * (known != "settled"))
    old = await target(harness, bare_service)
    send(harness, old, 1)
    callbacks.finish(old)
    if known == "settled":
        await harness.until(lambda: callbacks.target("run-1") is None)
    elif known == "written":
        await harness.until(lambda: not bare_service.replacements["status"])
        await asyncio.sleep(0.2)
    gate = threading.Event()
    busy = asyncio.ensure_future(harness.database.write(lambda _: gate.wait(20)))
    adding = asyncio.create_task(target(harness, bare_service, token="new"))
    await asyncio.sleep(0.1)
    gate.set()
    await busy
    new = await adding
    assert callbacks.target("run-1") is new
    bare_service.replacements["status"].extend(["never"] * reopened)
    send(harness, new, 2)
    if reopened:
        await asyncio.sleep(0.2)
        await harness.reopen()
        new = harness.transfers.callbacks.target("run-1")
        assert new.token == "new"
    await harness.until(lambda: delivered(bare_service) == [1, 2])
    harness.transfers.callbacks.finish(new)
    await harness.until(lambda: not harness.transfers.callbacks.targets())


async def test_an_endpoint_gets_no_messages_of_a_deleted_run_that_had_another(
    harness, bare_service
):
    bare_service.replacements["status"].append("never")
    old = await target(harness, bare_service)
    send(harness, old, 1)
    harness.transfers.callbacks.finish(old)
    await harness.until(lambda: not bare_service.replacements["status"])
    new = CallbackTarget("run-1", session="", status_endpoint=f"{bare_service.url}/status?of=new")
    await harness.transfers.callbacks.add(new)
    send(harness, new, 2)
    await harness.until(lambda: delivered(bare_service) == [2])
    harness.transfers.callbacks.finish(new)
    await harness.until(lambda: not harness.transfers.callbacks.targets())
    assert delivered(bare_service) == [2]


async def test_another_server_does_not_send_messages_of_a_running_one(
    harness, make_harness, bare_service
):
    bare_service.replacements["status"].append("never")
    made = await target(harness, bare_service)
    send(harness, made, 1)
    await asyncio.sleep(0.2)
    other = await make_harness()
    assert other.transfers.callbacks.targets() == []


CRASH = """
import asyncio, os, sys
from pathlib import Path
from comfydeploy_jupyter.transfers.callbacks import CallbackTarget
from tests.transfers.conftest import Harness

async def main():
    harness = Harness(Path(sys.argv[1]))
    transfers = await harness.open()
    target = CallbackTarget("run-1", session="", status_endpoint=sys.argv[2])
    await transfers.callbacks.add(target)
    for number in range(3):
        transfers.callbacks.send(target, b'{"run_id": "run-1", "number": %d}' % number)
    await asyncio.sleep(0.3)
    print("sent", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_kill_loses_no_message(make_harness, bare_service, tmp_path):
    bare_service.replacements["status"].append("never")
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", CRASH, str(tmp_path / "harness"), f"{bare_service.url}/status"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert await asyncio.to_thread(process.stdout.readline) == b"sent\n"
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    harness = await make_harness()
    await harness.until(lambda: delivered(bare_service) == [0, 1, 2])
