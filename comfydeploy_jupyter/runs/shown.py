"""Runs as a page shows them: a card in a list, and the outputs of one by node.

They are made from the reply about a run (`outputs.reply`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..comfyui.memory import ADVICE, is_out_of_memory
from ..graphs.formats import mapping, shown_title
from ..graphs.inputs import OUTPUT
from ..graphs.outputs import NodeFile, files_of, is_model, pairs_of, texts_of
from ..graphs.validation import complaints, failure_of
from ..util.media_types import is_hdr, is_picture, media_type
from .outputs import view_query
from .progress import NodeName, label_in, name_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .records import RunRecord

PICTURES = 24  # pictures on a card
INPUTS = 12  # changed inputs on a card
EXCERPT = 200  # characters of a value on a card
MAX_REASON = 20_000  # characters of a reason
WEB_ONLY = frozenset({"image/svg+xml"})
"""Pictures that browsers show and that have no small copy."""


def card(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a list shows of a run."""
    files = [file for output in body["outputs"].values() for file in files_of(output)]
    kinds = [_kind(file.filename) for file in files]
    # An EXR file has a small copy only where the server can make one.
    shown = [file for kind in ("image", "hdr") for file in files if _kind(file.filename) == kind]
    has_texts = any(True for output in body["outputs"].values() for _ in texts_of(output))
    medium = next((kind for kind in ("video", "audio", "3d") if kind in kinds), "")
    given = body.get("inputs", {}).items()
    inputs = [f"{name}: {_input(value)}"[:EXCERPT] for name, value in given]
    return {
        **_facts(body),
        "pictures": [shown_file(file, body["machine"]) for file in shown[:PICTURES]],
        "medium": medium or ("text" if has_texts else "file" if files else ""),
        "inputs": inputs[:INPUTS],
        "why": (_failure(body, {}) or body.get("live_status", ""))[:MAX_REASON],
    }


def _input(value: Any) -> Any:
    """Return the value of an input in words, if it is an output of another run."""
    output = value.get(OUTPUT) if isinstance(value, dict) else None
    if not isinstance(output, dict):
        return value
    return " ".join(filter(None, (output.get("file"), f"of run {output.get('run')}")))


def details(body: Mapping[str, Any], names: Mapping[str, NodeName]) -> dict[str, Any]:
    """Return everything that a page shows of a run; ``names``: those of the nodes of its graph."""
    error = mapping(body["error"])
    times = sorted(body["node_times"].items(), key=lambda each: -each[1])
    nodes = sorted(body["outputs"].items(), key=lambda each: _by_number(each[0]))
    return {
        **_facts(body),
        "why": _failure(body, names)[:MAX_REASON],
        "traceback": str(error.get("traceback") or ""),
        "no_memory": is_out_of_memory(str(error.get("type")), str(error.get("message"))),
        "left_out": list(complaints(body["node_errors"], partial(label_in, names))),
        "cached": len(body["cached_nodes"]),
        "outputs": [
            {
                **_node(node, names),
                "files": [shown_file(file, body["machine"]) for file in files_of(output)],
                "pairs": [list(pair) for pair in pairs_of(output)],
                "texts": list(texts_of(output)),
            }
            for node, output in nodes
        ],
        "times": [{**_node(node, names), "seconds": seconds} for node, seconds in times],
    }


def open_run(record: RunRecord, live: Mapping[str, Any], position: int | None) -> dict[str, Any]:
    """Return what is shown of a run that has not ended; ``live``: what it does, or why it waits."""
    same = ("prompt_id", "status", "created_at", "started_at", "machine", "metadata", "cancelling")
    doing = ("progress", "current_node", "current_class", "iterations", "time_left")
    return {
        **{name: getattr(record, name) for name in same},
        "workflow_id": record.workflow_id or "",
        "batch_id": record.batch or "",
        "point": record.point or 0,
        "from_editor": record.from_editor,
        "position": position,
        "live_status": "Being cancelled" if record.cancelling else live["live_status"],
        **{name: live.get(name) for name in doing},
        **{name: live.get(name, 0) for name in ("step", "steps")},
    }


def _facts(body: Mapping[str, Any]) -> dict[str, Any]:
    same = ("prompt_id", "status", "created_at", "machine")
    return {
        **{name: body[name] for name in same},
        "seconds": body["execution_time"],
        # 20 digits are not exact in a browser
        "seeds": {name: str(seed) for name, seed in body["seeds"].items()},
        "metadata": body.get("metadata", {}),
        "pinned": body.get("pinned", False),
        "starred": body.get("starred", False),
        "note": body.get("note", ""),
        "from_editor": body.get("from_editor", False),
        "workflow_id": body.get("workflow_id", ""),
    }


def _node(node: str, names: Mapping[str, NodeName]) -> dict[str, Any]:
    name = name_in(names, node) or NodeName("", None)
    title = shown_title(name.title) or name.class_type or f"node {node}"
    return {"node": node, "title": title, "class_type": name.class_type}


def _failure(body: Mapping[str, Any], names: Mapping[str, NodeName]) -> str:
    """Return why a run failed, without advice for programs: a page has a button for it."""
    text = failure_of(mapping(body["error"]), partial(label_in, names))
    return text.replace(f" {ADVICE}.", "").strip()


def shown_file(file: NodeFile, machine: str) -> dict[str, Any]:
    """Return an output file, as pages get it."""
    kind = _kind(file.filename)
    # of pictures, the server makes copies itself
    is_shown = kind not in {"image", "hdr"} and file.preview_id != file.id
    return {
        "name": file.filename,
        "kind": kind,
        "query": view_query(file.filename, file.subfolder, file.type, machine),
        "small": media_type(file.filename) not in WEB_ONLY,
        "preview": file.preview_id if is_shown else "",
        "width": file.width,
        "height": file.height,
    }


def _kind(name: str) -> str:
    """Return ``image``, ``hdr``, ``video``, ``audio``, ``3d`` or ``file``, judging by the name."""
    if is_hdr(name):
        return "hdr"
    mime = media_type(name) or ""
    if is_picture(name) or mime in WEB_ONLY:
        return "image"
    if is_model(name):
        return "3d"
    kind = mime.partition("/")[0]
    return kind if kind in {"video", "audio"} else "file"


def _by_number(node: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts the ids of nodes as numbers, and texts after them."""
    parts: Iterator[str] = iter(node.split(":"))
    return [(not part.isdecimal(), len(part) * part.isdecimal(), part) for part in parts]
