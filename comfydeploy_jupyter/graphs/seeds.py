"""The seeds of a run, and those of the next run."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, TypeAlias

from .definitions import CONTROL, AnyDefinitions, Input, NodeDefinitions
from .formats import CONTROLS, AnyGraph, Graph, UIGraph, class_of, copy_graph, inputs_of, sequence
from .ui import FROM_OUTSIDE, PRIMITIVE, AnySaved, SavedGraph, SavedNode, SavedWorkflow

MAX_SEED = 2**53 - 1
"""The largest seed that is drawn. JavaScript, which editors, browsers and widgets use, has exact
integers only up to this one; a larger seed would be changed and its picture could not be made
again."""

SEED_NAMES = ("seed", "noise_seed")
_EXTERNAL_SEED = "ComfyUIDeployExternalSeed"
_CONTROL_LIMIT = 2**50
# Smaller limits than these classes declare. Source: the ComfyUI Deploy node 2.3.10
# (custom_routes.py): the first has its seed as int32, for the second it draws eight digits.
_CLASS_LIMITS = {"SONICSampler": 2**31 - 1, "PromptExpansion": 10**8 - 1}


class SeedMode(str, Enum):
    """The ways to choose the seeds of a workflow."""

    SAVED = "saved"
    AUTO = "auto"
    RANDOM = "random"


@dataclass(frozen=True)
class Seeds:
    graph: Graph  # the graph to run
    seeds: dict[str, int]  # all seeds of the graph, by ``"<node id>.<input>"``
    # mode ``auto``: the seeds that the editor would show after this run, except those that it would
    # draw
    next_seeds: dict[str, int]


def apply_seeds(
    graph: AnyGraph,
    mode: SeedMode,
    *,
    given: Collection[tuple[str, str]] = frozenset(),
    ui: AnySaved | None = None,
    node_form: bool = False,
    rng: random.Random | None = None,
    definitions: AnyDefinitions = None,
) -> Seeds:
    """Choose the seeds of a graph: keep them, draw new ones, or do what the editor would do."""
    # Seeds are the inputs ``seed`` and ``noise_seed`` that are no links, also those of an option of
    # a dynamic combo (``"model.seed"``). With ``definitions``, integers with the editor's *control
    # after generate*, such as the value of a ``PrimitiveInt``, are seeds, too; they change in mode
    # ``AUTO`` only. Links and inputs in ``given`` never change. ``SAVED`` keeps all; ``RANDOM``
    # draws all, except with ``node_form`` those that are ``fixed`` in ``ui`` (as requests of the
    # ComfyUI Deploy node do); ``AUTO`` follows the control-after-generate of each seed in ``ui``.
    # An External Seed node whose ``default_value`` is not within ``min_value`` … ``max_value``
    # draws a seed when it runs. It is drawn here instead, in every mode, so that ``seeds`` has it.
    definitions = NodeDefinitions.of(definitions)
    rng = rng or random.SystemRandom()
    result = copy_graph(graph)
    seeds: dict[str, int] = {}
    next_seeds: dict[str, int] = {}
    drawn: dict[tuple[str, int, int], int] = {}
    follow_ui = mode is SeedMode.AUTO or (mode is SeedMode.RANDOM and node_form)
    saved = SavedWorkflow.of(ui) if ui is not None and follow_ui else None
    for node_id, node in result.items():
        class_type, inputs = class_of(node), inputs_of(node)
        if class_type == _EXTERNAL_SEED:
            seed = draw_external_seed(inputs, rng)
            if seed is not None:
                inputs["default_value"] = seeds[f"{node_id}.default_value"] = seed
            continue
        specs = definitions.declared(class_type, inputs)
        controlled = _controlled(specs, inputs)
        for name in dict.fromkeys([*controlled, *SEED_NAMES, *filter(_is_seed, inputs)]):
            spec = specs.get(name)
            if isinstance(inputs.get(name, []), list) or (spec and spec.type != "INT"):
                continue
            key, value = f"{node_id}.{name}", _as_int(inputs[name])
            word = owner = ""
            if saved is not None:
                word, owner = _find_control(saved, node_id, class_type, name, value, controlled)
            is_given = (node_id, name) in given
            random_mode = mode is SeedMode.RANDOM and _is_seed(name) and word != "fixed"
            followed = mode is not SeedMode.RANDOM and word == "randomize"
            draw = not is_given and (random_mode or followed)
            if draw:
                low, high = _bounds(class_type, spec)
                source = ((owner if mode is SeedMode.AUTO else "") or key, low, high)
                if source not in drawn:
                    drawn[source] = rng.randint(low, high)
                inputs[name] = value = drawn[source]
            elif value is not None and mode is SeedMode.AUTO and word and not is_given:
                next_seeds[key] = _next_seed(value, word, spec)
            if value is not None and (name.endswith("seed") or word == "randomize"):
                seeds[key] = value
    return Seeds(result, seeds, next_seeds)


def needs_definitions(
    graph: AnyGraph,
    mode: SeedMode,
    *,
    given: Collection[tuple[str, str]] = frozenset(),
    ui: UIGraph | None = None,
) -> bool:
    """Return whether `apply_seeds` would use ``definitions``: to draw a seed, or for the next."""
    # Parameters are those of `apply_seeds`.
    if mode is SeedMode.RANDOM:
        return any(
            _is_seed(name) and not isinstance(value, list) and (node_id, name) not in given
            for node_id, node in graph.items()
            for name, value in inputs_of(node).items()
        )
    if mode is SeedMode.SAVED or ui is None:
        return False
    return any(
        _word(value) not in ("", "fixed")
        for graph in SavedWorkflow(ui).graphs()
        for node in graph.every
        for value in node.stored_values
    )


def _is_seed(name: str) -> bool:
    """Return whether an input has the name of a seed, also in an option of a dynamic combo."""
    return name.rpartition(".")[2] in SEED_NAMES


def draw_external_seed(inputs: Mapping[str, Any], rng: random.Random) -> int | None:
    """Return the seed of an External Seed node; draw one if its value is out of range."""
    # The range is limited to 1 … 999999999999999, and its ends are swapped if they are in the wrong
    # order (ComfyUI Deploy node 2.3.10 external_seed.py). None if an input is a link or no number.
    limit = 999_999_999_999_999
    wanted = _as_int(inputs.get("default_value", -1))
    low = _as_int(inputs.get("min_value", 1))
    high = _as_int(inputs.get("max_value", 4294967295))
    if wanted is None or low is None or high is None:
        return None
    low, high = sorted((max(1, low), min(limit, high)))
    return wanted if low <= wanted <= high else rng.randint(low, high)


def _controlled(specs: Mapping[str, Input], inputs: Mapping[str, Any]) -> list[str]:
    """Return the inputs for which the editor has a control, in the order of the widgets."""
    # These are INTs with the flag, and those named seed or noise_seed without it (frontend 1.32.9).
    if not specs:
        return [name for name in inputs if name in SEED_NAMES]
    widgets = {
        name: spec.options
        for name, spec in specs.items()
        if spec.type == "INT" and not spec.options.get("forceInput")
    }
    return [name for name, options in widgets.items() if options.get(CONTROL, name in SEED_NAMES)]


def _find_control(
    saved: SavedWorkflow,
    node_id: str,
    class_type: str,
    name: str,
    value: int | None,
    controlled: Sequence[str],
) -> tuple[str, str]:
    """Return the control of a seed, and the PrimitiveNode if that sets one for several nodes."""
    path = saved.path(node_id)
    if not path:
        return "", ""
    primitive = _feeding_primitive(path, name)
    if primitive is not None:
        containers, node = primitive
        return _word_for(node.stored, name, value, [name]), f"{containers}:{node.id}"
    node = path[-1][0]
    if len(path) == node_id.count(":") + 1 and node.type != class_type:
        return "", ""
    promoted = _promoted_word(path) if len(controlled) == 1 else ""
    return promoted or _word_for(node.stored, name, value, controlled), ""


def _word_for(values: object, name: str, value: int | None, controlled: Sequence[str]) -> str:
    """Read the control of one seed from a node's ``widgets_values``."""
    # In a list, the control follows its seed. The n-th such pair belongs to the n-th input with a
    # control. If their numbers differ (an edited graph, a group node), the pair with the same value
    # is used.
    if isinstance(values, Mapping):
        return _word(values.get(CONTROL))
    pairs = [
        (seed, _word(word))
        for seed, word in pairwise(sequence(values))
        if _word(word) and isinstance(seed, int) and not isinstance(seed, bool)
    ]
    if name in controlled and len(pairs) == len(controlled):
        return pairs[controlled.index(name)][1]
    words = {word for seed, word in pairs if seed == value}
    return words.pop() if len(words) == 1 else ""


