"""The WebSocket that shows all that a server does."""

import asyncio
import json
import uuid

import pytest

from comfydeploy_jupyter.handlers import overview
from comfydeploy_jupyter.runs.records import RunRecord
from comfydeploy_jupyter.runs.shown import open_run


class Page:
    """A page: what it was told of each part, and the ends in their order."""

    def __init__(self, connection):
        self.connection = connection
        self.known, self.ends = {}, []

    async def read(self):
        message = await asyncio.wait_for(self.connection.read_message(), 20)
        assert message is not None, "the server closed the socket"
        message = json.loads(message)
        if message["event"] == "overview":
            self.ends += message["data"].pop("ended", [])
            self.known |= message["data"]
        return message

    async def until(self, is_true):
        async def look():
            while not is_true(self):
                await self.read()

        await asyncio.wait_for(look(), 30)

    async def watch(self, **fields):
        await self.connection.write_message(json.dumps({"event": "watch", **fields}))

    @property
    def runs(self):
        return self.known["runs"]["runs"]


@pytest.fixture
def open_page(extension, jp_ws_fetch, jp_asyncio_loop, monkeypatch):
    monkeypatch.setattr(overview, "INTERVAL", 0.05)
    opened = []

    async def open_it(**params):
        page = Page(await jp_ws_fetch("comfyui-deploy", "overview", params=params))
        opened.append(page)
        await page.read()
        return page

    yield open_it
    for page in opened:
        page.connection.close()
    jp_asyncio_loop.run_until_complete(asyncio.sleep(0.05))


async def queue(api, graph, **fields):
    return (await api.post("run", {"workflow_api": graph, "wait": False, **fields}))[1]["prompt_id"]


async def test_a_page_sees_a_run_from_its_start_to_its_end(open_page, api, chain):
    graph = chain(("TestPreview", {"steps": 20, "delay": 0.05, "size": 8}))
    _, saved = await api.post("workflow", {"name": "Portrait", "workflow_api": graph})
    page = await open_page()
    assert set(page.known) >= {"server", "queue", "machines", "runs", "batches", "mark"}
    assert not page.ends
    assert page.known["machines"][0]["id"] == "local"
    fields = {"workflow_id": saved["workflow_id"], "metadata": {"client": "acme"}}
    _, run = await api.post("run", {**fields, "wait": False})
    await page.until(lambda p: p.runs and p.runs[0]["steps"] == 20 and p.runs[0]["step"] > 2)
    [shown] = page.runs
    assert (shown["prompt_id"], shown["position"]) == (run["prompt_id"], None)
    assert (shown["status"], shown["title"]) == ("running", "Portrait")
    assert shown["live_status"] == "Executing TestPreview"
    assert shown["metadata"] == {"client": "acme"}
    assert 0 < shown["progress"] < 1
    assert page.known["queue"] == {"running": 1, "waiting": 0}
    await page.until(lambda p: p.ends)
    [end] = page.ends
    assert (end["id"], end["kind"], end["status"]) == (run["prompt_id"], "run", "success")
    assert end["title"] == "Portrait"
    await page.until(lambda p: not p.runs)
    assert page.known["runs"]["total"] == 0


async def test_ends_are_sent_again_to_a_page_that_was_away(open_page, api, chain):
    await api.post("run", {"workflow_api": chain(), "wait": True})
    page = await open_page()
    before = page.known["mark"]
    assert not page.ends, "what ended before the page came is no news"
    page.connection.close()
    failed = await queue(api, chain(("TestFail", {"message": "no luck"})))
    _, done = await api.post("run", {"workflow_api": chain(), "wait": True})
    again = await open_page(after=before)
    await again.until(lambda p: len(p.ends) == 2)
    assert [end["id"] for end in again.ends] == [failed, done["prompt_id"]]
    assert [end["status"] for end in again.ends] == ["failed", "success"]
    assert "no luck" in again.ends[0]["why"]
    later = await open_page(after=again.known["mark"])
    assert failed not in [end["id"] for end in later.ends]


@pytest.mark.thorough
async def test_waiting_runs_are_shown_from_the_place_that_the_page_shows(open_page, api, chain):
    page = await open_page()
    busy = await queue(api, chain(("TestSleep", {"seconds": 60})))
    waiting = [await queue(api, chain()) for _ in range(30)]
    await page.watch(first=11, count=5, details=True)
    await page.until(lambda p: p.known["runs"]["first"] == 11 and p.known["runs"]["total"] == 31)
    assert [run["prompt_id"] for run in page.runs] == waiting[10:15]
    assert [run["prompt_id"] for run in page.known["runs"]["head"]] == [busy]
    for run in page.runs:
        _, known = await api.get("check-status", prompt_id=run["prompt_id"])
        assert run["position"] == known["queue_position"]
    assert page.known["queue"] == {"running": 1, "waiting": 30}
    for run in [*reversed(waiting), busy]:
        await api.post("interrupt", {"prompt_id": run})
    await page.until(lambda p: p.known["runs"]["total"] == 0)
    await page.until(lambda p: len(p.ends) == 31)
    assert {end["status"] for end in page.ends} == {"cancelled"}


