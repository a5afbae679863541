"""Uploads to a real S3 server, and to services with errors."""

import asyncio
import itertools
import os
import random
import time

import pytest

from comfydeploy_jupyter.errors import (
    ConflictError,
    NotFoundError,
)
from comfydeploy_jupyter.transfers.queue import Transfer, TransferQueue
from comfydeploy_jupyter.transfers.uploads import content_type
from tests.helpers.selection import few

MIB = 1024 * 1024
SECRET = "cd-secret-key"


def output(harness, name, content):
    """Make an output file of node 9; return it as `upload_outputs` takes it."""
    (harness.comfyui / "output" / name).write_bytes(content)
    item = {"filename": name, "subfolder": "", "type": "output", "content_type": content_type(name)}
    return "9", ["images", 0], item


async def upload(harness, service, items, prompt_id="run-1", token=SECRET):
    """Upload outputs and return their records at the end."""
    records = await harness.transfers.upload_outputs(
        prompt_id, "local", items, endpoint=f"{service.url}/upload?team=a%20b", token=token
    )
    return [await harness.ended(record) for record in records]


async def test_outputs_arrive_in_s3(harness, service, s3):
    name, content = "bild ä+1.png", random.randbytes(3 * MIB + 17)
    service.include_acl = True
    items = [output(harness, name, content), output(harness, "empty.txt", b"")]
    record, empty = await upload(harness, service, items)
    assert (record.state, record.error, empty.state) == ("done", None, "done")
    assert (s3.get(f"run-1/{name}"), s3.get("run-1/empty.txt")) == (content, b"")
    assert s3.head(f"run-1/{name}")["ContentType"] == "image/png"
    assert record.facts["download_url"] == f"https://cdn.example/run-1/{name}"
    (headers, query, _), _ = sorted(service.requests_to("upload"), key=lambda each: each[1]["type"])
    about = {"team": "a b", "file_name": name, "run_id": "run-1", "type": "image/png"}
    assert query == {**about, "version": "v2"}
    assert headers["Authorization"] == f"Bearer {SECRET}"
    status = await harness.transfers.queue.status("run-1")
    assert status["completed"] == 2
    assert status["pending_uploads"] == status["queue_size"] == status["active"] == 0
    (shown,) = (each for each in status["uploads"] if each["size"])
    assert shown["size"] == shown["sent"] == len(content)
    assert (shown["direction"], shown["node_id"], shown["attempts"]) == ("up", "9", 1)
    service.requests.clear()
    await upload(harness, service, items[1:], prompt_id="run-2", token=None)
    ((headers, _, _),) = service.requests_to("upload")
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("where", "faults", "attempts", "says"),
    [
        *(("upload", [fault] * 2, {3}, None) for fault in (503, 429, "garbage", "half")),
        # aiohttp itself repeats a GET once whose connection was closed, older ones a PUT too
        ("upload", ["hang up"] * 2, {2}, None),
        ("store", ["hang up"] * 2, {2, 3}, None),
        *(("store", [fault] * 2, {3}, None) for fault in few((500, "half", 429))),
        ("upload", [403], {1}, "The upload endpoint answered 403 Forbidden"),
        ("upload", [(302, {"Location": "https://evil.example/"})], {1}, "redirect"),
        ("store", [403], {1}, "The storage answered 403 Forbidden"),
        ("upload", [500] * 10, {4}, "answered 500 Internal Server Error"),
        ("upload", ["garbage"] * 10, {4}, "not return a JSON object"),
        ("upload", ["half"] * 10, {4}, "did not answer correctly"),
    ],
)
async def test_a_temporary_error_is_retried_and_another_one_is_reported(
    harness, service, where, faults, attempts, says
):
    service.to_store = True
    service.replacements[where].extend(faults)
    (record,) = await upload(harness, service, [output(harness, "a.png", b"x" * MIB)])
    assert record.state == ("failed" if says else "done")
    assert record.attempts in attempts
    (shown,) = (await harness.transfers.queue.status())["uploads"]
    assert (shown["state"], shown["error"]) == (record.state, record.error)
    assert says in record.error if says else service.stored["run-1/a.png"] == b"x" * MIB


