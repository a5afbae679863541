"""Rounds in which the servers of a pool are killed at random times, and the checks after each.

The pool has two ComfyUIs that Jupyter does not start, or those of two workers of a Dask cluster.
Each run saves one picture at its end, so the pictures show how often it was executed.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import psutil
import requests

from comfydeploy_jupyter.runs.records import FINAL
from tests.helpers.clusters import DaskCluster
from tests.helpers.comfyui import ComfyUIServer, comfyui_tree
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.kill_rounds import (
    BrokenInvariantError,
    chained,
    counted,
    ended_runs,
    fail_if,
    joined,
    needed_by,
    picture_graph,
)
from tests.helpers.processes import alive
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SETTLED = 180.0  # time limit in seconds for the end of all runs
POOL = "pair"
MEMBERS = 2
VICTIMS = ("jupyter", "first", "second", "first and jupyter", "both", "all")
CLUSTER_VICTIMS = ("jupyter", "worker", "comfyui", "scheduler", "worker and jupyter")


class PoolWorld:
    """A Jupyter server with a pool of two ComfyUIs, which are used in many rounds."""

    def __init__(self, folder: Path) -> None:
        self.members = [ComfyUIServer(folder / name) for name in ("first", "second")]
        self.jupyter = RestartableJupyter(
            folder / "jupyter",
            {"comfyui_url": self.members[0].url, "comfyui_timeout": 20.0},
        )
        self._dead: list[ComfyUIServer] = []
        self._ends: dict[str, tuple[str, str]] = {}  # status and time of each end that was read
        self._answered: set[str] = set()
        self._twice: set[str] = set()  # runs that were executed again, as `docs/clusters.md` allows
        self._cancelled: set[str] = set()  # runs whose cancellation was asked for
        self._cancelled_with: set[str] = set()  # those that ask to be cancelled with others
        self._surprises: list[str] = []

    def start(self) -> None:
        """Start all servers and make the pool."""
        for member in self.members:
            member.start()
        self.jupyter.start()
        second = {"name": "second", "comfyui_url": self.members[1].url}
        for body in (second, {"name": POOL, "kind": "pool", "members": ["local", "second"]}):
            code, answer = self.jupyter.post("machine/create", body)
            assert code == 200, answer
        self._until_connected()

    def close(self) -> None:
        self.jupyter.kill()
        for member in self.members:
            member.kill()

    def round(self, random: Random, victim: str) -> str:
        """Send runs, kill, restart and check, as `kill_rounds.World.round` does.

        An invariant is violated if a run was lost, executed twice or ended twice, or if too many
        have failed.
        """
        over = threading.Event()
        clients = [
            threading.Thread(target=self._send, args=(over, Random(random.random())))
            for _ in range(3)
        ]
        for client in clients:
            client.start()
        moment = random.uniform(0.2, 2.0)
        time.sleep(moment)
        names = {"both": "first second", "all": "first second jupyter"}.get(victim, victim)
        ended = self._kill(random, names)
        if "jupyter" in names:
            self.jupyter.kill()
        else:
            time.sleep(random.uniform(0.0, 1.0))
        over.set()
        for client in clients:
            client.join()
        if "jupyter" in names:
            self.jupyter.start()
        if random.random() < 0.5:  # the other member executes the runs, if there is one
            self._until_connected(ended)
        self._heal()
        self._until_connected()
        return f"{victim} killed after {moment:.2f} s: {counted(self._check(ended))}"

    def _kill(self, random: Random, names: str) -> int:
        """Kill members; return how many ComfyUIs have ended by that."""
        self._dead = [member for member in self.members if member.base_dir.name in names]
        for member in self._dead:
            member.kill()
            time.sleep(random.choice([0.0, random.uniform(0.0, 0.5)]))
        return len(self._dead)

    def _heal(self) -> None:
        for member in self._dead:
            member.start()

    def _send(self, over: threading.Event, random: Random) -> None:
        while not over.is_set():
            prompt_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
            seconds = random.choice([0.0, 0.1, 0.5])
            graph, inputs = picture_graph(random, prompt_id, seconds), None
            if self._answered and random.random() < 0.3:
                graph, inputs = chained(prompt_id, random.choice([*self._answered]))
            body = {
                "workflow_api": graph,
                "inputs": inputs,
                "prompt_id": prompt_id,
                "machine": POOL,
                "wait": False,
                "front": random.random() < 0.1,
            }
            try:
                code, answer = self.jupyter.post("run", body)
            except requests.RequestException:
                over.wait(0.05)
                continue
            if code == 200:
                self._answered.add(prompt_id)
            elif code != 400 or "failed: " not in answer["error"]:  # the run that it needs had
                self._surprises.append(f"answered {code}: {answer}")
            over.wait(random.uniform(0.0, 0.2))

    # -- checking ----------------------------------------------------------------------------

    def _until_connected(self, missing: int = 0) -> None:
        """Wait until the pool has all members but the missing ones."""

        def ready() -> int:
            pools = self.jupyter.get("machines", members="1")[1]
            members = next(row["members"] for row in pools if row["id"] == POOL)
            # "paused": its last runs were killed; it is tried again with the next one
            return sum(member["status"] in ("ready", "paused") for member in members)

        until(ready, lambda count: count >= MEMBERS - missing, timeout=SETTLED)

    def _pictures(self) -> list[str]:
        """Return the names of all pictures, which begin with the ids of their runs."""
        return [path.name for member in self.members for path in member.output_dir.iterdir()]

    def _start_was_unknown(self, prompt_id: str) -> bool:
        """Return whether a ComfyUI was killed before the event that a run has started was sent.

        A run that takes some milliseconds can be over by then. It counts as waiting.
        """
        story = self.jupyter.get("runs", story=prompt_id)[1]
        causes = [entry["cause"] for entry in story]
        return "its machine does not have it" in causes and causes.count("execution started") == 1

    def _was_wanted(self, run: dict[str, Any], needed: Collection[str]) -> bool:
        """Return whether a run may be cancelled; `needed` are the ends of those that it needs."""
        return run["prompt_id"] in self._cancelled or (
            run["prompt_id"] in self._cancelled_with and "cancelled" in needed
        )

    def _check(self, kills: int) -> Counter[str]:
        runs = {run["prompt_id"]: run for run in ended_runs(self.jupyter, SETTLED)}
        broken, self._surprises = self._surprises, []
        broken += [f"run {lost} was answered, and is lost" for lost in self._answered - runs.keys()]
        pictures = Counter(name[: len(str(uuid.UUID(int=0)))] for name in self._pictures())
        new: Counter[str] = Counter()
        for prompt_id, run in runs.items():
            status = run["status"]
            name = f"run {prompt_id}: {status}, {run['error']}"
            end = status, run["finished_at"]
            new_end = prompt_id not in self._ends
            new[status] += new_end
            if self._ends.setdefault(prompt_id, end) != end:
                broken.append(f"{name}: its end was {self._ends[prompt_id]}, and is {end} now")
            needed = {runs[other]["status"] for other in needed_by(run)}
            input_failed = (run["error"] or {}).get("type") == "InputFailed"
            if status != "cancelled" and input_failed != (not needed <= {"success"}):
                broken.append(f"{name}, and the runs that it needs: {needed}")
            new["failed"] -= input_failed and new_end
            made = pictures[prompt_id]
            if made == 2 and prompt_id not in self._twice and self._start_was_unknown(prompt_id):
                self._twice.add(prompt_id)
                new["executed again"] += 1
            if made > 1 + (prompt_id in self._twice):
                broken.append(f"{name}: executed {made} times")
            if status == "success" and not made:
                broken.append(f"{name}, and has no picture")
            if status == "cancelled" and not self._was_wanted(run, needed):
                broken.append(f"{name}, and nobody wanted that")
        if new["executed again"] > kills:
            broken.append(f"{new['executed again']} runs were executed again by {kills} kills")
        if new["failed"] > kills:
            failed = [run["error"] for run in runs.values() if run["status"] == "failed"]
            broken.append(f"{new['failed']} runs have failed by {kills} kills: {failed[:5]}")
        if broken:
            stories = [self.jupyter.get("runs", story=text[4:40])[1] for text in broken[:3]]
            raise BrokenInvariantError("\n".join([*broken, *map(str, stories)]))
        return new


class ChainWorld(PoolWorld):
    """The same with chains: most runs need the pictures of one or two of the last runs.

    Some are cancelled, and with each of them those of its chain that have asked for it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._last: list[str] = []  # the last runs that were answered

    def _send(self, over: threading.Event, random: Random) -> None:
        while not over.is_set():
            prompt_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
            seconds = random.choice([0.0, 0.1, 0.3])
            graph = picture_graph(random, prompt_id, seconds)
            inputs: dict[str, Any] = {}
            if self._last and random.random() < 0.85:
                count = min(random.choice([1, 1, 2]), len(self._last))
                needed = random.sample(self._last, count)
                graph, inputs = joined(prompt_id, needed, seconds)
            body = {
                "workflow_api": graph,
                "inputs": inputs,
                "prompt_id": prompt_id,
                "machine": POOL,
                "wait": False,
                "cancel_with": random.random() < 0.5,
            }
            if body["cancel_with"]:
                self._cancelled_with.add(prompt_id)
            try:
                code, answer = self.jupyter.post("run", body)
                if code == 200:
                    self._answered.add(prompt_id)
                    self._last = [*self._last[-5:], prompt_id]
                elif code != 400 or "status" not in answer["details"]:  # of a run it needs
                    self._surprises.append(f"answered {code}: {answer}")
                if self._last and random.random() < 0.1:
                    victim = random.choice(self._last)
                    self._cancelled.add(victim)
                    self.jupyter.post("interrupt", {"prompt_id": victim})
            except requests.RequestException:
                over.wait(0.05)
            over.wait(random.uniform(0.0, 0.1))