async def test_runs_of_pools_are_in_the_line_with_their_positions(open_page, api, chain):
    await api.post("machine/create", {"name": "team", "kind": "pool", "members": ["local"]})
    page = await open_page()
    runs = [await queue(api, chain(("TestSleep", {"seconds": 60})), machine="team")]
    runs += [await queue(api, chain(), machine="team") for _ in range(6)]
    await page.watch(count=50)
    await page.until(lambda p: len(p.runs) == 7 and p.runs[0]["status"] == "running")
    assert [run["prompt_id"] for run in page.runs] == runs
    for run in page.runs[1:]:
        _, known = await api.get("check-status", prompt_id=run["prompt_id"])
        assert run["position"] == known["queue_position"], run
    for run in reversed(runs):
        await api.post("interrupt", {"prompt_id": run})
    await page.until(lambda p: not p.runs)


async def test_a_batch_is_shown_until_it_ends(open_page, api, chain):
    page = await open_page()
    body = {
        "workflow_api": {"1": {"class_type": "TestText", "inputs": {"text": "a"}}},
        "points": [{"1.text": uuid.uuid4().hex} for _ in range(3)],
        "title": "Three texts",
    }
    _, made = await api.post("batch", body)
    await page.until(lambda p: p.ends)
    [end] = page.ends
    assert (end["id"], end["kind"], end["status"]) == (made["batch_id"], "batch", "success")
    assert end["title"] == "Three texts"
    await page.until(lambda p: not p.known["batches"])


async def test_details_have_the_memory_of_machines_and_the_transfers(open_page, api):
    page = await open_page()
    assert "transfers" not in page.known
    assert "memory" not in page.known["machines"][0]
    await page.watch(details=True)
    await page.until(lambda p: p.known["machines"][0].get("memory"))
    [memory] = page.known["machines"][0]["memory"]
    assert memory["machine"] == page.known["machines"][0]["name"]
    assert memory["memory"]["total"] > 0
    assert page.known["transfers"] == []


def test_a_run_that_is_being_cancelled_says_so():
    record = RunRecord("p", "local", "s", created_at="now", cancelling=True)
    assert open_run(record, {"live_status": ""}, 1)["live_status"] == "Being cancelled"


async def test_marks_and_deletions_are_told_at_once(open_page, api, chain):
    _, run = await api.post("run", {"workflow_api": chain(), "wait": True})
    page = await open_page()
    for path, body in (("runs/update", {"starred": True}), ("runs/delete", {})):
        before = page.known["edits"]
        await api.post(path, {"prompt_ids": [run["prompt_id"]], **body})
        await page.until(lambda p, old=before: p.known["edits"] > old)


async def test_all_pages_share_what_is_read_and_nothing_is_read_for_none(
    open_page, extension, api, chain
):
    await extension.open_services()
    active = extension.services.runs.active
    followers = active._followers[None]
    before = len(followers)
    pages = [await open_page() for _ in range(3)]
    assert len(followers) == before + 1
    _, run = await api.post("run", {"workflow_api": chain(), "wait": True})
    for page in pages:
        await page.until(lambda p: p.ends)
        assert [end["id"] for end in page.ends] == [run["prompt_id"]]
        page.connection.close()
    for _ in range(100):
        if len(followers) == before:
            break
        await asyncio.sleep(0.05)
    assert len(followers) == before
    assert extension.overview._asking is None
    assert not active._edit_followers
    late = await open_page()
    assert not late.ends


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ("no json", "event"),
        ("[1]", "event"),
        ('{"event": "run"}', "event"),
        ('{"event": "watch", "count": 100000}', "count"),
        ('{"event": "watch", "first": -1}', "first"),
    ],
)
async def test_an_invalid_message_gets_an_error_and_the_socket_stays_open(open_page, sent, field):
    page = await open_page()
    await page.connection.write_message(sent)
    while (message := await page.read())["event"] != "error":
        pass
    assert message["data"]["details"]["field"] == field
    await page.watch(details=True)
    await page.until(lambda p: "transfers" in p.known)


async def test_a_request_that_opens_no_socket_is_refused(api):
    status, error = await api.get("overview")
    assert status == 400
    assert error["details"]["field"] == "Upgrade"
