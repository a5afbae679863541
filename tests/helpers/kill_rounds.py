"""Rounds in which servers are killed at random times, and the invariants after each round.

A round (`World`) gives a Jupyter server and a ComfyUI work of all kinds, kills one of them or both
by ``kill -9``, starts those that do not start automatically, and compares all replies so far with
the data of the servers. `interrupted_migration` does the same to a store during an upgrade.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import requests
from PIL import Image

from comfydeploy_jupyter.files.uploads import STAGING_PREFIX
from comfydeploy_jupyter.runs.records import FINAL
from comfydeploy_jupyter.store.migrations import MIGRATIONS, migrate
from tests.helpers.comfyui import ComfyUIServer, comfyui_tree, link_test_nodes
from tests.helpers.jupyter import RestartableJupyter, chain
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from tests.helpers.transfer_service import Service

KIB = 1024
SETTLED = 120.0  # time limit in seconds for the end of all started work
VICTIMS = ("jupyter", "comfyui", "both", "records")  # the last: Jupyter, while it makes them
LARGE = 256 * KIB * KIB  # bytes of a model that is hashed while nothing runs


class BrokenInvariantError(AssertionError):
    """An invariant is violated after a crash."""


@dataclass
class Run:
    kind: str
    answered: str
    final: str | None = None


@dataclass
class Answered:
    """All data that the servers have acknowledged, over all rounds."""

    runs: dict[str, Run] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)  # SHA-256 by name
    sent: dict[str, str] = field(default_factory=dict)  # the same, acknowledged or not
    versions: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    downloads: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)


class World:
    """A Jupyter server, a ComfyUI and a service, which are used in many rounds."""

    def __init__(self, folder: Path, service: Service, *, managed: bool = False) -> None:
        self.answered = Answered()
        self.managed = managed
        self._service = service
        self._base = folder / "comfyui"
        self._large = self._base / "models" / "embeddings" / "large.safetensors"
        self._comfyui = None if managed else ComfyUIServer(self._base)
        self._workflows: list[str] = []
        self._checked: set[str] = set()
        path, python = comfyui_tree()
        settings: dict[str, Any] = {
            "comfyui_path": str(path),
            "launch_args": ["--base-directory", str(self._base)],
            "comfyui_timeout": 20.0,
            "comfyui_lost_after": 100.0,
        }
        if self._comfyui is not None:
            settings["comfyui_url"] = self._comfyui.url
        else:
            link_test_nodes(self._base)
            settings["comfyui_python"] = str(python)
            settings["launch_args"] += [
                *("--cpu", "--disable-api-nodes", "--database-url", "sqlite:///:memory:")
            ]
        self._data = folder / "jupyter" / "comfydeploy"
        self.jupyter = RestartableJupyter(folder / "jupyter", settings)

    def start(self) -> None:
        if self._comfyui is not None:
            self._comfyui.start()
        self.jupyter.start()
        self._until_connected()
        for number in range(2):
            graph = _version(Random(number))
            code, body = self.jupyter.post(
                "workflow", {"name": f"workflow {number}", "workflow_api": graph}
            )
            assert code == 200, body
            self._workflows.append(body["workflow_id"])
            self.answered.versions[body["workflow_id"], 1] = graph
        self._large.parent.mkdir(parents=True, exist_ok=True)
        with self._large.open("wb") as file:
            file.truncate(LARGE)

    def close(self) -> None:
        self.jupyter.kill()
        if self._comfyui is not None:
            self._comfyui.kill()

    def round(self, random: Random, victim: str) -> str:
        """Give them work, kill, restart and check; return a description in one line."""
        os.utime(self._large)  # so that it is hashed anew
        load = Load(self.jupyter, self._service, self.answered, self._workflows, random)
        load.start()
        delay = random.uniform(0.05, 1.5)
        time.sleep(delay)
        twice = False
        if victim in ("comfyui", "both"):
            self._kill_comfyui()
            time.sleep(random.choice([0.0, random.uniform(0.0, 0.5)]))
        if victim == "records":
            load.stop()
            newest = ended_runs(self.jupyter, SETTLED, self._checked)[0]
            self.jupyter.get(f"runs/{newest['prompt_id']}/record")  # begins those that wait
            state = random.choice(["wanted", "pending", "complete"])
            _until(
                lambda: state in (made := self._records_made()) or "wanted" not in made,
                lambda: f"no record is {state}: {self._records_made()}",
            )
            time.sleep(random.expovariate(1 / 0.3))
        if victim != "comfyui":
            self.jupyter.kill()
        load.stop()
        if self.managed and victim == "comfyui":
            _until(lambda: not self._is_connected(), lambda: "the end of ComfyUI is not noticed")
        made = self._records_made()
        if victim != "comfyui":
            twice = random.random() < 0.3
            if twice:
                self._die_while_starting(random)
            self.jupyter.start()
        if self._comfyui is not None and victim in ("comfyui", "both"):
            self._comfyui.start()
        comfyui_died = victim in ("comfyui", "both") or self.managed
        states = self._check(comfyui_died=comfyui_died)
        return (
            f"{victim} killed after {delay:.2f} s{', and while it started' if twice else ''}:"
            f" {load.done} acknowledged; {counted(states)}; records: {made}"
        )

    # -- killing -----------------------------------------------------------------------------

    def _kill_comfyui(self) -> None:
        if self._comfyui is not None:
            self._comfyui.kill()
            return
        with suppress(requests.RequestException):
            pid = self.jupyter.get("check-status")[1]["comfyui"].get("pid")
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _die_while_starting(self, random: Random) -> None:
        def start() -> None:
            with suppress(BaseException):  # the kill makes pytest.fail
                self.jupyter.start()

        starting = threading.Thread(target=start)
        starting.start()
        time.sleep(random.uniform(0.2, 2.0))
        self.jupyter.kill()
        starting.join()

    # -- checking ----------------------------------------------------------------------------

    def _is_connected(self) -> bool:
        return bool(self.jupyter.get("check-ws-status")[1]["connected"])

    def _until_connected(self) -> None:
        _until(
            self._is_connected,
            lambda: (
                f"ComfyUI is not there: {self.jupyter.get('check-status')[1]['comfyui']};"
                f" its log ends: {self.jupyter.get('comfyui/log', lines='20')[1]}"
            ),
        )

    def _check(self, *, comfyui_died: bool) -> Counter[str]:
        self._until_connected()
        runs = ended_runs(self.jupyter, SETTLED, self._checked)
        broken = [*self.answered.unexpected]
        self.answered.unexpected.clear()
        broken += self._check_runs(runs, comfyui_died=comfyui_died)
        broken += self._check_files() + self._check_versions() + self._check_downloads()
        broken += self._check_records(runs, comfyui_died=comfyui_died) + self._check_store()
        status = self.jupyter.get("check-status")[1]
        broken += status["store"]["warnings"]
        if any(status["queue"].values()):
            broken.append(f"the queue is not empty: {status['queue']}")
        fail_if(broken)
        self._checked.update(run["prompt_id"] for run in runs)
        return Counter(run["status"] for run in runs)

    def _history(self) -> dict[str, str]:
        url = self.jupyter.get("check-status")[1]["comfyui"]["url"]
        answer = requests.get(f"{url}/history", timeout=60).json()
        return {key: entry["status"]["status_str"] for key, entry in answer.items()}

    def _check_runs(self, runs: list[dict[str, Any]], *, comfyui_died: bool) -> list[str]:
        broken = []
        history = self._history()
        found = {run["prompt_id"]: run for run in runs}
        lost = self.answered.runs.keys() - found.keys() - self._checked
        broken += [f"run {prompt_id} was answered, and is lost" for prompt_id in lost]
        for prompt_id, run in found.items():
            known = self.answered.runs.get(prompt_id)
            status = run["status"]
            name = f"run {prompt_id} ({known.kind if known else 'not answered'}): {status}"
            in_history = history.get(prompt_id)
            if in_history is not None and (in_history == "success") != (status == "success"):
                broken.append(f"{name}, but ComfyUI says {in_history}; {run['error']}")
            if status == "cancelled":
                broken.append(f"{name}, and nobody wanted that")
            error = run["error"] or {}
            needed = {found[other]["status"] for other in needed_by(run) if other in found}
            input_failed = error.get("type") == "InputFailed"
            if needed and input_failed != (not needed <= {"success"}):
                broken.append(f"{name}: {error}, and the runs that it needs: {needed}")
            if input_failed:
                continue
            expected = {"ValueError"} if known is not None else {"ValueError", "NotQueued"}
            if comfyui_died:
                expected.add("ComfyUIEnded")
            if status == "failed" and error.get("type") not in expected:
                broken.append(f"{name}: {error}")
            if known is not None and known.answered in FINAL and known.answered != status:
                broken.append(f"{name}, but answered was {known.answered}")
            if status == "success":
                broken += [f"{name}, {fault}" for fault in self._faults_of(run, comfyui_died)]
            times = [run["created_at"], run["started_at"], run["finished_at"]]
            times = [delay for delay in times if delay is not None]
            if times != sorted(times):
                broken.append(f"{name}: its times are out of order: {times}")
            if known is not None:
                known.final = status
        return broken

    def _faults_of(self, run: dict[str, Any], comfyui_died: bool) -> list[str]:
        """Return the errors in the outputs of a run that succeeded."""
        if not run["outputs"]:
            return ["without outputs"]
        faults = []
        for output in run["outputs"].values():
            for item in output.get("images", ()):
                path = self._base / "output" / item["subfolder"] / item["filename"]
                try:
                    with Image.open(path) as image:
                        image.verify()
                except (OSError, SyntaxError) as fault:
                    faults.append(f"and its picture is not whole: {fault}")
                    continue
                prefix = re.sub(r"_\d+_\.png$", "", path.name)
                made = len(list(path.parent.glob(f"{prefix}_*")))
                if made != 1 and not comfyui_died:
                    faults.append(f"and was executed {made} times")
                key = f"{run['prompt_id']}/{path.name}"
                uploads = prefix.startswith("sent-")
                if uploads and self._service.stored.get(key) != path.read_bytes():
                    faults.append("and its picture was not uploaded")
        return faults

    def _check_files(self) -> list[str]:
        folder = self._base / "input"
        _until(
            lambda: not list(folder.glob(f"{STAGING_PREFIX}*")),
            lambda: f"uploads that were broken off are left: {list(folder.iterdir())}",
        )
        broken = []
        there = {path.name: path for path in folder.iterdir() if path.is_file()}
        for name, digest in self.answered.uploads.items():
            if name not in there:
                broken.append(f"the upload {name} was answered, and is lost")
            elif _sha256(there[name]) != digest:
                broken.append(f"the upload {name} was answered, and is harmed")
        for name, path in there.items():
            if name in self.answered.sent and _sha256(path) != self.answered.sent[name]:
                broken.append(f"half of the upload {name} is to be seen")
        for name in list(self.answered.uploads)[-3:]:
            _, body = self.jupyter.get("get-file-hash", filename=f"input/{name}")
            if body.get("file_hash") != self.answered.uploads[name]:
                broken.append(f"the hash of {name} is wrong: {body}")
        return broken

    def _check_versions(self) -> list[str]:
        broken = []
        for workflow_id in self._workflows:
            rows = self.jupyter.get("workflow/versions", workflow_id=workflow_id, limit="1000")[1]
            numbers = [row["version"] for row in rows]
            if numbers != list(range(len(numbers), 0, -1)):
                broken.append(f"the versions of a workflow have gaps: {numbers}")
        recent = list(self.answered.versions.items())[-30:]
        for (workflow_id, number), graph in recent:
            code, body = self.jupyter.get(
                "workflow/version", workflow_id=workflow_id, version=str(number)
            )
            if code != 200 or body["workflow_api"] != graph:
                broken.append(f"version {number} was answered, and is lost or harmed: {code}")
        return broken

    def _check_downloads(self) -> list[str]:
        folder = self._base / "models" / "checkpoints"

        def waiting() -> int:
            return int(self.jupyter.get("upload-queue-status")[1]["pending_uploads"])

        _until(lambda: waiting() == 0, lambda: f"{waiting()} transfers do not end")
        broken = []
        for name, digest in self.answered.downloads.items():
            path = folder / name
            if not path.is_file() or _sha256(path) != digest:
                broken.append(f"the download {name} was answered, and is lost or harmed")
        parts = [path.name for path in folder.glob("*.part")]
        return broken + [f"half of a download is left: {name}" for name in parts]

    def _records_made(self) -> str:
        """Return how many records of the round are in which state."""
        query = (
            "SELECT prompt_id, state FROM provenance JOIN runs ON runs.id = provenance.run"
            " ORDER BY runs.id"
        )
        with closing(_connect(self._data / "comfydeploy.db")) as connection:
            found = connection.execute(query).fetchall()
        states = Counter(state for prompt_id, state in found if prompt_id not in self._checked)
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"

    def _check_records(self, runs: list[dict[str, Any]], *, comfyui_died: bool) -> list[str]:
        """Wait until each run has its record, and return what these lack."""
        broken = []
        for run in runs:
            read = partial(self.jupyter.get, f"runs/{run['prompt_id']}/record")
            try:
                _, record = until(read, lambda found: found[1]["complete"], timeout=SETTLED)
            except AssertionError as fault:
                broken.append(f"a record that does not end: {fault}")
                continue
            name = f"the record of run {run['prompt_id']} ({run['status']})"
            outputs = (run["outputs"] or {}).values()
            made = [item for each in outputs for item in each.get("images", ())]
            kept = [each for each in record["outputs"] if "filename" in each]
            if len(made) != len(kept):
                broken.append(f"{name} has {kept}, and the run made {made}")
            for item, each in zip(made, kept, strict=False):
                file = self._base / item["type"] / item["subfolder"] / item["filename"]
                if each.get("sha256") != _sha256(file) or not each["content"]:
                    broken.append(f"{name} has another file: {each}")
            if record["pending"] or any("sha256" not in model for model in record["models"]):
                broken.append(f"{name} lacks hashes: {record['models']}, {record['notes']}")
            if run["started_at"] is not None and not record["environment"] and not comfyui_died:
                broken.append(f"{name} has no environment: {record['notes']}")
            broken += [f"{name}: {note}" for note in record["notes"] if "found out" in note]
        return broken

    def _check_store(self) -> list[str]:
        broken = check_store(self._data / "comfydeploy.db")
        with closing(_connect(self._data / "comfydeploy.db")) as connection:
            kept = dict(connection.execute("SELECT prompt_id, status FROM runs"))
            unlike = connection.execute(
                "SELECT id FROM runs WHERE id NOT IN (SELECT run FROM provenance)"
                " UNION SELECT run FROM provenance WHERE run NOT IN (SELECT id FROM runs)"
            ).fetchall()
            broken += [f"a run and its record are not both there: {row}" for row in unlike]
        for prompt_id, run in self.answered.runs.items():
            if run.final is not None and kept.get(prompt_id) != run.final:
                broken.append(f"run {prompt_id} was {run.final}, and is {kept.get(prompt_id)} now")
        locks = list((self._data / "sessions").glob("*.lock"))
        if len(locks) != 1:
            broken.append(f"one server has {len(locks)} sessions")
        return broken


class Load:
    """Work of all kinds from several threads, until the server no longer replies."""

    def __init__(
        self,
        jupyter: RestartableJupyter,
        service: Service,
        answered: Answered,
        workflows: list[str],
        random: Random,
    ) -> None:
        self._jupyter = jupyter
        self._service = service
        self._answered = answered
        self._workflows = workflows
        self._over = threading.Event()
        self._pictures: list[str] = []  # the last runs of these requests that make one
        self.done = 0
        kinds = (self._run, self._run, self._upload, self._version, self._download)
        self._threads = [
            threading.Thread(target=self._work, args=(kind, Random(random.random())))
            for kind in kinds
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the work when the present requests have ended."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, kind: Callable[[Random], bool], random: Random) -> None:
        while not self._over.is_set():
            try:
                if kind(random):
                    self.done += 1
            except requests.RequestException:
                if self._over.wait(0.05):
                    return
            except AssertionError as fault:  # a reply that the specification does not have
                self._answered.unexpected.append(str(fault))
            self._over.wait(random.uniform(0.0, 0.15))

    def _accept(self, code: int, body: Any) -> bool:
        """Return whether a request was acknowledged; record unexpected replies."""
        if code == 200:
            return True
        if code != 503 or body["code"] != "comfyui_unavailable":
            self._answered.unexpected.append(f"answered {code}: {body}")
        return False

    def _run(self, random: Random) -> bool:
        kinds = ["text", "text", "picture", "picture", "sent", "failing"]
        kind = random.choice([*kinds, *["chained"] * 3] if self._pictures else kinds)
        prompt_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        request: dict[str, Any] = {"wait": random.random() < 0.2, "prompt_id": prompt_id}
        sleep = "TestSleep", {"seconds": random.choice([0.0, 0.05, 0.3])}
        if kind == "text":
            graph = chain(sleep)
            graph["1"]["inputs"]["token"] += " embedding:large"
        elif kind == "failing":
            graph = chain(sleep, ("TestFail", {"message": "on purpose"}))
        elif kind == "chained":
            graph, request["inputs"] = chained(prompt_id, random.choice(self._pictures[-3:]))
        else:
            name = f"{'sent' if kind == 'sent' else 'kept'}-{prompt_id[:13]}"
            graph = picture_graph(random, name)
        if kind == "sent":
            request["file_upload_endpoint"] = f"{self._service.url}/upload"
            request["status_endpoint"] = f"{self._service.url}/status"
        code, body = self._jupyter.post("run", {**request, "workflow_api": graph})
        if kind == "chained" and code == 400 and "failed: " in body["error"]:
            return True  # the run that it needs had failed
        if not self._accept(code, body):
            return False
        if kind in ("picture", "chained"):
            self._pictures.append(prompt_id)
        self._answered.runs[prompt_id] = Run(kind, body["status"])
        return True

    def _upload(self, random: Random) -> bool:
        content = random.randbytes(random.choice([1, 40, 700, 3000]) * KIB)
        name = f"upload-{random.getrandbits(64):x}.bin"
        digest = hashlib.sha256(content).hexdigest()
        self._answered.sent[name] = digest
        code, body = self._jupyter.upload(name, content)
        if not self._accept(code, body):
            return False
        if (body["filename"], body["file_hash"]) != (name, digest):
            self._answered.unexpected.append(f"an upload was answered with {body}")
        self._answered.uploads[name] = digest
        return True

    def _version(self, random: Random) -> bool:
        workflow_id = random.choice(self._workflows)
        graph = _version(random)
        body = {"workflow_id": workflow_id, "workflow_api": graph, "comment": "x" * 100}
        code, answer = self._jupyter.post("workflow/version", body)
        if not self._accept(code, answer):
            return False
        key = workflow_id, answer["version"]
        if key in self._answered.versions:
            self._answered.unexpected.append(f"the version {key} was given twice")
        self._answered.versions[key] = graph
        return True

    def _download(self, random: Random) -> bool:
        name = f"model-{random.getrandbits(64):x}.safetensors"
        self._service.files[name] = content = random.randbytes(random.choice([10, 900]) * KIB)
        body = {"url": f"{self._service.url}/files/{name}", "folder": "checkpoints"}
        code, answer = self._jupyter.post("volume/model", {**body, "filename": name})
        if not self._accept(code, answer):
            return False
        self._answered.downloads[name] = hashlib.sha256(content).hexdigest()
        return True


def picture_graph(random: Random, name: str, seconds: float = 0.0) -> dict[str, Any]:
    """Return a graph that saves a picture of its own after some seconds."""
    size = {"width": 16, "height": 16, "batch_size": 1, "color": random.randrange(1 << 24)}
    sleep = {"seconds": seconds, "anything": ["1", 0], "token": name}
    save = {"images": ["2", 0], "filename_prefix": name}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "TestSleep", "inputs": sleep},
        "3": {"class_type": "SaveImage", "inputs": save},
    }


def chained(name: str, needed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a graph that saves the picture of another run, and its inputs."""
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}},
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": name},
        },
    }
    return graph, {"1.image": {"$output": {"run": needed, "file": "3.images[0]"}}}