async def test_a_slow_upload_shows_its_progress_and_is_not_stalled(make_harness, service):
    harness = await make_harness(stall=2)
    service.to_store, service.store_delay = True, 0.005
    sending = asyncio.ensure_future(
        upload(harness, service, [output(harness, "a.png", b"x" * 32 * MIB)])
    )
    seen = set()
    while not sending.done():
        for shown in (await harness.transfers.queue.status("run-1"))["uploads"]:
            seen.add(shown["sent"])
        await asyncio.sleep(0.05)
    (record,) = await sending
    assert (record.state, record.attempts) == ("done", 1)
    assert len(seen) > 3
    assert max(seen) <= 32 * MIB


async def test_retry_after_is_honoured(harness, service):
    service.replacements["upload"].append((429, {"Retry-After": "1"}))
    started = time.monotonic()
    (record,) = await upload(harness, service, [output(harness, "a.png", b"x")])
    assert record.state == "done"
    assert time.monotonic() - started > 0.9


async def test_a_missing_file(harness, service):
    item = output(harness, "a.png", b"x")
    (harness.comfyui / "output" / "a.png").unlink()
    (record,) = await upload(harness, service, [item])
    assert (record.state, record.attempts) == ("failed", 1)
    assert record.error == "a.png is not in the output folder of this ComfyUI"


async def test_waiting_ends_if_the_database_fails(harness):
    record = harness.transfers.queue.new(
        "up", "presigned", "a", path=str(harness.comfyui / "input" / "gone"), private={}
    )
    adding = asyncio.create_task(harness.transfers.queue.add([record]))
    await asyncio.sleep(0)
    await harness.database.write(lambda db: db.execute("ALTER TABLE transfers RENAME TO away"))
    await adding
    assert (await harness.ended(record)).state == "failed"
    await harness.database.write(lambda db: db.execute("ALTER TABLE away RENAME TO transfers"))
    await harness.reopen()
    known = await harness.transfers.queue.get(record.id)
    assert (await harness.ended(known)).state == "failed"
    assert (await harness.transfers.queue.status())["failed"] == 1


class Gated:
    """A job that is done when ``go`` is set."""

    def __init__(self):
        self.go = asyncio.Event()
        self.begun = 0

    async def run(self, transfer):
        self.begun += 1
        await self.go.wait()

    async def clean_up(self, transfer): ...


class SlowReads:
    """A database that returns transfers when ``go`` is set."""

    def __init__(self, database):
        self._database = database
        self.reading, self.go = asyncio.Event(), asyncio.Event()
        self.write = database.write

    async def read(self, work, *arguments):
        found = await self._database.read(work, *arguments)
        if isinstance(found, list):
            self.reading.set()
            await self.go.wait()
        return found


@pytest.mark.parametrize("what", ["get", "status"])
async def test_a_transfer_that_ends_while_it_is_read_is_returned_as_ended(harness, what):
    slow, job = SlowReads(harness.database), Gated()
    queue = TransferQueue(slow, harness.session, {"gated": job})
    record = queue.new("up", "gated", "a")
    await queue.add([record])
    requested = asyncio.ensure_future(queue.get(record.id) if what == "get" else queue.status())
    await slow.reading.wait()
    job.go.set()
    assert (await queue.wait(record)).state == "done"
    slow.go.set()
    reply = await requested
    state = reply.state if what == "get" else [shown["state"] for shown in reply["uploads"]]
    assert state == ("done" if what == "get" else ["done"])


async def test_a_file_that_changes_size_while_it_is_read_is_sent_again(harness, service):
    service.to_store, service.store_delay = True, 0.004
    item = output(harness, "a.png", b"x" * 24 * MIB)
    path = harness.comfyui / "output" / "a.png"
    sending = asyncio.ensure_future(upload(harness, service, [item]))
    await harness.until(lambda: service.putting == 1)
    os.truncate(path, 16 * MIB)
    await harness.until(lambda: len(service.puts) == 2)
    with path.open("ab") as file:
        file.write(b"more")
    (record,) = await sending
    assert (record.state, record.attempts) == ("done", 3)
    assert service.stored["run-1/a.png"] == b"x" * 16 * MIB + b"more"


