"""A clock that is set back or forward during runs."""

import glob
import time

import pytest

from tests.helpers.jupyter import chain

YEARS = ("2001-01-01T00:00:00.000Z", "2099-01-01T00:00:00.000Z")


async def test_clock_that_was_set_after_a_run_was_queued(api, extension, chain):
    """Simulated by another time of queuing, because tests cannot set the clock of the machine."""
    ids = []
    for created in YEARS:
        pair = []
        for graph in (chain(("TestSleep", {"seconds": 0.4})), chain()):
            pair.append(await api.start(graph))
            extension.services.runs.find(pair[-1]).record.created_at = created
        for run_id in pair:
            record = await api.until(run_id, "success")
            assert record["created_at"] <= record["started_at"] <= record["finished_at"]
            assert 0 <= record["execution_time"] < 60
        ids = [*reversed(pair), *ids]
    assert [run["prompt_id"] for run in (await api.get("runs"))[1]] == ids


FAKETIME = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")  # noqa: PTH207 - at import


@pytest.mark.thorough
@pytest.mark.skipif(not FAKETIME, reason="only libfaketime can set the clock of a process")
def test_jupyters_clock_changes_by_years(serve, comfyui, tmp_path):
    """Back, then forward, while a run is executed and others wait; then Jupyter is killed."""
    clock = tmp_path / "clock"

    def set_clock(offset):
        new = tmp_path / "new"
        new.write_text(offset)
        new.replace(clock)  # it is read all the time

    set_clock("+0")
    jupyter = serve(
        comfyui_url=comfyui.url,
        env={
            "LD_PRELOAD": FAKETIME[0],
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )

    def sleep(seconds):
        graph = chain(("TestSleep", {"seconds": seconds}))
        code, body = jupyter.post("run", {"workflow_api": graph, "wait": False})
        assert code == 200, body
        return body["prompt_id"]

    ids = [sleep(4.0)]
    jupyter.until(ids[0], "running")
    for offset in ("-20y", "+20y", "-1h"):
        set_clock(offset)
        ids.append(sleep(0.3))
    long_run = sleep(60)
    first_id = jupyter.first_id(long_run)
    jupyter.kill()
    set_clock("-10y")
    jupyter.start()
    assert jupyter.first_id(long_run) > first_id
    jupyter.post("interrupt", {"prompt_id": long_run})
    jupyter.until(long_run, "cancelled")
    ids.append(sleep(0.0))
    for prompt_id in ids:
        record = jupyter.until(prompt_id, "success", "failed", timeout=60)
        assert record["status"] == "success", record
        assert record["created_at"] <= record["started_at"] <= record["finished_at"]
        assert 0 <= record["execution_time"] < 60
    _, runs = jupyter.get("runs")
    assert [run["prompt_id"] for run in runs] == [ids[-1], long_run, *ids[-2::-1]]
    assert {run["created_at"][:4] for run in runs} >= {str(time.gmtime().tm_year - 20)}
