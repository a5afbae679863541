"""The model files that a workflow names: find out which are missing, and download those.

A workflow file may come from an attacker. The name, folder, link and hash of a model in it are
checked before they are used, and a link may lead to public addresses only.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..comfyui.folders import LEGACY_NAMES
from ..comfyui.manager import Manager
from ..errors import (
    ComfyDeployError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OfflineError,
)
from ..files.models import place
from ..graphs.definitions import SUFFIXES
from ..graphs.models import PICKLES, chosen_names, listed_models
from ..transfers.http import TransferError, objection
from ..util import worker
from .validate import validate_workflow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..graphs.models import ListedModel
    from ..machines.machine import Machine
    from ..transfers.queue import TransferRecord, Transfers
    from .convert import Graphs

MAX_MODELS = 1000  # models of one workflow
MAX_NAME = 255  # bytes; the limit of common file systems
MAX_URL = 8192
MAX_CONCURRENT = 8  # links whose sizes are requested at the same time


@dataclass
class ModelFile:
    name: str  # as in a loader: including subfolders of `folder`, if any
    folder: str | None  # under ``models``
    url: str | None = None
    sha256: str | None = None
    # present: it exists. missing: it can be downloaded. fetching: its download is not complete.
    # no_link: no address is known. unused: the workflow lists it, but uses another one.
    # refused: it cannot or must not be downloaded.
    state: str = "missing"
    problem: str | None = None  # why it is refused, or another problem
    size: int | None = None  # bytes, if it was requested
    nodes: list[dict[str, Any]] = field(default_factory=list)  # what names it, as far as known
    transfer: TransferRecord | None = None  # its download

    @property
    def is_pickle(self) -> bool:
        """Whether such a file can execute code when it is loaded."""
        return PurePosixPath(self.name).suffix.lower() in PICKLES

    def refuse(self, problem: str) -> None:
        self.state, self.problem = "refused", problem

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "folder": self.folder,
            "path": f"models/{self.folder}/{self.name}" if self.folder else None,
            "url": self.url,
            "size": self.size,
            "sha256": self.sha256,
            "pickle": self.is_pickle,
            "state": self.state,
            "problem": self.problem,
            "nodes": self.nodes,
            "transfer": None if self.transfer is None else self.transfer.id,
        }


@dataclass
class Plan:
    models: list[ModelFile]  # all that the workflow names, in its order
    missing_nodes: list[dict[str, Any]]  # as in the result of the validation
    warnings: list[str]

    @property
    def wanted(self) -> list[ModelFile]:
        """The models that can be downloaded."""
        return [model for model in self.models if model.state == "missing"]


async def plan(
    machine: Machine,
    transfers: Transfers,
    graphs: Graphs,
    present: Mapping[str, Collection[str]],
) -> Plan:
    """Find out which model files a workflow needs, and which of them can be downloaded.

    Nothing is downloaded, and requests are sent to ComfyUI only.
    """
    validation = await validate_workflow(machine, graphs)
    folders = await machine.folders()
    listed, chosen = await worker.run(_named, *graphs)
    models = await asyncio.to_thread(
        _examine,
        listed,
        chosen,
        validation["missing_models"],
        present,
        folders if folders.base is not None else None,
        transfers.sites.addresses,
    )
    warnings = []
    if len(models) > MAX_MODELS:
        warnings.append(
            f"The workflow names {len(models)} models; only the first {MAX_MODELS} are examined."
        )
    if folders.base is None and any(model.state in ("missing", "no_link") for model in models):
        warnings.append(
            "The folders of this ComfyUI are not known here, so nothing can be downloaded into"
            " them; set comfyui_path if it is on this machine."
        )
    return Plan(models[:MAX_MODELS], validation["missing_nodes"], warnings)


async def find_links(found: Plan, transfers: Transfers, machine: Machine) -> None:
    """Look where models are whose links are not known, but whose contents are, by their SHA-256."""
    lacking = [model for model in found.models if model.state == "no_link" and model.sha256]
    if not lacking:
        return
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def look(model: ModelFile) -> None:
        async with slots:
            with suppress(TransferError, ComfyDeployError, OSError, asyncio.TimeoutError):
                model.url = await transfers.link_of(model.sha256 or "")

    await asyncio.gather(*map(look, lacking))
    if any(model.url is None for model in lacking):
        with suppress(ComfyDeployError):
            manager = await Manager.find(await machine.ready())
            links = await manager.model_links() if manager is not None else {}
            for model in lacking:
                model.url = model.url or links.get(_base(model.name))
    for model in lacking:
        problem = None if model.url is None else _link_problem(model.url, transfers.sites.addresses)
        if problem is not None:
            model.refuse(problem)
        elif model.url is not None:
            model.state = "missing"


async def ask_sizes(found: Plan, transfers: Transfers) -> None:
    """Request the size and the SHA-256 of the missing files from their sites."""
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def ask(model: ModelFile) -> None:
        async with slots:
            try:
                file = await transfers.linked(model.url or "")
                asked = await transfers.ask(file.url)
            except (TransferError, ComfyDeployError) as error:
                if isinstance(error, OfflineError):
                    raise
                model.problem = error.message
                return
        model.size = asked.size
        model.sha256 = model.sha256 or file.sha256 or asked.sha256

    await asyncio.gather(*(ask(model) for model in found.wanted))


async def fetch(found: Plan, transfers: Transfers, machine: Machine) -> None:
    """Queue the downloads of missing models, except those that are queued already."""
    if not found.wanted:
        return
    transfers.fetching.require("The model")
    folders = await machine.folders()
    if folders.base is None:
        raise NotFoundError(
            "The folders of this ComfyUI are not known here, so no model can be put into them.",
            extra={"hint": "Set comfyui_path to its directory, if it is on this machine."},
        )
    for model in found.wanted:
        try:
            file = await transfers.linked(model.url or "")
            target = await asyncio.to_thread(_place, folders, model)
            model.transfer = await transfers.download(
                file, target, model.sha256, machine.id, untrusted=True
            )
            model.state = "fetching"
        except ConflictError:
            model.refuse("another file is being downloaded to that name")
        except (ComfyDeployError, TransferError) as error:
            model.refuse(error.message)


def only(found: Plan, names: Iterable[str]) -> None:
    """Reduce a plan to the models with these names, including listed models that are not used."""
    chosen = set(names)
    known = {model.name for model in found.models}
    for name in chosen - known:
        text = f"the workflow has no model {name!r}"
        raise InvalidRequestError.of_field("models", text, candidates=sorted(known))
    found.models = [model for model in found.models if model.name in chosen]
    for model in found.models:
        if model.state == "unused":
            model.state = "missing"


def _place(folders: Folders, model: ModelFile) -> Path:
    assert model.folder is not None
    return place(folders, model.folder, model.name)


def _named(
    workflow_api: dict[str, Any] | None, workflow: dict[str, Any] | None
) -> tuple[list[ListedModel], set[str]]:
    return listed_models(workflow), {_base(name) for name in chosen_names(workflow, workflow_api)}


def _examine(
    listed: list[ListedModel],
    used: set[str],
    missing: list[dict[str, Any]],
    present: Mapping[str, Collection[str]],
    folders: Folders | None,
    sites: Collection[str],
) -> list[ModelFile]:
    """Return the models of a workflow, each with its state."""
    there = {folder: frozenset(names) for folder, names in present.items()}
    models = _combine(listed, missing)
    for model, entry in models[: MAX_MODELS + 1]:
        if entry is not None:
            _check(model, entry, there.keys(), sites)
        first, _, rest = (model.folder or "").partition("/")
        if (f"{rest}/{model.name}" if rest else model.name) in there.get(first, ()):
            model.state, model.problem = "present", None
        elif model.state == "missing" and model.url is None:
            model.state = "no_link"
        elif model.state == "missing" and not model.nodes and _base(model.name) not in used:
            model.state = "unused"
        elif model.state == "missing" and folders is not None:
            try:
                _place(folders, model)
            except ComfyDeployError as error:
                model.refuse(error.message)
    return [model for model, _ in models]


def _combine(
    listed: list[ListedModel], missing: list[dict[str, Any]]
) -> list[tuple[ModelFile, ListedModel | None]]:
    """Combine the models that a workflow lists with those that its loaders lack."""
    by_name = {entry.name: entry for entry in reversed(listed)}
    models: dict[tuple[str, str | None], tuple[ModelFile, ListedModel | None]] = {}
    for lack in missing:
        name = lack["name"].replace("\\", "/")
        listing = by_name.get(lack["name"]) or by_name.get(_base(name))
        folder = lack["folder"]
        if folder is None and listing is not None:
            folder = _folder(listing)
        model, _ = models.setdefault((name, folder), (ModelFile(name, folder), listing))
        model.nodes.append({"node_id": lack["node_id"], "input": lack["input"]})
    found = {(each.name, each.folder) for _, each in models.values() if each is not None}
    for each in listed:
        if (each.name, each.folder) not in found:
            key = (each.name, _folder(each))
            models.setdefault(key, (ModelFile(*key), each))
    return list(models.values())


def _check(
    model: ModelFile, listed: ListedModel, folders: Collection[str], sites: Collection[str]
) -> None:
    """Copy the properties of a listed model; refuse the model if one of them is invalid."""
    model.url = listed.url
    suffix = PurePosixPath(listed.name).suffix.lower()
    problem = None
    if not _is_plain(listed.name) or len(listed.name.encode()) > MAX_NAME:
        problem = "its name is not the plain name of a file"
    elif suffix not in SUFFIXES:
        problem = f"{suffix or 'a file without suffix'} is not a type of model file"
    elif not all(map(_is_plain, model.name.split("/"))):
        problem = f"the loader's {model.name!r} is not the name of a file in its folder"
    elif model.folder is None:
        problem = "the workflow does not say into which folder it goes"
    elif not all(map(_is_plain, model.folder.split("/"))):
        problem = f"{model.folder!r} is not the name of a folder under models"
    elif model.folder.split("/")[0] not in folders:
        problem = f"this ComfyUI has no model folder {model.folder.split('/')[0]!r}"
    elif listed.url is not None:
        problem = _link_problem(listed.url, sites)
    sha256 = listed.sha256
    is_hash = sha256 is not None and re.fullmatch("[0-9a-f]{64}", sha256) is not None
    if problem is None and sha256 and listed.url is not None and not is_hash:
        problem = "its hash is not a SHA-256 in hexadecimal"
    if problem is not None:
        model.refuse(problem)
    elif is_hash:
        model.sha256 = sha256
    elif listed.hash:
        model.problem = f"its hash is of the type {listed.hash_type}, which is not supported"


def _link_problem(url: str, sites: Collection[str]) -> str | None:
    too_long = f"the link is longer than {MAX_URL} characters"
    return too_long if len(url) > MAX_URL else objection(url, sites)


def _folder(listed: ListedModel) -> str | None:
    """Return the folder of a listed model, by its present name."""
    if listed.folder is None:
        return None
    first, slash, rest = listed.folder.removeprefix("models/").partition("/")
    return f"{LEGACY_NAMES.get(first, first)}{slash}{rest}"


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _is_plain(name: str) -> bool:
    """Return whether a name is the name of a single file or folder, and not hidden."""
    plain = name.isprintable() and name == name.strip() and not {"/", "\\", ":"} & {*name}
    encodable = name.encode("utf-8", "replace").decode() == name
    return plain and encodable and not name.startswith(".") and name != ""
