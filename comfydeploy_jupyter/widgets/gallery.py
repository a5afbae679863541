"""The outputs of a run, in a panel and in the saved notebook."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client.results import NAMED_FILES, beginning_of
from ..client.server import without_none
from ..client.text import counted
from ..display.page import View, in_thread, script
from ..errors import ComfyDeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client import OutputFile, Result
    from .base import Panel

KEPT_PICTURES = 24
"""How many pictures of a run the saved notebook has at most."""

KEPT_SIDE = 512
"""The longest side of each of them, pixels."""

LOG_LINES = 40
"""How many lines of ComfyUI's log are shown below a failed run."""

FREES_MEMORY = "comfy.free()"
"""Advice for a lack of memory contains this, see ``comfyui/memory.py`` of the server."""

# formats that browsers show and Pillow cannot make smaller
_WHOLE = frozenset({"image/svg+xml"})


class Gallery(View):
    """Shows one result: small copies of its pictures, and the originals on a click."""

    _esm = script("gallery")

    result = t.Dict().tag(sync=True)
    # whether a run has not ended; the result of an earlier one is grey then
    busy = t.Bool(False).tag(sync=True)

    def __init__(self, panel: Panel, reuse: Callable[[str], str]) -> None:
        self._reuse = reuse
        # ids of the nodes whose outputs the author of the workflow chose to show; empty
        # for all
        self.chosen: list[str] = []
        # the machine whose log is shown below a failed run; None for the default one
        self.machine: str | None = None
        super().__init__(panel)

    def show(self, result: Result) -> None:
        """Show a result in place of the last one."""
        self.result = view_state(result, self.chosen)

    def mark_outdated(self) -> None:
        """Mark the result as that of an earlier run, since another one is being started."""
        if self.result:
            plain = {"status": "", "title": "Earlier run", "problems": [], "failed": False}
            self.result = {**self.result, **plain}

    def clear(self) -> None:
        """Show no result."""
        self.result = {}

    @in_thread
    def _on_log(self, _: object) -> None:
        """Send the last lines of ComfyUI's log to the page."""
        try:
            fields = without_none({"machine": self.machine, "lines": LOG_LINES})
            text = "\n".join(self._panel.comfy.server.get("comfyui/log", **fields)["lines"])
        except ComfyDeployError as error:
            text = str(error)
        self.send({"kind": "log", "text": text or "The log is empty."})

    @in_thread
    def _on_free(self, _: object) -> None:
        try:
            text = str(self._panel.comfy.free(machine=self.machine))
        except ComfyDeployError as error:
            text = str(error)
        self.send({"kind": "freed", "text": text})

    @in_thread
    def _on_reuse(self, message: dict[str, Any]) -> None:
        self.send({"kind": "reused", "text": self._reuse(str(message["prompt_id"]))})


def view_state(result: Result, chosen: Sequence[str] = ()) -> dict[str, Any]:
    """Return a result as the script in the page takes it, without the content of files."""
    ranks = _ranks(result, chosen)

    def order(node_id: str) -> tuple[int, list[tuple[bool, int, str]]]:
        return ranks.get(node_id, -1), _by_number(node_id)

    files = sorted(result.files, key=lambda file: order(file.node_id))
    places = {id(file): place for place, file in enumerate(files)}
    texts = [
        {
            "node": node.short,
            "text": text,
            "beginning": beginning_of(text),
            "waits": ranks.get(node.id, 0) == len(chosen) > 0,
        }
        for node, text in sorted(result.texts_by_node, key=lambda each: order(each[0].id))
    ]
    facts = []
    if result.execution_time is not None:
        facts.append(f"{result.execution_time:.2f} s")
    if result.cached_nodes:
        facts.append(f"{counted(len(result.cached_nodes), 'node')} from the cache")
    problems = [result.failure] if result.failure else []
    if result.left_out:
        problems.append("\n".join(["Not executed by ComfyUI:", *result.left_out]))
    times = sorted(result.node_times.items(), key=lambda item: -item[1])
    return {
        "prompt_id": result.prompt_id,
        "status": result.status,
        "title": result.status.capitalize(),
        "facts": facts,
        "problems": problems,
        "traceback": str((result.error or {}).get("traceback") or ""),
        "failed": result.status == "failed",
        "no_memory": FREES_MEMORY in result.failure,
        "seeds": sorted({str(seed) for seed in result.seeds.values()}),
        "items": [
            {**_item(file), "waits": ranks.get(file.node_id, 0) == len(chosen) > 0}
            for file in files
        ],
        "pairs": [[places[id(a)], places[id(b)]] for a, b in result.pairs],
        "texts": texts,
        "times": [_time(result, node_id, seconds) for node_id, seconds in times],
        "reusable": True,
    }


def plain_form(result: Result) -> tuple[str, str]:
    """Return a result as HTML and as text for the saved notebook: small pictures, no URLs.

    It requests the pictures from the server, so call it in a thread.
    """
    parts = []
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    for file in pictures[:KEPT_PICTURES]:
        try:
            content = base64.b64encode(file.thumbnail(KEPT_SIDE)).decode()
        except ComfyDeployError:
            continue  # it was deleted, or is not a picture; its name is in the text
        parts.append(
            f'<img alt="{html.escape(file.filename, quote=True)}" '
            f'src="data:image/webp;base64,{content}" style="max-width:min(100%,384px);margin:0">'
        )
    shown = (
        '<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">'
        f"{''.join(parts)}</div>"
    )
    unnamed = result.files[NAMED_FILES:]  # not in the first line
    lines = [repr(result), *(file.filename for file in unnamed), *result.texts]
    return shown + result.to_html(files=False), "\n".join(lines)


def _ranks(result: Result, chosen: Sequence[str]) -> dict[str, int]:
    """Return the position of each node in the author's order; other nodes come last."""
    nodes = {file.node_id for file in result.files} | {n.id for n, _ in result.texts_by_node}
    ranks = {
        node: next(
            (rank for rank, own in enumerate(chosen) if node == own or node.startswith(f"{own}:")),
            len(chosen),
        )
        for node in nodes
    }
    return ranks if any(rank < len(chosen) for rank in ranks.values()) else {}


def _by_number(node_id: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts the ids of nodes as numbers, and texts after them."""
    parts = node_id.split(":")
    return [(not part.isdecimal(), len(part) * part.isdecimal(), part) for part in parts]


def _item(file: OutputFile) -> dict[str, Any]:
    return {
        "name": file.filename,
        "kind": "hdr" if file.is_hdr else file.medium,
        "query": file.query,
        "small": file.mime not in _WHOLE,
        "size": size_of(file),
    }


def size_of(file: OutputFile) -> list[int] | None:
    """Return the size of a picture or a video in pixels, as the scripts in the page take it."""
    return None if file.width is None or file.height is None else [file.width, file.height]


def _time(result: Result, node_id: str, seconds: float) -> dict[str, Any]:
    name = result.node_name(node_id)
    return {"label": name.short, "title": str(name), "seconds": round(float(seconds), 3)}
