"""Runs two hundred streams and a thousand queued runs at once for minutes, and measures a kernel.

Every stream must have every event of its run, numbered without a gap, with its result and its end,
and these must be equal to ComfyUI's own history; otherwise the benchmark ends with an error. After
the load, the numbers of asyncio tasks, threads and descriptors must be the same as before, and
after a second load the memory in use must not be larger than after the first. Meanwhile a kernel
receives a request every 50 ms; the reference is the same measurement while as many clients give the
same work to ComfyUI itself.

In a third load every second stream has the events of a job of the Comfy API: it must have each
output, the whole progress and the end, too. It is compared with the loads without such streams.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import requests
from yarl import URL

from tests.helpers.comfyui import is_today

from .common import (
    Figure,
    is_end,
    node,
    percentile,
    report,
    run,
    running_comfyui,
    running_jupyter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS, DELAY = 4, 0.005  # of a run
NO_PLACE = {"queue_position": None}
AT_ONCE = 8  # requests that queue runs
AHEAD = 50  # the next runs in the queue, which streams follow
FOLLOWERS = 4  # the most streams that follow a run, so that runs on a slow machine have no more
LOOK_EVERY = 0.5  # seconds between requests of the list of runs
POOL = 6  # threads that asyncio's pool may have yet to start, on 2 processors
SETTLED = 60.0  # largest time in seconds until idle connections are closed


@dataclass(frozen=True)
class Server:
    """A Jupyter server.

    Attributes
    ----------
    url : str
        Its base URL, with a slash at the end.
    token : str
        The token for requests.
    pid : int
        The id of its process.
    comfyui_port : int
        The port of its ComfyUI.
    """

    url: str
    token: str
    pid: int
    comfyui_port: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"token {self.token}"}

    def processor_time(self) -> float:
        """Return the seconds of processor time that the process has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def census(self) -> Census:
        """Count the resources of the process; needs the extension ``benchmarks.census``."""
        with requests.Session() as session:
            url = f"{self.url}benchmark/census"
            tasks = session.get(url, headers=self.headers, timeout=60).json()["tasks"]
            process = psutil.Process(self.pid)
            # the name since psutil 6
            connections = getattr(process, "net_connections", None) or process.connections
            with process.oneshot():
                memory = process.memory_info().rss / 1024**2
                outgoing = sum(
                    bool(found.raddr) and found.raddr.port == self.comfyui_port
                    for found in connections("tcp")
                )
                threads, descriptors = process.num_threads(), process.num_fds()
                return Census(tasks, threads, descriptors, outgoing, memory)


@dataclass(frozen=True)
class Census:
    """The resources of a server's process.

    Attributes
    ----------
    tasks : dict of str to int
        Asyncio tasks, by the coroutine that each runs.
    threads, descriptors : int
        Their numbers.
    outgoing : int
        The descriptors that are idle connections to ComfyUI.
    memory : float
        Resident, MiB.
    """

    tasks: dict[str, int]
    threads: int
    descriptors: int
    outgoing: int
    memory: float

    @property
    def task_count(self) -> int:
        """The number of tasks."""
        return sum(self.tasks.values())


