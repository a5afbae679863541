"""With what runs were made, and whether they can be made again."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from ..errors import ComfyDeployError, NotFoundError, RunTimeoutError, printable
from ..graphs.formats import objects
from ..graphs.models import model_links
from ..receipts import MAX_SIZE, Receipt, read
from ..util.markup import differing
from ..util.times import Backoff
from .files import upload, write_bytes
from .models import FetchedModels
from .packs import NodePacks
from .server import fields_in

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .server import Server

POLL = Backoff(first=0.2, longest=5.0)
RESTART_TIMEOUT = 600.0  # s until a ComfyUI with new packs answers
PAGE = 500  # points that one request returns


class RunRecord(dict[str, Any]):
    """The record of a run, with the keys of the reply of ``run``.

    Parameters
    ----------
    values
        The record.
    made_with
        Returns with what the run was made, after at most so many seconds.
    """

    def __init__(
        self, values: Mapping[str, Any], made_with: Callable[[float | None], dict[str, Any]]
    ) -> None:
        super().__init__(values)
        self._made_with = made_with

    def __call__(self, timeout: float | None = None) -> dict[str, Any]:
        """Return with what the run was made, once it has ended and all of it is known.

        Parameters
        ----------
        timeout : float, optional
            Return what is known after this time, s. By default it waits: large models are hashed
            while nothing runs.

        Returns
        -------
        dict
            The reply of ``GET runs/{run_id}/record``: ``prompt`` and ``workflow`` as they were
            executed; ``environment`` with the versions of ComfyUI, Python and torch, the GPUs and
            the driver; ``node_packs``, ``models``, ``inputs`` and ``outputs`` with their hashes.

        Raises
        ------
        NotFoundError
            The server does not know the run.
        RunTimeoutError
            The run has not ended in time.
        """
        return self._made_with(timeout)


def complete_record(server: Server, prompt_id: str, timeout: float | None) -> dict[str, Any]:
    """Return the reply of the route about the record of a run that has ended, once complete."""
    address = f"runs/{quote(prompt_id, safe='')}/record"
    return _asked_until(lambda: server.get(address), lambda found: found["complete"], timeout)


def _asked_until(
    ask: Callable[[], dict[str, Any]],
    is_done: Callable[[dict[str, Any]], bool],
    timeout: float | None,
) -> dict[str, Any]:
    """Ask again and again; return the first reply with all that is wanted, or the last in time."""
    deadline = None if timeout is None else time.monotonic() + timeout
    attempts = 0
    while not is_done(found := ask()):
        attempts += 1
        pause = POLL.pause(attempts)
        if deadline is not None and time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
    return found


@dataclass(frozen=True)
class Verification:
    """Whether a run was made again.

    Attributes
    ----------
    verdict : {"identical", "differs", "cannot"} or None
        Of all outputs; None if the run was not executed again.
    differences : list of str
        What it was made with otherwise, in words.
    outputs : list of dict
        Each output: ``node_id``, ``filename`` of a file, ``verdict``, ``reason``; of pictures that
        differ ``share`` of the pixels, ``largest`` and ``mean`` difference, all from 0 to 1.
    prompt_id : str or None
        The run that repeats the first one.
    first_different : dict or None
        The first node that does not repeat itself, with ``node_id`` and ``name``.
    notes : list of str
        What limits this result.
    missing : list of dict
        Of a receipt: models and node packs that are not here, see `Comfy.verify`.
    """

    verdict: Literal["identical", "differs", "cannot"] | None
    differences: list[str]
    outputs: list[dict[str, Any]] = field(default_factory=list)
    prompt_id: str | None = None
    first_different: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether each output is identical."""
        return self.verdict == "identical"

    def __str__(self) -> str:
        """Return the verdict, and the differences in words."""
        lines = [self.verdict or "not executed again", *self.differences]
        lines += map(_where, self.missing)
        lines += differing(self.outputs, self.first_different)
        return printable("\n".join([*lines, *self.notes]))


def _where(missing: dict[str, Any]) -> str:
    """Return a line about where to get what is missing."""
    told = {"sha256": "SHA-256 ", "commit": "commit ", "version": "version ", "size": "bytes "}
    facts = [f"{word}{missing[name]}" for name, word in told.items() if missing.get(name)]
    where = missing["url"] or "no address is known"
    problem = f" ({missing['problem']})" if missing.get("problem") else ""
    return f"missing {missing['kind']} {missing['name']}: {', '.join([where, *facts])}{problem}"


# -- what a receipt needs -------------------------------------------------------------------------