def _word(value: object) -> str:
    return value if isinstance(value, str) and value in CONTROLS else ""


_Path: TypeAlias = "Sequence[tuple[SavedNode, SavedGraph]]"


def _promoted_word(path: _Path) -> str:
    """Read the control on the node of a subgraph, which is used instead of the inner one."""
    if len(path) < 2:
        return ""
    host, wanted = path[-2][0], (path[-1][0].id, CONTROL)
    words = dict(enumerate(sequence(host.stored)))
    found = [words.get(place) for place, proxy in host.proxies.items() if proxy == wanted]
    return _word(next((word for word in found if isinstance(word, str)), ""))


def _feeding_primitive(path: _Path, name: str) -> tuple[str, SavedNode] | None:
    """Return the PrimitiveNode that an input is linked to, and the ids of its subgraph nodes."""
    slot = path[-1][0].slot(name)
    for depth in range(len(path) - 1, -1, -1):
        graph = path[depth][1]
        source = graph.source(slot)
        if source is None:
            return None
        if source.origin != FROM_OUTSIDE:
            containers = ":".join(outer.id for outer, _ in path[:depth])
            node = graph.nodes.get(source.origin)
            return (containers, node) if node and node.type == PRIMITIVE else None
        if not depth or not 0 <= source.origin_slot < len(graph.inputs):
            return None
        outside = graph.inputs[source.origin_slot].name
        slots = path[depth - 1][0].inputs
        slot = next((each for each in slots if each.name == outside), None)
    return None


def _next_seed(value: int, word: str, spec: Input | None) -> int:
    """Return the seed that the editor shows next: one step further, within min, max and ±2**50."""
    # In frontend 1.32.9, ``increment-wrap`` has an effect on combos only.
    options = spec.options if spec else {}
    step = _as_int(options.get("step")) or 1
    if word not in ("increment", "decrement"):
        return value
    value += step if word == "increment" else -step
    low = max(-_CONTROL_LIMIT, _or(_as_int(options.get("min")), 0))
    high = min(_CONTROL_LIMIT, _or(_as_int(options.get("max")), _CONTROL_LIMIT))
    return min(max(value, low), high)


def _bounds(class_type: str, spec: Input | None) -> tuple[int, int]:
    options = spec.options if spec else {}
    least = _or(_as_int(options.get("min")), 0)
    most = _or(_as_int(options.get("max")), MAX_SEED)
    low = max(0, least)
    high = min(MAX_SEED, most, _CLASS_LIMITS.get(class_type, MAX_SEED))
    return (low, high) if low <= high else (min(least, most), most)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _as_int(value: object) -> int | None:
    """Return a value as an integer, as ComfyUI's ``int()`` does; None for booleans and others."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None