@dataclass
class Load:
    """The runs of one load, and the results of their streams.

    Attributes
    ----------
    waiting : deque of str
        Runs whose end is not known yet, next one first.
    results : dict of str to dict
        The results in the streams, by run.
    streams : int
        The number of streams that were read to their ends.
    listed : list of float
        The milliseconds of each request of the list of runs.
    followers : Counter
        The number of streams that follow each run.
    outputs : dict of str to list of str
        The ids of the outputs in the streams of jobs, by run.
    ends : dict of str to dict
        When the end of each run arrived first, in seconds, for ``run`` and for ``job``.
    """

    waiting: deque[str] = field(default_factory=deque)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: int = 0
    listed: list[float] = field(default_factory=list)
    followers: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, dict[str, float]] = field(default_factory=lambda: {"run": {}, "job": {}})
    _ended: set[str] = field(default_factory=set)

    @property
    def runs(self) -> int:
        """The number of runs whose end has arrived."""
        return len(self.results.keys() | self.outputs.keys())

    def ahead(self) -> list[str]:
        """Return the next runs in the queue that further streams may follow."""
        waiting = (run for run in self.waiting if run not in self._ended)
        return [run for run in islice(waiting, AHEAD) if self.followers[run] < FOLLOWERS]

    def later(self) -> float:
        """Return by how many milliseconds the end arrives later in a job's stream (median)."""
        as_run, as_job = self.ends["run"], self.ends["job"]
        both = as_run.keys() & as_job.keys()
        return statistics.median(as_job[name] - as_run[name] for name in both) * 1000

    def note(self, prompt_id: str, messages: list[tuple[int, dict[str, Any]]]) -> None:
        """Check a stream that has ended.

        Raises
        ------
        RuntimeError
            If an event, the result or the end is missing.
        """
        ids = [number for number, _ in messages]
        if ids != list(range(1, len(ids) + 1)):
            raise RuntimeError(f"the stream of {prompt_id} has gaps: {ids}")
        names = [message.get("event") for _, message in messages]
        steps = [m["data"]["value"] for _, m in messages if m.get("event") == "progress"]
        expected = list(range(1, STEPS + 1))
        if is_today():  # it sends the progress of fast steps only now and then
            expected = [step for step in expected if step in (*steps, STEPS)]
        if steps != expected or names.count("execution_success") != 1:
            raise RuntimeError(f"the stream of {prompt_id} lost events: {messages}")
        if names[-2:] != ["result", "status"] or messages[-1][1]["data"]["status"] != "success":
            raise RuntimeError(f"the stream of {prompt_id} did not end well: {messages[-2:]}")
        result = messages[-2][1]["data"]
        if self.results.setdefault(prompt_id, result) != result:
            raise RuntimeError(f"two streams of {prompt_id} have different results")
        self._end("run", prompt_id)

    def note_job(self, job: str, messages: list[tuple[str, dict[str, Any]]]) -> None:
        """Check a stream of a job that has ended.

        Raises
        ------
        RuntimeError
            If the last progress, an output or the end is missing.
        """
        if not messages or messages[-1] != ("status", {"status": "succeeded", **NO_PLACE}):
            raise RuntimeError(f"the stream of job {job} did not end well: {messages[-2:]}")
        values = [data["value"] for name, data in messages if name == "progress"]
        if values[-1:] != [1.0] or values != sorted(values):
            raise RuntimeError(f"the stream of job {job} has the progress {values}")
        outputs = sorted(data["id"] for name, data in messages if name == "output")
        if self.outputs.setdefault(job, outputs) != outputs or not outputs:
            raise RuntimeError(f"two streams of job {job} have different outputs")
        self._end("job", job)

    def _end(self, kind: str, prompt_id: str) -> None:
        self.ends[kind].setdefault(prompt_id, time.monotonic())
        self.streams += 1
        self._ended.add(prompt_id)
        while self.waiting and self.waiting[0] in self._ended:
            self._ended.discard(self.waiting.popleft())

    def check_history(self, comfyui_url: str) -> None:
        """Compare the results with ComfyUI's history.

        Raises
        ------
        RuntimeError
            If they differ.
        """
        for prompt_id, result in self.results.items():
            entry = requests.get(f"{comfyui_url}/history/{prompt_id}", timeout=60).json()[prompt_id]
            stored = (entry["status"]["status_str"], entry["outputs"])
            if stored != (result["status"], result["outputs"]):
                raise RuntimeError(f"ComfyUI has {stored} for {prompt_id}, the stream had {result}")
        for job in self.outputs.keys() - self.results.keys():
            entry = requests.get(f"{comfyui_url}/history/{job}", timeout=60).json()[job]
            if entry["status"]["status_str"] != "success":
                raise RuntimeError(f"ComfyUI has {entry['status']} for job {job}")


