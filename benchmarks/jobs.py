"""Compares a job of the Comfy API with the same run over ``POST run``, and the events of both.

The job is created with an idempotency key, and its events are read until the end: two requests
instead of one. For the events, one run has two readers at the same time, one of each stream, and
the times at which its end arrives are compared.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from .common import (
    Figure,
    OurClient,
    in_turns,
    node,
    report,
    run,
    running_comfyui,
    running_jupyter,
    seconds,
)
from .run_overhead import trivial

if TYPE_CHECKING:
    from .common import Graph

PAIRS = 200


class JobClient(OurClient):
    """A client of the Comfy API with one persistent connection; like `comfy-sdk`, with cookies."""

    def create(self, graph: Graph) -> str:
        """Create a job and return its id."""
        headers = {**self._headers, "Idempotency-Key": str(uuid.uuid4())}
        body = json.dumps({"workflow": graph})
        self._http.request("POST", "/comfyui-deploy/api/v2/jobs", body, headers)
        response = self._http.getresponse()
        job: dict[str, Any] = json.loads(response.read())
        if response.status != 201:
            raise RuntimeError(f"the job was refused: {job}")
        return str(job["id"])

    def follow(self, path: str) -> float:
        """Read an event stream to its end; return the time at which its end arrived."""
        self._http.request("GET", f"/comfyui-deploy/{path}", headers=self._headers)
        response = self._http.getresponse()
        text = response.read()
        arrived = time.monotonic()
        if response.status != 200 or b"succe" not in text:
            raise RuntimeError(f"the job did not succeed: {text!r}")
        return arrived

    def job(self, graph: Graph) -> None:
        """Run a job and wait for its end."""
        self.follow(f"api/v2/jobs/{self.create(graph)}/events")


def ends(creator: JobClient, ours: JobClient, theirs: JobClient) -> tuple[float, float]:
    """Return after how many milliseconds the end of one run arrives: as a run and as a job."""
    created = time.monotonic()
    job = creator.create(node("TestProgress", steps=5, delay=0.01))
    arrived: dict[str, float] = {}

    def read(name: str, client: JobClient, path: str) -> None:
        arrived[name] = (client.follow(path) - created) * 1000

    readers = [
        threading.Thread(target=read, args=("run", ours, f"run/streaming?prompt_id={job}")),
        threading.Thread(target=read, args=("job", theirs, f"api/v2/jobs/{job}/events")),
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return arrived["run"], arrived["job"]


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui, running_jupyter(comfyui.url) as jupyter:
        ours, jobs = OurClient(jupyter), JobClient(jupyter)
        works = seconds(lambda: ours.run(trivial())), seconds(lambda: jobs.job(trivial()))
        in_turns(*works, PAIRS // 10)
        runs, created = (statistics.median(found) * 1000 for found in in_turns(*works, PAIRS))
        readers = JobClient(jupyter), JobClient(jupyter)
        found = [ends(jobs, *readers) for _ in range(PAIRS // 4)]
        as_run, as_job = map(statistics.median, zip(*found, strict=True))
        for client in (ours, jobs, *readers):
            client.close()
    return report(
        Figure("trivial job, median", created, runs, "added", 2.0),
        Figure("end of a job that runs for 50 ms, median", as_job, as_run, "added", 1.0),
    )


if __name__ == "__main__":
    run(main)
