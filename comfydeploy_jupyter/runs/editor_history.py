"""Reads the prompts of ComfyUI's editor in ComfyUI's history."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..comfyui.client import OWN_PROMPT
from ..graphs.formats import inputs_of, is_link
from ..graphs.seeds import SeedMode, apply_seeds
from ..graphs.structure import structure_of
from ..util import responses
from ..util.json_stream import dumps

MOST_INPUTS = 2000  # values of a graph that its run has as inputs
LONGEST_INPUT = 10_000  # characters of such a value


class EditorPrompt(NamedTuple):
    """A prompt that ComfyUI's editor has queued, and that has ended.

    Attributes
    ----------
    prompt_id : str
        Its id.
    number : float or None
        Its number in the queue.
    client_id : str
        The WebSocket session of the editor.
    queued_at : float or None
        When it was queued, s since 1970; ComfyUI before 0.3.76 does not report it.
    prompt, workflow : bytes
        Its graph in API format and in UI format, as JSON.
    structure : str
        Identifies the workflow independently of its values.
    inputs : dict
        The values in the graph, by ``"<node id>.<input>"``.
    seeds : dict of str to int
        The seeds among them.
    outcome : dict
        ``outputs`` and ``status`` of the history.
    """

    prompt_id: str
    number: float | None
    client_id: str
    queued_at: float | None
    prompt: bytes
    workflow: bytes
    structure: str
    inputs: dict[str, Any]
    seeds: dict[str, int]
    outcome: dict[str, Any]


def read_prompts(text: bytes, known: frozenset[str]) -> tuple[list[str], list[EditorPrompt]]:
    """Return the ids of the prompts in a part of a history, and those of the editor among them.

    Only the editor adds the workflow in UI format to a prompt; so does this package, which marks
    its prompts.

    Parameters
    ----------
    text : bytes
        The response to ``GET /history``.
    known : frozenset of str
        Ids of prompts that need not be read.

    Returns
    -------
    tuple
        All ids and the prompts of the editor that are not known, both oldest first. What is not as
        expected is left out.

    Raises
    ------
    ValueError
        If the text is not JSON.
    """
    found: Any = responses.loads(text)
    entries = found if isinstance(found, dict) else {}
    prompts = (
        _read(prompt_id, entry) for prompt_id, entry in entries.items() if prompt_id not in known
    )
    return list(entries), [prompt for prompt in prompts if prompt is not None]


def _read(prompt_id: str, entry: Any) -> EditorPrompt | None:
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(prompt, list) or len(prompt) < 4:
        return None
    number, _, graph, extra = prompt[:4]
    if not isinstance(graph, dict) or not isinstance(extra, dict) or OWN_PROMPT in extra:
        return None
    if not all(isinstance(node, dict) for node in graph.values()):
        return None
    embedded = extra.get("extra_pnginfo")
    workflow = embedded.get("workflow") if isinstance(embedded, dict) else None
    if not isinstance(workflow, dict) or not isinstance(entry.get("status"), dict):
        return None
    queued = extra.get("create_time")
    is_number = isinstance(number, (int, float)) and abs(number) < 2**53
    return EditorPrompt(
        prompt_id,
        number if is_number else None,
        str(extra.get("client_id") or ""),
        queued / 1000 if isinstance(queued, (int, float)) and 0 < queued < 1e13 else None,
        dumps(graph).encode(),
        dumps(workflow).encode(),
        structure_of(graph),
        _values_of(graph),
        apply_seeds(graph, SeedMode.SAVED).seeds,
        {"outputs": entry.get("outputs"), "status": entry["status"]},
    )


def _values_of(graph: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the values in a graph that are no links, without those that are as long as files."""
    values = {
        f"{node_id}.{name}": value
        for node_id, node in graph.items()
        for name, value in inputs_of(node).items()
        if not is_link(value)
        and (not isinstance(value, (str, list, dict)) or len(dumps(value)) <= LONGEST_INPUT)
    }
    return values if len(values) <= MOST_INPUTS else {}