async def by_streams(
    server: Server, *, streams: int, runs: int, duration: float, jobs: bool = False
) -> Load:
    """Keep ``runs`` runs queued and ``streams`` streams open for ``duration`` seconds.

    Half of the streams start a run, the other half follow one of the next runs in the queue. The
    load ends when all runs have ended; at least one stream has followed each of them. With
    ``jobs``, half of the streams of both kinds are those of jobs of the Comfy API.
    """
    load = Load()
    until = time.monotonic() + duration
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=server.headers
    ) as session:

        def at(route: str) -> URL:
            return URL(f"{server.url}comfyui-deploy/{route}", encoded=True)

        async def read(answer: aiohttp.ClientResponse) -> str:
            if answer.status not in (200, 201):
                raise RuntimeError(f"{answer.status}: {await answer.text()}")
            return await answer.text()

        async def queue() -> None:
            body = {"workflow_api": graph(), "wait": False}
            async with session.post(at("run"), json=body) as answer:
                load.waiting.append(json.loads(await read(answer))["prompt_id"])

        async def keep_queued() -> None:
            for _ in to_queue:  # one iterator for all tasks
                await queue()
            while time.monotonic() < until:
                await (queue() if len(load.waiting) < runs else asyncio.sleep(0.01))

        async def start_and_follow(*, as_job: bool) -> None:
            if as_job:
                async with session.post(at("api/v2/jobs"), json={"workflow": graph()}) as answer:
                    job = json.loads(await read(answer))["id"]
                await follow(job, as_job=True)
                return
            body = {"workflow_api": graph()}
            async with session.post(at("run/streaming"), json=body) as answer:
                messages = stream_of(await read(answer))
            load.note(messages[0][1]["prompt_id"], messages)

        async def follow(prompt_id: str, *, as_job: bool) -> None:
            if as_job:
                async with session.get(at(f"api/v2/jobs/{prompt_id}/events")) as answer:
                    load.note_job(prompt_id, job_stream_of(await read(answer)))
                return
            async with session.get(at(f"run/streaming?prompt_id={prompt_id}")) as answer:
                load.note(prompt_id, stream_of(await read(answer)))

        async def go_on_starting(*, as_job: bool) -> None:
            await start_and_follow(as_job=as_job)
            while time.monotonic() < until:
                await start_and_follow(as_job=as_job)

        async def go_on_following(*, as_job: bool) -> None:
            followers: Counter[str] = load.followers
            while load.waiting or not filled.done():
                ahead = load.ahead()
                if not ahead:
                    await asyncio.sleep(0.01)
                    continue
                # The run with the fewest followers, so that each run has one.
                prompt_id = min(ahead, key=lambda run: followers[run])
                followers[prompt_id] += 1
                await follow(prompt_id, as_job=as_job)

        async def look() -> None:
            while not filled.done() or load.waiting:
                begin = time.perf_counter()
                async with session.get(at("runs?status=queued&limit=100")) as answer:
                    json.loads(await read(answer))
                load.listed.append((time.perf_counter() - begin) * 1000)
                await asyncio.sleep(LOOK_EVERY)

        to_queue = iter(range(runs))
        filled = asyncio.gather(*(keep_queued() for _ in range(AT_ONCE)))
        own = max(1, streams // 2)
        await asyncio.gather(
            filled,
            look(),
            *(go_on_starting(as_job=jobs and bool(n % 2)) for n in range(own)),
            *(go_on_following(as_job=jobs and bool(n % 2)) for n in range(streams - own)),
        )
    return load


async def by_raw_clients(comfyui_url: str, *, streams: int, runs: int, duration: float) -> int:
    """Send the same work to ComfyUI with clients of its own protocol; return the number of runs."""
    until = time.monotonic() + duration
    open_runs: set[str] = set()
    count = 0
    to_queue = iter(range(runs))  # by all clients together
    ended = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def client() -> None:
            nonlocal count
            client_id = uuid.uuid4().hex
            url = f"{comfyui_url}/ws"
            async with session.ws_connect(url, params={"clientId": client_id}) as socket:

                async def queue() -> None:
                    nonlocal count
                    prompt_id = uuid.uuid4().hex
                    open_runs.add(prompt_id)
                    count += 1
                    body = {"prompt": graph(), "client_id": client_id, "prompt_id": prompt_id}
                    async with session.post(f"{comfyui_url}/prompt", json=body) as answer:
                        answer.raise_for_status()

                async def listen() -> None:
                    async for frame in socket:
                        if frame.type is aiohttp.WSMsgType.TEXT:
                            message = json.loads(frame.data)
                            prompt_id = (message.get("data") or {}).get("prompt_id")
                            if prompt_id is not None and is_end(message, prompt_id):
                                open_runs.discard(prompt_id)
                                if not open_runs and time.monotonic() > until:
                                    ended.set()

                listening = asyncio.ensure_future(listen())
                for _ in to_queue:
                    await queue()
                while time.monotonic() < until:
                    await (queue() if len(open_runs) < runs else asyncio.sleep(0.01))
                if open_runs:
                    await ended.wait()
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await listening

        await asyncio.gather(*(client() for _ in range(streams)))
    return count


def graph() -> dict[str, dict[str, Any]]:
    """Return the graph of one run."""
    return node("TestProgress", steps=STEPS, delay=DELAY)


def messages_of(text: str) -> list[dict[str, str]]:
    """Return the fields of each message of an event stream; comments are left out."""
    blocks = [
        [line for line in block.split("\n") if line and not line.startswith(":")]
        for block in text.split("\n\n")
    ]
    return [dict(line.split(": ", 1) for line in lines) for lines in blocks if lines]


def stream_of(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the messages of an event stream: id and data."""
    return [(int(fields["id"]), json.loads(fields["data"])) for fields in messages_of(text)]


def job_stream_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the messages of a job's event stream: name and data."""
    return [(fields["event"], json.loads(fields["data"])) for fields in messages_of(text)]


def settle(server: Server, before: Census, *, outgoing: bool = True) -> Census:
    """Wait until the process has no more resources than before; return the last counts.

    Idle connections to ComfyUI stay open for half a minute; this waits for their end too.
    """
    deadline = time.monotonic() + SETTLED
    while True:
        found = server.census()
        more = found.descriptors - before.descriptors
        more -= 0 if outgoing else found.outgoing - before.outgoing
        if (found.task_count <= before.task_count and more <= 0) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


class Pings:
    """A kernel that receives a request every 50 ms from a separate process."""

    def __init__(self, server: Server) -> None:
        environment = {"BENCHMARK_URL": server.url, "BENCHMARK_TOKEN": server.token}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kernel_pings"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.take()

    def take(self) -> list[float]:
        """Return the round trips since the last call in milliseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        found: list[float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process and the kernel."""
        self._process.communicate(timeout=60)


@contextlib.contextmanager
def pinging(server: Server) -> Iterator[Pings]:
    """Run a kernel and send it requests continuously."""
    pings = Pings(server)
    try:
        yield pings
    finally:
        pings.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each load")
    parser.add_argument("--streams", type=int, default=200, help="open at once")
    parser.add_argument("--runs", type=int, default=1000, help="queued at once")
    given = parser.parse_args(arguments)
    rows = (False, False, True)  # whether half of the streams are those of jobs
    size = {"streams": given.streams, "runs": given.runs, "duration": given.seconds}
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, extensions={"benchmarks.census": True}) as jupyter,
    ):
        server = Server(
            f"http://{jupyter.host}:{jupyter.port}/", jupyter.token, jupyter.pid, comfyui.port
        )
        with pinging(server) as pings:
            time.sleep(3.0)
            at_rest = pings.take()
            asyncio.run(by_streams(server, streams=20, runs=20, duration=1.0))
            before = settle(server, server.census())
            after: list[Census] = []
            ours: list[float] = []
            theirs: list[float] = []
            speed: list[tuple[float, float]] = []
            listed: list[float] = []
            in_jobs: list[float] = []
            for jobs in rows:
                pings.take()
                begin = time.perf_counter()
                count = asyncio.run(by_raw_clients(comfyui.url, **size))
                raw = (time.perf_counter() - begin) / count
                theirs += pings.take()
                used = server.processor_time()
                begin = time.perf_counter()
                load = asyncio.run(by_streams(server, **size, jobs=jobs))
                used = server.processor_time() - used
                mine = (time.perf_counter() - begin) / load.runs
                if jobs:
                    in_jobs += [mine / raw, load.later()]
                else:
                    speed.append((mine, raw))
                ours += pings.take()
                load.check_history(comfyui.url)
                listed += load.listed
                after.append(settle(server, before))
                print(
                    f"{load.streams} streams of {load.runs} runs{', half as jobs' * jobs},"
                    f" all whole; {1000 * used / load.runs:.1f} ms of processor time for each run",
                    flush=True,
                )
                print(f"before {before}\nafter  {after[-1]}", flush=True)
    for name, values in (("at rest", at_rest), ("raw clients", theirs), ("through us", ours)):
        cuts = ", ".join(f"p{p} {percentile(values, p):.1f}" for p in (50, 90, 99))
        print(f"a kernel's answer, ms: {name}: {cuts}, longest {max(values):.1f}")
    print(
        f"a list of 100 queued runs, ms: p50 {percentile(listed, 50):.0f}, "
        f"p99 {percentile(listed, 99):.0f}"
    )
    first, second, _ = after
    as_runs = statistics.median(mine / raw for mine, raw in speed)
    return report(
        Figure("a kernel's answer, p99", percentile(ours, 99), percentile(theirs, 99), "added", 50),
        Figure(
            "time of a run",
            statistics.median(mine for mine, _ in speed) * 1000,
            statistics.median(raw for _, raw in speed) * 1000,
            "ratio",
            2.0,
        ),
        Figure(
            "time of a run, half of the streams as jobs", in_jobs[0], as_runs, "ratio", 1.2, "x"
        ),
        Figure("end in the stream of a job", in_jobs[1], 0.0, "added", 10.0),
        Figure("memory after", second.memory, first.memory, "added", 10.0, "MiB"),
        Figure("asyncio tasks after", second.task_count, before.task_count, "added", 0, "tasks"),
        Figure("threads after", second.threads, before.threads, "added", POOL, "threads"),
        Figure(
            "descriptors after", second.descriptors, before.descriptors, "added", 0, "descriptors"
        ),
    )


if __name__ == "__main__":
    run(main)