async def test_cancelling_stops_waiting_and_active_uploads(make_harness, service):
    harness = await make_harness(max_concurrent=1)
    service.to_store, service.store_delay = True, 0.05
    items = [output(harness, f"{n}.png", b"x" * MIB) for n in range(2)]
    sending = asyncio.ensure_future(upload(harness, service, items))
    other = asyncio.ensure_future(
        upload(harness, service, [output(harness, "b.png", b"b")], prompt_id="run-2")
    )
    await harness.until(lambda: service.putting == 1)
    assert await harness.transfers.queue.cancel(prompt_id="run-1") == 2
    assert [record.state for record in await sending] == ["cancelled", "cancelled"]
    assert [record.state for record in await other] == ["done"]
    await harness.until(lambda: service.putting == 0)
    assert list(service.stored) == ["run-2/b.png"]
    assert await harness.transfers.queue.cancel() == 0
    await harness.reopen()
    assert (await harness.transfers.queue.status())["pending_uploads"] == 0


async def test_cancelled_before_the_first_step(harness):
    job = Gated()
    queue = TransferQueue(harness.database, harness.session, {"gated": job})
    records = [queue.new("up", "gated", name) for name in ("a", "b")]

    async def add_and_cancel():
        await queue.add(records)  # returns without giving their tasks a turn
        return await queue.cancel()

    assert await asyncio.wait_for(add_and_cancel(), 10) == 2
    assert [(await queue.get(record.id)).state for record in records] == ["cancelled"] * 2
    assert job.begun == 0
    assert queue.counts()["pending_uploads"] == 0
    assert await asyncio.wait_for(queue.cancel(), 10) == 0
    await queue.close()


async def test_a_transfer_stopped_before_its_first_step_continues_later(harness):
    job = Gated()
    queue = TransferQueue(harness.database, harness.session, {"gated": job})
    record = queue.new("up", "gated", "a")
    await queue.add([record])
    await queue.close()
    queue = TransferQueue(harness.database, harness.session, {"gated": job})
    assert (await queue.get(record.id)).state == "queued"
    await queue.recover([harness.session.id])
    job.go.set()
    assert (await queue.wait(record)).state == "done"
    await queue.close()


async def test_waiting_ends_if_the_cleanup_fails(harness, caplog):
    class FailingCleanup(Gated):
        async def clean_up(self, transfer):
            raise RuntimeError("unexpected error")

    queue = TransferQueue(harness.database, harness.session, {"gated": FailingCleanup()})
    record = queue.new("up", "gated", "a")
    await queue.add([record])
    await asyncio.sleep(0)
    assert await asyncio.wait_for(queue.cancel(), 10) == 1
    assert (await queue.get(record.id)).state == "cancelled"
    assert "The temporary files of 'a' could not be removed" in caplog.text
    await queue.close()


async def test_a_restart_continues_without_sending_twice(make_harness, service):
    harness = await make_harness(max_concurrent=1)
    service.to_store, service.store_delay = True, 0.01
    items = [output(harness, f"{n}.png", b"x" * MIB) for n in range(4)]
    sending = asyncio.ensure_future(upload(harness, service, items))
    await harness.until(lambda: len(service.stored) == 2 and service.putting == 1)
    await asyncio.sleep(0.1)
    await harness.reopen()
    sending.cancel()
    records = await upload(harness, service, items)
    assert [record.state for record in records] == ["done"] * 4
    assert sorted(service.stored) == [f"run-1/{n}.png" for n in range(4)]
    assert service.puts.count("run-1/0.png") == service.puts.count("run-1/1.png") == 1


async def rows_of(harness):
    """Return all stored data of transfers."""
    rows = await harness.database.read(lambda db: db.execute("SELECT * FROM transfers").fetchall())
    return [tuple(row) for row in rows]


