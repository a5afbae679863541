"""A ComfyUI that is slow, hangs, sends wrong, endless or incomplete data.

Whatever it does: every request gets a clear answer, the event loop goes on, memory is bounded, and
once ComfyUI is well again, so is everything else.
"""

import json
import os
import signal
import struct
import threading
import uuid
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.comfyui import is_today
from tests.helpers.comfyui_proxies import FAULTS, answering, text_frame
from tests.helpers.jupyter import LAB, chain, parse_stream
from tests.helpers.selection import few
from tests.helpers.waiting import until

TRIED = few([*FAULTS], 2)
MEGABYTE = 1024 * 1024
LONGEST_STALL = 0.5  # seconds that the loop may compute without a pause, whatever ComfyUI sends
MOST_MEMORY = 400 * MEGABYTE  # bytes that whatever ComfyUI sends may cost for a moment


class Server:
    """Calls the routes of a Jupyter in a separate process, and monitors this process."""

    def __init__(self, jupyter):
        self.jupyter = jupyter
        self.get, self.post, self.call = jupyter.get, jupyter.post, jupyter.call
        self.raw, self.until = jupyter.raw, jupyter.until
        self._seen = 0

    def start_run(self, graph):
        code, body = self.post("run", {"workflow_api": graph, "wait": False})
        assert code == 200, body
        return str(body["prompt_id"])

    def must_run(self, what=""):
        """Run a workflow."""
        code, body = self.post("run", {"workflow_api": chain()})
        assert (code, body["status"]) == (200, "success"), what

    def until_connected(self, wanted=True):
        until(lambda: self.get("check-ws-status"), lambda answer: answer[1]["connected"] is wanted)

    def stalls(self):
        """Return for how many seconds the loop was blocked by computing, the longest ones first."""
        headers = {"Authorization": f"token {self.jupyter.token}"}
        url = f"{self.jupyter.url}benchmark/ticker"
        gaps = requests.get(url, headers=headers, timeout=60).json()["gaps"]
        return sorted((min(late, computed) for late, computed in gaps), reverse=True)

    def new_log(self):
        """Return what was logged since the last call."""
        text = self.jupyter.log()
        new, self._seen = text[self._seen :], len(text)
        return new

    def forget_peak(self):
        """Reset the record of the largest memory; return the present one, in bytes."""
        Path(f"/proc/{self.jupyter.pid}/clear_refs").write_text("5")
        return self.memory()

    def memory(self):
        """Return the memory in use, in bytes."""
        return int(psutil.Process(self.jupyter.pid).memory_info().rss)

    def peak(self):
        """Return the largest memory since `forget_peak`, in bytes."""
        status = Path(f"/proc/{self.jupyter.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def shared(start_jupyter, faulty, tmp_path_factory):
    extensions = {"comfydeploy_jupyter": True, "benchmarks.ticker": True}
    jupyter = start_jupyter(
        ServerApp={"jpserver_extensions": {**dict.fromkeys(LAB, False), **extensions}},
        ComfyDeploy={
            "comfyui_url": faulty.url,
            "comfyui_timeout": 2.0,
            "data_dir": str(tmp_path_factory.mktemp("comfydeploy")),
        },
    )
    yield Server(jupyter)
    jupyter.stop()


@pytest.fixture
def server(shared, faulty):
    """The Jupyter; after the test it must work, and it must not have blocked, grown or failed."""
    shared.until_connected()
    shared.must_run()
    shared.new_log()
    shared.stalls()
    before = shared.forget_peak()
    yield shared
    grown = shared.peak() - before
    longest = shared.stalls()[:3]
    faulty.remove_faults()
    shared.until_connected()
    assert shared.get("check-status")[1]["status"] == "ok"
    shared.must_run("it works again")
    log = shared.new_log()
    assert "Traceback" not in log, log
    assert longest[0] < LONGEST_STALL, longest
    assert grown < MOST_MEMORY, f"{grown / MEGABYTE:.0f} MB"


def refused(answer, fault):
    """Make sure that an answer says that ComfyUI is at fault."""
    code, body = answer
    assert (code, body["code"]) == (503, "comfyui_unavailable"), (fault, body)
    assert body["hint"]


def each_fault(faulty, *routes):
    """Let some of ComfyUI's routes have one error after the other; yield the name of each error."""
    for name in TRIED:
        for method, path in routes:
            faulty.fail(method, path, FAULTS[name])
        yield name
        faulty.remove_faults()


class TestEveryRoute:
    def test_prompt(self, server, faulty):
        sent = []
        for fault in each_fault(faulty, ("POST", "/prompt")):
            prompt_id = str(uuid.uuid4())
            code, body = server.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
            if fault == "500":  # so ComfyUI answers for a graph that it cannot read
                assert (code, body["code"]) == (400, "prompt_invalid")
            else:
                refused((code, body), fault)
                sent.append(prompt_id)
        for prompt_id in sent:
            record = server.until(prompt_id, "failed")
            assert record["error"]["type"] == "NotQueued"

    def test_a_prompt_that_is_too_large_for_comfyui(self, server, faulty):
        prompt_id = str(uuid.uuid4())
        faulty.fail("POST", "/prompt", answering(413, "too large", "text/plain"))
        body = {"workflow_api": chain(), "prompt_id": prompt_id}
        code, answer = server.post("run", body)
        assert (code, answer["code"], answer["prompt_id"]) == (413, "too_large", prompt_id)
        faulty.remove_faults()
        code, record = server.get("check-status", prompt_id=prompt_id)
        assert (record["status"], record["error"]["type"]) == ("failed", "too_large")

    def test_queue_and_interrupt(self, server, faulty):
        routes = [("GET", "/queue"), ("POST", "/queue"), ("POST", "/interrupt")]
        if is_today():  # it is asked by its jobs API first
            routes += [("GET", "/api/jobs"), ("POST", "/api/jobs")]
        running = server.start_run(chain(("TestSleep", {"seconds": 600})))
        waiting = [server.start_run(chain()) for _ in TRIED]
        server.until(running, "running")
        for prompt_id, fault in zip(waiting, each_fault(faulty, *routes), strict=True):
            for cancelled in (prompt_id, running):
                code, body = server.post("interrupt", {"prompt_id": cancelled})
                assert (code, body["success"]) == (200, True), (fault, body)
            if fault != "empty":  # all that an answer to a POST says is its status
                code, record = server.get("check-status", prompt_id=running)
                assert record["status"] == "running", fault
        for prompt_id in (*waiting, running):
            server.until(prompt_id, "cancelled")
        assert [p for p in waiting if faulty.ask(f"/history/{p}")] == []  # none was executed

    def test_history(self, server, faulty):
        faulty.fail("GET", "/history", FAULTS["500"])
        failing = server.start_run(chain(("TestFail", {"message": "real"})))
        missed = server.start_run(chain(("TestSleep", {"seconds": 1.0})))
        server.until(missed, "running")
        faulty.drop_sockets()
        until(lambda: faulty.ask(f"/history/{missed}"))
        for fault in TRIED:
            if fault == "infinite":
                continue  # an answer without the run: ComfyUI has forgotten it
            faulty.fail("GET", "/history", FAULTS[fault])
            faulty.drop_sockets()
            server.until_connected()
            server.must_run("its events were complete")
            for prompt_id in (failing, missed):
                _, record = server.get("check-status", prompt_id=prompt_id)
                assert record["status"] in ("queued", "running"), fault
        faulty.remove_faults()
        record = server.until(failing, "failed", "success", "cancelled")
        assert (record["status"], record["error"]["message"]) == ("failed", "real")
        record = server.until(missed, "failed", "success", "cancelled")
        assert record["outputs"] == {"2": {"text": ["done"]}}

    def test_object_info(self, server, faulty):
        assert server.get("object_info")[0] == 200
        for fault in each_fault(faulty, ("GET", "/object_info")):
            refused(server.get("object_info"), fault)
            faulty.drop_sockets()  # what is known must be asked for anew
            server.until_connected()
            code, body = server.post("workflow/validate", {"workflow_api": chain()})
            assert (code, body["valid"]) == (200, True), fault
            assert body["definitions"]["source"] == "cached"

        until(
            lambda: server.post("workflow/validate", {"workflow_api": chain()})[1]["definitions"],
            lambda definitions: definitions["source"] == "live",
        )

    def test_system_stats(self, server, faulty):
        for fault in each_fault(faulty, ("GET", "/system_stats")):
            faulty.drop_sockets()
            until(
                lambda: server.get("machine"),
                lambda answer: answer[1]["status"] == "ready",
                what=fault,
            )
            assert server.get("comfyui-version")[0] in (200, 503), fault
            server.must_run(fault)

    def test_view(self, server, faulty, comfyui):
        name = f"{uuid.uuid4().hex}.png"
        (comfyui.output_dir / name).write_bytes(b"\x89PNG")
        for fault in each_fault(faulty, ("GET", "/view")):
            code, body = server.get("view", filename=name, thumbnail=64)
            if (code, body["code"]) != (503, "comfyui_unavailable"):
                assert (code, body["code"]) in ((400, "invalid_request"), (404, "not_found")), fault
            if fault in ("endless", "cut short", "cut chunks"):
                with pytest.raises(requests.RequestException) as broken:
                    drain(server, name)
                assert "timed out" not in str(broken.value), fault
            elif FAULTS[fault].__name__ == "answer_200" or fault == "nonsense":
                assert server.get("view", filename=name)[0] == 200, "it may be the file"
            elif fault == "400 page":
                assert server.get("view", filename=name)[0] == 404
            else:
                refused(server.get("view", filename=name), fault)
        assert server.get("view", filename=name) == (200, b"\x89PNG")

    def test_upload(self, server, faulty):
        for fault in each_fault(faulty, ("POST", "/upload/image")):
            files = {"file": (f"{uuid.uuid4().hex}.txt", b"text")}
            refused(server.call("POST", "upload-file", files=files), fault)
        code, body = server.call("POST", "upload-file", files=files)
        assert (code, body["filename"]) == (200, files["file"][0])

    def test_models(self, server, faulty):
        for fault in each_fault(faulty, ("GET", "/models"), ("GET", "/experiment/models")):
            refused(server.get("models"), fault)
            refused(server.get("models", format="folders"), fault)
            refused(server.get("filename_list_cache"), fault)
        until(lambda: server.get("models")[0] == 200)
        assert server.get("filename_list_cache")[0] == 200

    def test_the_requests_before_the_websocket(self, server, faulty):
        """The requests before a WebSocket is opened: without a reply there is no ComfyUI."""
        for fault in each_fault(faulty, ("GET", "/prompt")):
            faulty.drop_sockets()
            server.until_connected(False)
            refused(server.post("run", {"workflow_api": chain()}), fault)
            code, body = server.get("check-status")
            assert (code, body["status"]) == (200, "degraded"), fault
            assert body["comfyui"]["error"]
            faulty.remove_faults()
            server.must_run(fault)


def drain(server, name):
    """Read all of a file, or some megabytes of one that has no end."""
    with server.raw("GET", "view", params={"filename": name}, stream=True) as response:
        for number, _ in enumerate(response.iter_content(MEGABYTE)):
            if number == 64:
                raise requests.ConnectionError("there is no end, and the memory shows nothing")


@pytest.mark.thorough
def test_slow_comfyui(server, faulty):
    """A ComfyUI that replies late, but within the limits."""
    faulty.delay = 0.3
    server.must_run()
    running = server.start_run(chain(("TestSleep", {"seconds": 600})))
    server.until(running, "running")
    assert server.post("interrupt", {"prompt_id": running})[0] == 200
    server.until(running, "cancelled")
    assert server.get("object_info")[0] == 200
    faulty.delay = 4.0
    refused(server.get("object_info"), "slow")
    code, body = server.post("run", {"workflow_api": chain()})
    refused((code, body), "slow")
    assert "no answer within 2 s" in body["error"]
    faulty.remove_faults()
    server.until(body["prompt_id"], "success", "failed", timeout=20)


class Reader(threading.Thread):
    """Follows a run from its start to its end."""

    def __init__(self, server, prompt_id):
        super().__init__()
        self._server = server
        self._prompt_id = prompt_id
        self.messages = []
        self.start()

    def run(self):
        query = {"prompt_id": self._prompt_id}
        self.messages = parse_stream(self._server.raw("GET", "run/streaming", params=query).content)

    def end(self, *, previews=False):
        """Wait for the end; return the result. No message may be missing, but for previews."""
        self.join()
        ids = [number for number, _ in self.messages]
        assert ids == sorted(set(ids))
        assert previews or ids == list(range(1, len(ids) + 1))
        (_, result), (_, status) = self.messages[-2:]
        assert (result["event"], status["event"]) == ("result", "status")
        assert status["data"]["status"] == result["data"]["status"]
        return dict(result["data"])


def garbage(prompt_id):
    """Return frames that no ComfyUI sends; many claim to be of a run."""
    values = [None, 5, -1e999, "x", [], [[1]], {}, {"a": {}}, "\ud800", 10**400, 2**63]
    texts = ["", "{", "null", "[]", "{}", "[" * 100_000, '"', "\0", '{"type": 1}', '{"type": []}']
    for kind in (
        *("status", "execution_start", "execution_cached", "executing", "progress"),
        *("progress_state", "executed", "execution_error", "execution_interrupted", "unheard of"),
    ):
        texts.append(json.dumps({"type": kind}))
        for value in values:
            texts.append(json.dumps({"type": kind, "data": value}))
            texts.append(text_frame(kind, prompt_id=value, node=value))
            fields = ("nodes", "output", "value", "max", "status", "sid", "node", "display_node")
            data = {**dict.fromkeys(fields, value), "prompt_id": prompt_id}
            if kind != "executing" or value is not None:  # that would be ComfyUI's word for an end
                texts.append(json.dumps({"type": kind, "data": data}))
            data["nodes"] = {"1": value, "2": {"state": value, "value": value, "max": value}}
            data["output"] = {"images": [value, {"filename": value}, {"filename": "\ud800"}]}
            data["node"] = "1"
            texts.append(json.dumps({"type": kind, "data": data}))
    frames = [b"", b"\0", b"\0\0\0", b"\xff" * 50, *(struct.pack(">I", n) for n in range(6))]
    for kind in range(6):
        frames += [
            struct.pack(">II", kind, number) + rest
            for number in (0, 1, 7, 2**31, 2**32 - 1)
            for rest in (b"", b"\xff\xd8\xff", b"{}", b"[]", b"5", b'{"image_type": 5}')
        ]
        frames.append(struct.pack(">II", kind, 100_000) + b"[" * 100_000)
    return [*texts, *frames]


def test_garbage_on_the_websocket(server, faulty):
    """Invalid frames are ignored; the run, its stream and the socket continue."""
    running = server.start_run(chain(("TestProgress", {"steps": 20, "delay": 0.1})))
    reader = Reader(server, running)
    server.until(running, "running")
    before = faulty.sockets_seen
    faulty.send(*garbage(running))
    code, record = server.get("check-status", prompt_id=running)
    assert (code, record["status"]) == (200, "running")
    result = reader.end(previews=True)
    assert result["status"] == "success"
    assert result["outputs"]["2"] == {"text": ["done"]}
    steps = [d["data"].get("value") for _, d in reader.messages if d.get("event") == "progress"]
    assert steps[-1] == 20
    assert faulty.sockets_seen == before, "the socket is still the same"


@pytest.mark.thorough
def test_large_frames(server, faulty):
    """Data of events that are too large is read from the history at the end."""
    running = server.start_run(chain(("TestProgress", {"steps": 10, "delay": 0.2})))
    reader = Reader(server, running)
    server.until(running, "running")
    before = faulty.sockets_seen
    faulty.send(
        text_frame("executed", prompt_id=running, node="1", output={"text": ["x" * 20_000_000]}),
        text_frame("executed", prompt_id=running, node="1", output={"n": [[]] * 6_000_000}),
        text_frame("executed", prompt_id="other", node="1", output={"n": [[1]] * 1_000_000}),
        b"\0\0\0\1\0\0\0\1" + bytes(20_000_000),
    )
    result = reader.end()
    assert (result["status"], result["outputs"]) == ("success", {"2": {"text": ["done"]}})
    assert faulty.sockets_seen == before, "the socket is still the same"


@pytest.mark.thorough
def test_giant_frames(server, faulty):
    """A frame that is larger than any of ComfyUI's closes the socket; runs still end."""
    size = 100 * MEGABYTE
    for frame in few((text_frame("executed", output="x" * size), bytes(size), "x" * size)):
        # long enough that a machine sees it while it runs, unless it is very busy
        running = server.start_run(chain(("TestSleep", {"seconds": 6.0})))
        reader = Reader(server, running)
        server.until(running, "running", "success")
        before = faulty.sockets_seen
        faulty.send(frame)
        result = reader.end()
        assert (result["status"], result["outputs"]) == ("success", {"2": {"text": ["done"]}})
        until(lambda before=before: faulty.sockets_seen > before)
        server.until_connected()
    assert "in one frame" in server.new_log()


@pytest.mark.thorough
def test_outputs_that_are_large(server):
    """Large outputs of a real run are returned whole if possible.

    Otherwise the reply says that they are missing.
    """
    code, body = server.post("run", {"workflow_api": long_text(12 * MEGABYTE)})
    assert (code, body["status"]) == (200, "success")
    (text,) = body["outputs"]["1"]["text"]
    assert len(text) == 12 * MEGABYTE
    assert "warnings" not in body
    code, body = server.post("run", {"workflow_api": long_text(40 * MEGABYTE)})
    assert (code, body["status"]) == (200, "success")
    assert body["outputs"] == {}
    (warning,) = body["warnings"]
    assert "too large" in warning
    job = f"api/v2/jobs/{body['prompt_id']}"
    _, found = server.get(job)
    assert (found["outputs"], found["warnings"]) == ([], [warning])
    _, events = server.get(f"{job}/events")
    log = json.dumps({"level": "warning", "message": warning})
    assert f"event: log\ndata: {log}\n\n".encode() in events


@pytest.mark.thorough
def test_large_outputs_of_many_runs_do_not_stay_in_memory(shared, faulty):
    """Sixteen more need less memory than ten of their texts; the first ones fill memory pools."""
    length = 12 * MEGABYTE
    used = []
    for count in (8, 16):
        for _ in range(count):
            # A busy ComfyUI may not answer while it encodes its history; then the run is refused.
            _, body = until(
                lambda: shared.post("run", {"workflow_api": long_text(length), "wait": False}),
                lambda answer: answer[0] == 200,
            )
            prompt_id = body["prompt_id"]
            until(lambda: shared.get("check-status")[1]["queue"] == {"running": 0, "pending": 0})
        used.append(shared.memory())
    assert shared.get("check-status", prompt_id=prompt_id)[1]["status"] == "success"
    assert used[1] - used[0] < 10 * length, [memory // MEGABYTE for memory in used]


def long_text(length):
    return {
        "1": {"class_type": "TestLongText", "inputs": {"length": length, "token": uuid.uuid4().hex}}
    }


class TestStoppedComfyUI:
    """A real ComfyUI that is stopped (SIGSTOP): its sockets stay open, and it does not reply."""

    @pytest.fixture
    def server(self, comfyui, start_jupyter, tmp_path):
        jupyter = start_jupyter(
            ComfyDeploy={
                "comfyui_url": comfyui.url,
                "comfyui_timeout": 2.0,
                "comfyui_lost_after": 1.0,
                "comfyui_gone_after": 5.0,
                "data_dir": str(tmp_path / "data"),
            }
        )
        server = Server(jupyter)
        server.until_connected()
        yield server
        os.kill(comfyui.pid, signal.SIGCONT)
        jupyter.stop()

    @pytest.mark.thorough
    def test_stopped_for_some_time_and_permanently(self, server, comfyui):
        running = server.start_run(chain(("TestProgress", {"steps": 80, "delay": 0.1})))
        reader = Reader(server, running)
        server.until(running, "running")
        os.kill(comfyui.pid, signal.SIGSTOP)
        late = str(uuid.uuid4())
        refused(server.post("run", {"workflow_api": chain(), "prompt_id": late}), "stopped")
        refused(server.get("object_info"), "stopped")
        code, _ = server.post("interrupt", {"prompt_id": late})
        assert code == 200
        code, body = server.get("check-status")
        assert (code, body["queue"]["running"]) == (200, 1)
        os.kill(comfyui.pid, signal.SIGCONT)
        result = reader.end()
        assert (result["status"], result["outputs"]) == ("success", {"2": {"text": ["done"]}})
        server.until(late, "cancelled", "failed")

        running = server.start_run(chain(("TestSleep", {"seconds": 600})))
        waiting = server.start_run(chain())
        reader = Reader(server, running)
        server.until(running, "running")
        os.kill(comfyui.pid, signal.SIGSTOP)
        result = reader.end()
        assert (result["status"], result["error"]["type"]) == ("failed", "ComfyUIEnded")
        assert "ComfyUI has not answered for" in result["error"]["message"]
        assert "not answer, for example because memory ran out" in result["error"]["message"]
        assert "--lowvram" in result["error"]["message"]
        server.until(waiting, "failed")
        assert server.get("check-status")[1]["status"] == "degraded"
        os.kill(comfyui.pid, signal.SIGCONT)
        requests.post(f"{comfyui.url}/queue", json={"clear": True}, timeout=60)
        requests.post(f"{comfyui.url}/interrupt", json={}, timeout=60)
        server.until_connected()
        server.must_run()
        assert "Traceback" not in server.new_log()