def needs(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workflow of ComfyUI's editor that only names the models and packs of a record.

    So what finds and downloads all that a workflow lacks does the same for a receipt.
    """
    nodes: list[dict[str, Any]] = []
    for pack in objects(record.get("node_packs")):
        properties = {"cnr_id": pack.get("id"), "aux_id": pack.get("repository")}
        known = {name: value for name, value in properties.items() if value}
        nodes += ({"id": 0, "type": each, "properties": known} for each in pack.get("classes", ()))
    for number, node in enumerate(nodes, 1):
        node["id"] = number
    models = listed_models(record)
    names = [entry["name"] for entry in models]  # else one that only a text names is not wanted
    nodes.append({"id": len(nodes) + 1, "type": "Note", "widgets_values": names})
    return {"version": 0.4, "nodes": nodes, "links": [], "models": models}


def listed_models(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the models of a record as workflows list them, each with its SHA-256."""
    links = model_links(record.get("workflow"))
    found = []
    for model in objects(record.get("models")):
        if model.get("sha256"):
            name = str(model["name"]).replace("\\", "/").rpartition("/")[2]
            link = links.get(name)
            url = link.url if link is not None and link.fits(model["sha256"]) else None
            entry = {"name": model.get("file") or name, "url": model.get("url") or url}
            more = {"directory": model.get("folder"), "hash": model["sha256"]}
            found.append({**entry, **more, "hash_type": "SHA256"})
    return found


def lacking(
    server: Server,
    receipt: Receipt,
    *,
    machine: str | None,
    fetch: bool,
    timeout: float | None,
) -> list[dict[str, Any]]:
    """Return the models and packs of a receipt that are not here; before that, fetch them."""
    record = receipt.record
    recorded = {
        name: pack for pack in objects(record.get("node_packs")) for name in pack.get("classes", ())
    }
    source = {"workflow_api": record["prompt"], "workflow": needs(record), "machine": machine}
    address = "workflow/install-packs"
    packs = server.post(address, source, dry_run=True)
    others: list[dict[str, Any]] = []  # that are there, in another version
    if fetch and packs["manager"] and any(each["state"] == "missing" for each in packs["packs"]):
        made = {each["pack"]: recorded.get(each["classes"][0], {}) for each in packs["packs"]}
        versions = {name: pack.get("version") or pack.get("commit") for name, pack in made.items()}
        wanted = {name: version for name, version in versions.items() if version}
        there = NodePacks(server.post(address, source, versions=wanted), server).wait(timeout)
        if packs["managed"] and any(each.state == "installed" for each in there):
            place = {"machine_id": packs["machine"], "restart": True}
            server.post("machine/update", place, timeout=RESTART_TIMEOUT)
        packs = server.post(address, source, dry_run=True)
        lacked = {each["pack"] for each in packs["packs"]}
        others = [vars(each) for each in there if each.problem and each.pack not in lacked]
    options = {"dry_run": not fetch, "sizes": True}
    models = FetchedModels(server.post("workflow/fetch-models", source, **options), server)
    if fetch:
        models.wait(timeout)
        _put_inputs(server, receipt, machine)
    unknown = [{**each, "classes": [each["class_type"]], "url": None} for each in packs["others"]]
    lack = [*packs["packs"], *others, *unknown]
    return [*_lacking_packs(lack, recorded), *_lacking_models(models)]


def _lacking_packs(
    lack: Sequence[Mapping[str, Any]], recorded: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Describe the packs that are not here; ``recorded``: those of the record, by their classes."""
    for each in lack:
        pack: Mapping[str, Any] = next(
            (recorded[name] for name in each["classes"] if name in recorded), {}
        )
        yield {
            "kind": "node pack",
            "name": each.get("title") or pack.get("name") or each["classes"][0],
            "classes": each["classes"],
            "url": pack.get("repository") or each["url"],
            **{name: pack.get(name) for name in ("commit", "version", "sha256")},
            "problem": each.get("problem"),
        }


def _lacking_models(models: FetchedModels) -> Iterator[dict[str, Any]]:
    for model in models:
        if model.state not in ("present", "unused", "done"):
            about = {"kind": "model", "name": f"{model.folder or '?'}/{model.name}"}
            names = ("url", "sha256", "size", "problem")
            yield {**about, **{name: getattr(model, name) for name in names}}


def _put_inputs(server: Server, receipt: Receipt, machine: str | None) -> None:
    """Upload the input files of a receipt that are not here."""
    contents = {
        hashlib.sha256(content).hexdigest(): content
        for path, content in receipt.files.items()
        if path.startswith("inputs/")
    }
    for file in objects(receipt.record.get("inputs")):
        content = contents.get(str(file.get("sha256")))
        if content is None or file.get("folder") != "input":
            continue
        subfolder, _, name = str(file["name"]).removesuffix(" [input]").rpartition("/")
        place = {"filename": name, "subfolder": subfolder, "type": "input", "machine": machine}
        try:
            with server.request("GET", server.address("view", place)):
                pass
        except NotFoundError:
            upload(server, content, name=name, subfolder=subfolder, machine=machine)


def verify(
    server: Server,
    prompt_id: str,
    asked: dict[str, Any],
    timeout: float | None,
    *,
    record: dict[str, Any] | None = None,
) -> Verification:
    """Repeat a run, or that of a foreign record; see `Run.verify`."""
    address = f"runs/{quote(prompt_id, safe='')}/verify"
    if record is None:
        begun = server.post(address, asked)
    else:
        begun = server.post("receipts/verify", {"record": record, **asked})
    if begun["prompt_id"] is None:
        return Verification(None, begun["differences"])
    foreign = {"record": record}
    found = _asked_until(
        lambda: server.get(address) if record is None else server.post("receipts/result", foreign),
        lambda found: found["state"] != "running",
        timeout,
    )
    if found["state"] == "running":
        raise RunTimeoutError(
            f"The run {begun['prompt_id']} that repeats {prompt_id} has not ended in time",
            extra={"prompt_id": begun["prompt_id"]},
        )
    return fields_in(Verification, found)


@dataclass(frozen=True)
class SweepVerification:
    """Whether the points of a sweep were made again.

    Attributes
    ----------
    verdict : {"identical", "differs", "cannot"} or None
        Of all points; None if it was cancelled.
    counts : dict of str to int
        How many points have each verdict.
    differences : list of str
        What points were made with otherwise, in words, each once.
    points : list of dict
        Each point: ``point``, ``prompt_id``, ``repetition`` (the run that repeats it), ``verdict``,
        and ``reason`` in words if it is not identical.
    """

    verdict: Literal["identical", "differs", "cannot"] | None
    counts: dict[str, int]
    differences: list[str] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether each point is identical."""
        return self.verdict == "identical"

    def __str__(self) -> str:
        """Return the counts, the differences, and the points that are not identical."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        lines = [f"{self.verdict or 'cancelled'}: {counts or 'no point was compared'}"]
        lines += self.differences
        for point in self.points:
            if point["verdict"] not in (None, "identical"):
                lines.append(f"point {point['point']} {point['verdict']}: {point['reason']}")
        return printable("\n".join(lines))


def verify_batch(
    server: Server, batch_id: str, asked: dict[str, Any], timeout: float | None
) -> SweepVerification:
    """Repeat points of a batch, and wait; see `Sweep.verify`."""
    route = f"batch/{quote(batch_id, safe='')}/verify"
    server.post(route, asked)
    try:
        found = _asked_until(
            lambda: server.get(route, limit=1), lambda found: found["state"] != "running", timeout
        )
    except KeyboardInterrupt:
        with suppress(ComfyDeployError):
            server.post(f"{route}/cancel", {})
        raise
    if found["state"] == "running":
        counts = ", ".join(f"{count} {name}" for name, count in found["counts"].items())
        raise RunTimeoutError(f"The points were not compared in time; it goes on: {counts}")
    points: list[dict[str, Any]] = []
    while len(points) < found["total"]:
        page = server.get(route, limit=PAGE, offset=len(points))["points"]
        if not page:
            break
        points += page
    return SweepVerification(found["verdict"], found["counts"], found["differences"], points)


def save_receipt(
    server: Server, prompt_id: str, path: str | os.PathLike[str], *, inputs: bool, sign: bool
) -> Path:
    """Write the receipt of a run; see `Run.receipt`."""
    route = f"runs/{quote(prompt_id, safe='')}/receipt"
    address = server.address(route, {"inputs": str(inputs).lower(), "sign": str(sign).lower()})
    with server.request("GET", address) as response:
        write_bytes(path, response.content)
    return Path(path).expanduser()


def read_receipt(receipt: Receipt | str | os.PathLike[str]) -> Receipt:
    """Return a receipt that was given as it is, or as the path of its file."""
    if isinstance(receipt, Receipt):
        return receipt
    with Path(receipt).expanduser().open("rb") as file:
        return read(file.read(MAX_SIZE + 1))
