"""With many streams and queued runs at once, no event is lost, and no task or file remains.

`benchmarks.load` does the same for minutes and measures it.
"""

import asyncio
import time
from collections import Counter

import pytest

from benchmarks.load import Server, by_streams, settle
from tests.helpers.jupyter import LAB


@pytest.fixture
def server(start_jupyter, comfyui, tmp_path):
    extensions = {"comfydeploy_jupyter": True, "benchmarks.census": True}
    jupyter = start_jupyter(
        ServerApp={"jpserver_extensions": {**dict.fromkeys(LAB, False), **extensions}},
        ComfyDeploy={"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")},
    )
    yield Server(jupyter.url, jupyter.token, jupyter.pid, comfyui.port)
    assert "Traceback" not in jupyter.log()
    jupyter.stop()


@pytest.mark.thorough
@pytest.mark.parametrize("jobs", [False, True], ids=["runs", "half of them as jobs"])
def test_no_event_is_lost_and_no_process_or_file_is_left(server, comfyui, jobs):
    asyncio.run(by_streams(server, streams=5, runs=5, duration=0.0, jobs=jobs))
    time.sleep(1)  # tasks that only wait for events to arrive are over then
    before = server.census()
    load = asyncio.run(by_streams(server, streams=30, runs=60, duration=0.0, jobs=jobs))
    assert load.runs >= 60
    assert load.streams >= load.runs
    assert bool(load.outputs) == jobs
    load.check_history(comfyui.url)
    after = settle(server, before, outgoing=False)
    # Less is no leak: a search for runs of ComfyUI's editor may have been on its way before.
    assert not Counter(after.tasks) - Counter(before.tasks)
    # SQLite connections are opened when they are first needed, two files each; a leak has hundreds.
    assert after.descriptors - after.outgoing <= before.descriptors - before.outgoing + 4
    assert after.threads <= before.threads + 32, "asyncio's pool has no more"