async def test_tokens_are_deleted_when_a_transfer_ends(harness, service):
    service.to_store, service.store_delay = True, 1
    (record,) = await harness.transfers.upload_outputs(
        "run-2",
        "local",
        [output(harness, "a.png", b"1" * MIB)],
        endpoint=f"{service.url}/upload",
        token=SECRET,
    )
    await harness.until(lambda: service.putting == 1)
    assert SECRET in str(await rows_of(harness))
    await harness.transfers.queue.cancel(transfer_id=record.id)
    service.store_delay = 0
    await upload(harness, service, [output(harness, "a.png", b"1")])
    rows = await rows_of(harness)
    assert len(rows) == 2
    assert SECRET not in str(rows)
    assert service.url not in str(rows)
    assert harness.database.path.stat().st_mode & 0o777 == 0o600


async def test_tokens_of_failed_uploads_are_deleted_after_three_days(harness, service):
    service.replacements["upload"].extend([403, 403])
    old, new = await upload(
        harness, service, [output(harness, "a.png", b"1"), output(harness, "b.png", b"1")]
    )
    old.finished_at = "2024-01-01T00:00:00.000Z"
    await Transfer(old, harness.database).save()
    transfers = await harness.reopen()
    assert (await transfers.queue.get(old.id)).private == {}
    with pytest.raises(ConflictError, match="too long ago"):
        await transfers.retry(transfer_id=old.id, token=None)
    assert [r.id for r in await transfers.retry(token=None)] == [new.id]


async def test_failed_uploads_are_tried_again(harness, service, s3):
    service.replacements["upload"].extend([403] * 3)
    items = [output(harness, f"{n}.png", bytes([n])) for n in range(2)]
    first = await upload(harness, service, items)
    (other,) = await upload(harness, service, items[:1], prompt_id="run-2")
    assert {record.state for record in (*first, other)} == {"failed"}
    transfers = await harness.reopen()
    again = await transfers.retry(prompt_id="run-1", token="a-better-key")
    assert [record.id for record in again] == [record.id for record in first]
    ended = [await transfers.queue.wait(record) for record in again]
    assert {(r.state, r.attempts, r.error) for r in ended} == {("done", 1, None)}
    assert s3.get("run-1/0.png") == b"\0"
    assert [headers["Authorization"] for headers, _, _ in service.requests_to("upload")[-2:]] == [
        "Bearer a-better-key"
    ] * 2
    assert await transfers.retry(prompt_id="run-1", token=None) == []
    (last,) = await transfers.retry(token=None)
    assert (await transfers.queue.wait(last)).id == other.id
    assert s3.get("run-2/0.png") == b"\0"
    assert service.requests_to("upload")[-1][0]["Authorization"] == f"Bearer {SECRET}"
    with pytest.raises(ConflictError, match="is done"):
        await transfers.retry(transfer_id=other.id, token=None)
    with pytest.raises(NotFoundError):
        await transfers.retry(transfer_id="none", token=None)


async def test_many_retries_at_once_start_one_upload(harness, service):
    service.to_store = True
    service.replacements["upload"].append(403)
    (record,) = await upload(harness, service, [output(harness, "a.png", b"1")])
    tries = [harness.transfers.retry(transfer_id=record.id, token=None) for _ in range(8)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, ConflictError) for one in found) == 7
    (again,) = next(one for one in found if isinstance(one, list))
    assert (await harness.ended(again)).state == "done"
    assert service.puts == ["run-1/a.png"]


async def to_volume(harness, service, name):
    return await harness.transfers.upload_to_volume(
        f"checkpoints/{name}", f"checkpoints/{name}", api=f"{service.url}/api", token=SECRET
    )