class BatchWorld(PoolWorld):
    """The same with batches, and others over their pictures: in pairs with names, and in a grid.

    The name of each picture begins with those of its batch and of one of its values.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._checked: set[str] = set()

    def _send(self, over: threading.Event, random: Random) -> None:
        while not over.is_set():
            of = f"{random.getrandbits(40):010x}"
            count, retry = random.randrange(1, 8), random.choice([0, 5])
            again, _ = chained("", "")
            image = {"$each": [{"batch": f"{of}-first-{count}"}]}
            along = {"$with": "3.filename_prefix"}
            inputs: dict[str, dict[str, Any]] = {
                f"first-{count}": {
                    "color": {"$vary": random.sample(range(1 << 24), count)} | along
                },
                f"pairs-{count}": {"image": image | along},
                "grid-2": {"image": image},
            }
            for kind, varied in inputs.items():
                names = [f"{of}-{kind}-{n}_" for n in range(int(kind[-1]))]
                seconds = random.choice([0.0, 0.05, 0.3])
                body = {
                    "batch_id": f"{of}-{kind}",
                    "workflow_api": again
                    if "image" in varied
                    else picture_graph(random, of, seconds),
                    "inputs": {"3.filename_prefix": {"$vary": names}, **varied},
                    "machine": POOL,
                    "retry": retry,
                }
                try:
                    code, answer = self.jupyter.post("batch", body)
                except requests.RequestException:
                    break
                if code != 200:
                    self._surprises.append(f"answered {code}: {answer}")
                self._answered.add(f"{of}-{kind}")
            over.wait(random.uniform(0.3, 1.0))

    def _check(self, kills: int) -> Counter[str]:
        def read() -> list[dict[str, Any]]:
            return list(self.jupyter.get("batches", limit="1000")[1]["batches"])

        found = until(read, lambda rows: all(row["finished_at"] for row in rows), timeout=SETTLED)
        batches = {batch["batch_id"]: batch for batch in found}
        broken, self._surprises = self._surprises, []
        broken += [f"batch {lost} is lost" for lost in self._answered - batches.keys()]
        pictures = Counter(name.partition("_")[0] for name in self._pictures())
        new: Counter[str] = Counter()
        for batch_id in batches.keys() - self._checked:
            of, kind, count = batch_id.split("-")
            points = self.jupyter.get(f"batch/{batch_id}/points", limit="1000")[1]["points"]
            runs = self.jupyter.get("runs", batch_id=batch_id, limit="1000")[1]
            name = f"batch {batches[batch_id]}"
            first = next(b for b in found if b["batch_id"].startswith(f"{of}-first"))
            good = first["counts"].get("success", 0)
            total = {"first": int(count), "grid": 2 * good}.get(kind, good)
            if kind == "pairs" and good != int(count):  # there are more names than pictures
                total = 0
            state = "done" if kind != "pairs" or total else "cancelled"
            if (len(points), batches[batch_id]["state"]) != (total, state):
                broken.append(f"{name}: {len(points)} points instead of {total}")
            succeeded = Counter(run["point"] for run in runs if run["status"] == "success")
            attempts: Counter[str] = Counter()
            for point in points:
                number, status = point["point"], point["status"]
                attempts[point["values"]["3.filename_prefix"].rstrip("_")] += point["attempts"]
                new[status] += 1
                new["attempts"] += point["attempts"] - 1
                if succeeded[number] != (status == "success") or status not in FINAL:
                    broken.append(f"{name}: {point}, and {succeeded[number]} successful runs")
            for picture, count_ in attempts.items():
                new["pictures"] += max(pictures[picture] - count_, 0)
            if sum(pictures[picture] for picture in attempts) < sum(succeeded.values()):
                broken.append(f"{name} has too few pictures")
            self._checked.add(batch_id)
        failed = new["failed"] + new["attempts"]
        if failed > kills or new["pictures"] > kills or new["cancelled"]:
            broken.append(f"{kills} kills, and {new}")
        fail_if(broken)
        return +new


class ClusterWorld(PoolWorld):
    """A Jupyter server with a pool on a Dask cluster of two workers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.members = []
        settings = {"autostart": False, "comfyui_timeout": 20.0}
        self.jupyter = RestartableJupyter(folder / "cluster-jupyter", settings)
        self.cluster = DaskCluster(folder / "cluster")
        self._shared = folder / "shared"
        self._base = ComfyUIServer(folder / "base").base_dir  # it has the nodes of the tests

    def start(self) -> None:
        """Start all servers and make the pool."""
        self._shared.mkdir()
        self.cluster.start(MEMBERS)
        self.jupyter.start()
        path, python = comfyui_tree()
        body = {
            "name": POOL,
            "scheduler": self.cluster.address,
            "security": self.cluster.security,
            "workers": [MEMBERS, MEMBERS],
            "comfyui_path": str(path),
            "comfyui_python": str(python),
            "launch_args": ["--cpu", "--base-directory", str(self._base), "--disable-api-nodes"],
            "shared_dir": str(self._shared),
        }
        code, answer = self.jupyter.post("machine/create", body)
        assert code == 200, answer
        self._until_connected()

    def close(self) -> None:
        super().close()
        self.cluster.close()

    def _kill(self, random: Random, names: str) -> int:
        workers = [worker for worker in self.cluster.workers if alive(worker.pid)]
        if "scheduler" in names:
            self.cluster.scheduler.kill()
            return MEMBERS
        if "worker" in names:
            random.choice(workers).kill()
            return 1
        if "comfyui" in names:
            worker = psutil.Process(random.choice(workers).pid)
            for process in worker.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "main.py" in process.cmdline()[1:3]:
                        process.kill()
            return 1
        return 0

    def _heal(self) -> None:
        if not alive(self.cluster.scheduler.pid):
            self.cluster.close()  # the workers end with their scheduler
            self.cluster.workers.clear()
            self.cluster.start(MEMBERS)
        for worker in list(self.cluster.workers):
            if not alive(worker.pid):
                self.cluster.workers.remove(worker)
                worker.close()
                self.cluster.add_worker()

    def _pictures(self) -> list[str]:
        return [path.name for path in self._shared.glob("*/output/*.png")]