def joined(
    name: str, needed: Sequence[str], seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a graph that saves the mix of the pictures of some runs, and its inputs."""
    graph, inputs = picture_graph(Random(0), name, seconds), {}
    for number, run in enumerate(needed):
        load, mix = f"load{number}", f"mix{number}"
        mixed = {"image1": graph["2"]["inputs"]["anything"], "image2": [load, 0]}
        graph[load] = {"class_type": "LoadImage", "inputs": {"image": ""}}
        graph[mix] = {
            "class_type": "ImageBlend",
            "inputs": {**mixed, "blend_factor": 0.5, "blend_mode": "normal"},
        }
        graph["2"]["inputs"]["anything"] = [mix, 0]
        inputs[f"{load}.image"] = {"$output": {"run": run, "file": "3.images[0]"}}
    return graph, inputs


def needed_by(run: dict[str, Any]) -> list[str]:
    """Return the runs whose pictures a run needs, if it is `chained` or `joined`."""
    values = (run.get("inputs") or {}).values()
    return [value["$output"]["run"] for value in values if isinstance(value, dict)]


def _version(random: Random) -> dict[str, Any]:
    text = random.randbytes(random.choice([10, 30_000])).hex()
    return {"1": {"class_type": "TestText", "inputs": {"text": text, "token": ""}}}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    try:
        until(condition, timeout=SETTLED)
    except AssertionError:
        raise BrokenInvariantError(what()) from None


def fail_if(broken: Sequence[str]) -> None:
    if broken:
        raise BrokenInvariantError("\n".join(broken))


def counted(states: Counter[str]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"runs: {counts or 'none'}"


def ended_runs(
    jupyter: RestartableJupyter, timeout: float, checked: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Wait until all runs have ended; return those that no earlier round has checked."""

    def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            _, page = jupyter.get("runs", limit="200", offset=str(len(found)))
            found += page
            if len(page) < 200 or page[-1]["prompt_id"] in checked:
                return [run for run in found if run["prompt_id"] not in checked]

    def left(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [run for run in runs if run["status"] not in FINAL]

    try:
        return until(read, lambda runs: not left(runs), timeout=timeout)
    except AssertionError:
        stuck = left(read())
        stories = [jupyter.get("runs", story=run["prompt_id"])[1] for run in stuck[:3]]
        raise BrokenInvariantError(f"runs that do not end: {stuck}\n{stories}") from None


# -- the store ---------------------------------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)


def check_store(path: Path) -> list[str]:
    broken = []
    with closing(_connect(path)) as connection:
        broken += [
            f"integrity: {row[0]}"
            for row in connection.execute("PRAGMA integrity_check")
            if row[0] != "ok"
        ]
        broken += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
        names = [row[0] for row in connection.execute("SELECT name FROM migrations ORDER BY rowid")]
        if names != [name for name, _ in MIGRATIONS]:
            broken.append(f"the steps of the schema are {names}")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as newest:
            migrate(newest)
            if _schema(connection) != _schema(newest):
                broken.append("the schema is not the newest")
        odd = connection.execute(
            "SELECT w.workflow_id, latest_version, count(v.version), max(v.version)"
            " FROM workflows w LEFT JOIN workflow_versions v ON v.workflow = w.id GROUP BY w.id"
            " HAVING latest_version != count(v.version) OR latest_version != max(v.version)"
        )
        broken += [f"a workflow without all its versions: {row}" for row in odd]
    damaged = [other.name for other in path.parent.glob(f"{path.name}.damaged-*")]
    return broken + [f"a store was set aside: {name}" for name in damaged]


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return sorted(rows.fetchall())


_UPGRADE = """
import asyncio, sys
from pathlib import Path
from comfydeploy_jupyter.store.database import Database

async def main():
    database = Database(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    await database.open()
    print("done", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def interrupted_migration(folder: Path, random: Random, *, rows: int = 5000, kills: int = 6) -> str:
    """Upgrade an old store with kills at random times; return a description in one line."""
    path = folder / "comfydeploy.db"
    steps = random.randrange(1, len(MIGRATIONS))
    _old_store(path, steps, rows)

    def upgrade() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _UPGRADE, str(path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    survived = 0
    for _ in range(kills):
        with upgrade() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.stdin.write(b"go\n")
            process.stdin.flush()
            time.sleep(random.expovariate(1 / 0.01))
            process.kill()
            survived += process.stdout.read() == b"done\n"
    with upgrade() as process:
        out, _ = process.communicate(b"go\n", timeout=120)
    broken = [] if out == b"ready\ndone\n" else ["the store cannot be opened"]
    broken += check_store(path)
    with closing(_connect(path)) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT prompt_hash) FROM runs")
        if found.fetchone() != (rows, rows):
            broken.append("runs are lost")
    fail_if(broken)
    return f"a store of {steps} steps upgraded, killed {kills} times, {kills - survived} half-way"


def _old_store(path: Path, steps: int, rows: int) -> None:
    """Make a store in the form of an earlier version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
        )
        connection.execute("BEGIN")
        for name, statements in MIGRATIONS[:steps]:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, '2026-01-01')", (name,))
        graphs = [(f"{number:x}", os.urandom(200)) for number in range(rows)]
        connection.executemany("INSERT INTO graphs VALUES (?, ?)", graphs)
        connection.executemany(
            "INSERT INTO runs (prompt_id, machine, session, status, prompt_hash, created_at,"
            " record) VALUES (?, 'local', 's', 'success', ?, '2026-01-01T00:00:00.000Z', '{}')",
            [(f"run {number}", f"{number:x}") for number in range(rows)],
        )
        connection.execute("COMMIT")