async def test_confirmed_parts_are_not_sent_twice(harness, service, s3):
    content = random.randbytes(22 * MIB)
    (harness.checkpoints / "big.ckpt").write_bytes(content)
    service.replacements["generate-part-upload-url"].extend([None, None, None, "never", "never"])
    record = await to_volume(harness, service, "big.ckpt")
    await harness.until(lambda: len(record.facts.get("parts", ())) == 3)
    confirmed = set(record.facts["parts"])
    await asyncio.sleep(0.1)
    await harness.reopen()
    record = await harness.ended_at(harness.checkpoints / "big.ckpt")
    assert (record.state, record.error) == ("done", None)
    assert s3.get("checkpoints/big.ckpt") == content
    requested = [
        str(body["partNumber"]) for _, _, body in service.requests_to("generate-part-upload-url")
    ]
    assert all(requested.count(number) == 1 for number in confirmed)
    assert len(service.requests_to("initiate-multipart-upload")) == 1


async def test_cancelled_volume_upload_is_aborted(harness, service, s3):
    (harness.checkpoints / "big.ckpt").write_bytes(random.randbytes(17 * MIB))
    service.replacements["generate-part-upload-url"].extend([None, "never", "never", "never"])
    record = await to_volume(harness, service, "big.ckpt")
    await harness.until(lambda: record.facts.get("parts"))
    assert await harness.transfers.queue.cancel(transfer_id=record.id) == 1
    assert len(service.requests_to("abort-multipart-upload")) == 1
    assert not s3.client.list_multipart_uploads(Bucket="outputs").get("Uploads")


VOLUME_STEPS = (
    "initiate-multipart-upload",
    "generate-part-upload-url",
    "complete-multipart-upload",
)


@pytest.mark.parametrize(
    ("step", "fault"),
    few(
        [
            *zip(VOLUME_STEPS, ("garbage", "half", 500), strict=True),
            *itertools.product(VOLUME_STEPS, ("hang up", 500, "garbage", "half")),
        ],
        4,
    ),
)
async def test_a_temporary_error_of_the_volume(harness, service, s3, step, fault):
    content = random.randbytes(17 * MIB)
    (harness.checkpoints / "big.ckpt").write_bytes(content)
    service.replacements[step].append(fault)
    record = await harness.ended(await to_volume(harness, service, "big.ckpt"))
    assert (record.state, record.error) == ("done", None)
    assert s3.get("checkpoints/big.ckpt") == content


@pytest.mark.parametrize("step", VOLUME_STEPS)
async def test_refusal_of_the_volume_and_another_try(harness, service, s3, step):
    content = random.randbytes(17 * MIB)
    (harness.checkpoints / "big.ckpt").write_bytes(content)
    service.replacements[step].append(403)
    record = await harness.ended(await to_volume(harness, service, "big.ckpt"))
    assert (record.state, record.attempts) == ("failed", 1)
    assert record.error == "ComfyDeploy answered 403 Forbidden"
    assert not s3.client.list_multipart_uploads(Bucket="outputs").get("Uploads")
    (again,) = await harness.transfers.retry(transfer_id=record.id, token=None)
    assert (await harness.ended(again)).state == "done"
    assert again.sent == again.size == len(content)
    assert s3.get("checkpoints/big.ckpt") == content


async def test_volume_that_never_answers(make_harness, service):
    harness = await make_harness(stall=0.2)
    (harness.checkpoints / "small.ckpt").write_bytes(b"abc")
    service.replacements["generate-upload-url"].extend(["never"] * 4)
    record = await harness.ended(await to_volume(harness, service, "small.ckpt"))
    assert (record.state, record.attempts) == ("failed", 4)
    assert record.error == "no data was transferred for 0.2 s"


@pytest.mark.parametrize("size", few([17, 18]))
async def test_a_changed_file_is_sent_from_the_start(harness, service, s3, size):
    path = harness.checkpoints / "big.ckpt"
    path.write_bytes(random.randbytes(17 * MIB))
    service.replacements["generate-part-upload-url"].extend([None, "never", "never", "never"])
    record = await to_volume(harness, service, "big.ckpt")
    await harness.until(lambda: record.facts.get("parts"))
    await asyncio.sleep(0.1)  # until that is stored
    await harness.close()
    content = random.randbytes(size * MIB)
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await harness.open()
    record = await harness.ended_at(path)
    assert (record.state, record.error) == ("done", None)
    assert s3.get("checkpoints/big.ckpt") == content
