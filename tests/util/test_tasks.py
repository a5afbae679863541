"""Background tasks: waiting for them, and ending them."""

import asyncio
import gc
import logging
import threading
import weakref

import pytest
from prometheus_client import REGISTRY

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.util import tasks
from comfydeploy_jupyter.util.tasks import (
    BackgroundTasks,
    close_each,
    open_in_thread,
    wait_for,
    wait_until_set,
)
from comfydeploy_jupyter.util.times import Backoff
from tests.helpers.waiting import until_async


def failures():
    """Return how many exceptions of background work are counted."""
    return REGISTRY.get_sample_value("comfydeploy_background_failures_total") or 0


async def test_a_swallowed_cancellation_is_repeated(monkeypatch):
    monkeypatch.setattr(tasks, "CANCEL_AGAIN", 0.01)
    swallowed = 0

    async def stubborn():
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.end([task]), 10)
    assert task.cancelled()
    assert swallowed == 2


async def test_end_handles_tasks_that_are_done_fail_or_never_started():
    async def fail():
        try:
            await asyncio.sleep(3600)
        finally:
            raise RuntimeError("on its way out")

    done, failing = asyncio.ensure_future(asyncio.sleep(0)), asyncio.ensure_future(fail())
    await done
    never_began = asyncio.ensure_future(asyncio.sleep(3600))
    await tasks.end([done, failing, never_began])
    assert never_began.cancelled()
    assert isinstance(failing.exception(), RuntimeError) or failing.cancelled()
    await tasks.end([])


async def test_a_file_that_opens_after_its_caller_was_cancelled_is_closed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    go, opened = threading.Event(), []

    def slow_open():
        go.wait(10)
        opened.append(path.open("rb"))
        return opened[0]

    task = asyncio.ensure_future(open_in_thread(slow_open))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await until_async(lambda: opened and opened[0].closed)
    with await open_in_thread(path.open, "rb") as file:
        assert file.read() == b"x"
    assert await open_in_thread(lambda: None) is None


async def test_background_tasks_are_kept_until_they_are_done():
    """The garbage collector deletes a waiting task to which nothing else refers."""
    tasks = BackgroundTasks()

    async def work():
        await asyncio.get_running_loop().create_future()

    task = weakref.ref(tasks.start(work()))
    await asyncio.sleep(0)
    gc.collect()
    assert task() is not None
    assert len(tasks) == 1
    await tasks.close()
    assert len(tasks) == 0


async def test_an_exception_of_a_background_task_is_logged(caplog):
    tasks = BackgroundTasks(logging.getLogger("here"))

    async def fail(error):
        raise error

    unexpected = tasks.start(fail(OSError("no")), "Work", log_fields={"run": "7"})
    known = tasks.start(fail(ValueError()), expected=(ValueError,))
    await asyncio.wait([unexpected, known])
    await tasks.close()
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("here", "Work failed")
    assert record.__dict__["run"] == "7"
    assert record.exc_info is not None


async def test_a_task_that_is_cancelled_before_its_first_step_is_done():
    tasks, entered, done = BackgroundTasks(), [], []

    async def work():
        entered.append(1)

    begun = [tasks.start(work(), when_done=lambda: done.append(1)), tasks.keep(work, "Work")]
    await tasks.close()
    assert all(task.cancelled() for task in begun)
    assert (entered, done) == ([], [1])


async def test_tasks_started_by_tasks_that_end_are_ended_too():
    tasks = BackgroundTasks()

    async def work(again):
        try:
            await asyncio.Event().wait()
        finally:
            if again:
                tasks.start(work(again - 1))

    tasks.start(work(2))
    await asyncio.sleep(0)
    await tasks.close()
    assert len(tasks) == 0


async def gone():
    await asyncio.sleep(0)
    raise OSError("gone")


async def test_a_loop_that_fails_goes_on(caplog):
    """Also if an exception in it is a CancelledError that nobody meant for it."""
    tasks, before = BackgroundTasks(logging.getLogger("here")), failures()
    caplog.set_level(logging.DEBUG, "here")
    rounds = []
    unrelated = asyncio.get_running_loop().create_future()
    unrelated.cancel()

    async def loop():
        rounds.append(1)
        if len(rounds) < 3:
            await gone()
        if len(rounds) == 3:
            raise ComfyUIUnavailableError("It does not answer")
        if len(rounds) == 4:
            await unrelated
        await asyncio.Event().wait()

    task = tasks.keep(loop, "Work", log_fields={"run": "7"}, again=Backoff(first=0.001))
    await until_async(lambda: len(rounds) == 5)
    assert not task.done()
    await tasks.close()
    assert task.cancelled()
    assert failures() - before == 4
    assert [(r.levelname, bool(r.exc_info)) for r in caplog.records] == [
        *(("ERROR", True), ("DEBUG", True), ("WARNING", False), ("ERROR", True))
    ]
    assert "Work failed, and goes on in 0.0 s: gone" in caplog.text
    assert {record.__dict__["run"] for record in caplog.records} == {"7"}


async def test_a_loop_that_returns_is_done():
    tasks, rounds = BackgroundTasks(), []

    async def twice():
        rounds.append(1)
        if len(rounds) == 1:
            await gone()

    await tasks.keep(twice, "Work", again=Backoff(first=0.001))
    assert len(rounds) == 2
    assert len(tasks) == 0


async def test_everything_is_closed_whatever_fails(caplog):
    closed, before = [], failures()
    await close_each(gone, lambda: closed.append(1), gone, asyncio.Event().set)
    assert closed == [1]
    assert failures() - before == 2
    assert "gone failed; the rest is closed nevertheless" in caplog.text


async def test_wait_for_returns_or_raises_what_its_task_does_or_cancels_it():
    for timeout in (10, None):
        assert await wait_for(asyncio.sleep(0, "found"), timeout) == "found"
    with pytest.raises(OSError, match="gone"):
        await wait_for(gone(), 10)
    ended = []

    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    with pytest.raises(asyncio.TimeoutError):
        await wait_for(slow(), 0.001)
    assert ended == [1]


async def test_wait_for_returns_a_result_that_comes_during_the_cancellation():
    async def late():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "at the last moment"
        return ""

    assert await wait_for(late(), 0.001) == "at the last moment"


async def test_wait_for_does_not_swallow_a_cancellation():
    """asyncio's function does before Python 3.12, if both happen in the same step of the loop."""
    ready = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wait_for(ready, 10))
    await asyncio.sleep(0)
    ready.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_wait_for_cancels_its_task_when_it_is_cancelled():
    work = asyncio.ensure_future(asyncio.Event().wait())
    waiting = asyncio.ensure_future(wait_for(work, 10))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled()


async def test_waiting_for_an_event():
    event = asyncio.Event()
    assert not await wait_until_set(event, 0.001)
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_until_set(event, 10)
    assert await wait_until_set(event, 0)
