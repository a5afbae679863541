"""The models of a ComfyUI as in snapshots: size, hash, and source."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, ForbiddenPathError, NotFoundError
from ..files.models import ModelListing
from ..graphs.models import model_links
from ..util import worker
from ..util.secrets import clean_url
from ..util.unparsed import is_large
from .snapshot import ModelFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.folders import Folders
    from ..files.hashes import Hasher
    from ..transfers.queue import Transfers
    from ..workflows.local import LocalWorkflows

_WORKFLOWS = 200  # the newest workflows, which are searched for links to models
_ADDRESS = re.compile(r"https?://\S+")
_GIB = 1024**3


class ModelFacts:
    """Looks up hashes and sources of model files."""

    def __init__(self, hasher: Hasher, transfers: Transfers, workflows: LocalWorkflows) -> None:
        self._hasher = hasher
        self._transfers = transfers
        self._workflows = workflows

    async def read(
        self, folders: Folders, *, hash_all: bool, report: Callable[[str], None]
    ) -> tuple[list[ModelFile], list[str]]:
        """Return the models of a ComfyUI, and warnings about missing sources or hashes."""
        entries = await ModelListing(folders).models()
        hashes = await self._hasher.known([entry["path"] for entry in entries])
        missing = [entry for entry in entries if entry["path"] not in hashes]
        warnings: list[str] = []
        if hash_all:
            warnings = await self._hash(folders, missing, hashes, report)
        elif missing:
            share = f"{len(missing)} of {len(entries)}"
            warnings = [f"{share} models have no known SHA-256; include_models computes it"]
        origins, links = await self._transfers.origins(), await self._links()
        sources = await asyncio.to_thread(_sources, entries, origins, links)
        models = await asyncio.to_thread(_models, entries, hashes, sources)
        return models, warnings

    async def _hash(
        self,
        folders: Folders,
        missing: list[dict[str, Any]],
        hashes: dict[str, str],
        report: Callable[[str], None],
    ) -> list[str]:
        warnings = []
        for number, entry in enumerate(missing, 1):
            shown = f"{entry['folder']}/{entry['name']}"
            size = entry["size"] / _GIB
            report(f"Hashing {shown} ({number} of {len(missing)}, {size:.1f} GiB)")
            try:
                path = await asyncio.to_thread(Path(entry["path"]).resolve)
                hashes[entry["path"]] = (await self._hasher.hash(folders, path)).sha256
            except (ConflictError, ForbiddenPathError, NotFoundError) as error:
                warnings.append(f"{shown} has no SHA-256: {error.message}")
        return warnings

    async def _links(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for workflow in await self._workflows.workflows(limit=_WORKFLOWS):
            version = await self._workflows.version(workflow["workflow_id"])
            graph = version["workflow"]
            links = await worker.compute(model_links, graph, large=is_large(graph))
            for name, link in links.items():
                found.setdefault(name, link.url)
        return found


def _sources(
    entries: list[dict[str, Any]], origins: Mapping[str, str], links: Mapping[str, str]
) -> dict[str, str]:
    """Return the sources of models by path: from downloads, else from links in workflows."""
    sources = {}
    for entry in entries:
        path = entry["path"]
        source = origins.get(path) or origins.get(os.path.realpath(path))
        source = clean_url(source or links.get(entry["name"].rsplit("/", 1)[-1]) or "")
        if _ADDRESS.fullmatch(source):
            sources[path] = source
    return sources


def _models(
    entries: list[dict[str, Any]], hashes: Mapping[str, str], sources: Mapping[str, str]
) -> list[ModelFile]:
    return [
        ModelFile(
            name=entry["name"],
            folder=entry["folder"],
            size=entry["size"],
            sha256=hashes.get(entry["path"]),
            source=sources.get(entry["path"]),
        )
        for entry in entries
    ]
