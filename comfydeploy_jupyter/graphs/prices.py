"""What a run of partner nodes costs, by the ``price_badge`` of their classes.

A badge is an expression in JSONata that ComfyUI's editor evaluates with the values of a node, and
shows on it. It comes from ComfyUI and its node packs, so what may be in it is limited: known
functions, no ranges, patterns that take linear time, a short time.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .definitions import NodeDefinitions
from .dependencies import only_what_is_needed, sources_of
from .formats import (
    class_of,
    inputs_of,
    is_link,
    mapping,
    objects,
    sequence,
    text_of,
    title_of,
    unwrapped,
)
from .loops import loop_bodies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .definitions import AnyDefinitions
    from .formats import Graph

MAX_EXPRESSION = 20_000  # characters; ComfyUI's own have up to 4,300
MAX_TEXT = 100_000  # characters of a value
MAX_SHOWN = 200  # characters of a text in a badge
TIME_LIMIT, MAX_DEPTH = 100, 100  # milliseconds, levels
_FUNCTIONS = frozenset(
    {
        *("abs", "append", "average", "boolean", "ceil", "contains", "count", "exists", "filter"),
        *("floor", "join", "keys", "length", "lookup", "lowercase", "map", "match", "max", "merge"),
        *("min", "not", "number", "reduce", "round", "sqrt", "string", "substring"),
        *("substringAfter", "substringBefore", "sum", "trim", "type", "uppercase"),
    }
)


class _Price(NamedTuple):
    text: str
    amounts: tuple[float, float] | None  # least and most in USD for one run; None if not known


def partner_nodes(graph: Graph, definitions: AnyDefinitions) -> dict[str, Any] | None:
    """Return what the partner nodes of a graph cost for a run; None if it executes none.

    ``usd`` has the least and the most that all together cost, as far as the prices are for a run:
    ``max`` is None if they may cost more. Cached nodes cost nothing.
    """
    nodes = NodeDefinitions.of(definitions)
    classes = {node_id: class_of(mapping(node)) for node_id, node in graph.items()}
    if not any(_is_partner(nodes, name) for name in set(classes.values())):
        return None
    graph = {node_id: dict(mapping(node)) for node_id, node in graph.items()}
    outputs = [node_id for node_id, name in classes.items() if nodes.is_output(name)]
    executed = only_what_is_needed(graph, outputs or [*classes])
    looped = loop_bodies({one: classes[one] for one in executed}, sources_of(executed))
    rows: list[dict[str, Any]] = []
    for node_id, node in executed.items():
        if _is_partner(nodes, classes[node_id]):
            price = _price_of(graph, node, nodes, classes[node_id])
            if node_id in looped:
                price = _Price(f"{price.text} in each iteration", None)
            rows.append(
                {
                    "node_id": node_id,
                    "class_type": classes[node_id],
                    "title": title_of(node) or nodes.title(classes[node_id]),
                    "text": price.text,
                    "usd": price.amounts and dict(zip(("min", "max"), price.amounts, strict=True)),
                }
            )
    if not rows:
        return None
    known = [row["usd"] for row in rows if row["usd"] is not None]
    least, most = (round(sum(each[end] for each in known), 6) for end in ("min", "max"))
    all_known = len(known) == len(rows)
    parts = [_money(least, most)] if known else []
    parts += [f"{row['title']}: {row['text']}" for row in rows if row["usd"] is None]
    return {
        "text": f"Partner nodes: {'; '.join(parts)}",
        "usd": {"min": least, "max": most if all_known else None} if known else None,
        "nodes": rows,
    }


def _is_partner(nodes: NodeDefinitions, class_type: str) -> bool:
    found = nodes.get(class_type)
    return found is not None and (found.api_node or bool(found.price_badge))


def _price_of(
    graph: Graph, node: Mapping[str, Any], nodes: NodeDefinitions, class_type: str
) -> _Price:
    found = nodes.get(class_type)
    badge = mapping(None if found is None else found.price_badge)
    expression = text_of(badge.get("expr"))
    if not expression or badge.get("engine", "jsonata") != "jsonata":
        return _Price("price unknown", None)
    inputs = inputs_of(node)
    needs = mapping(badge.get("depends_on"))
    widgets, unknown = {}, []
    for widget in objects(needs.get("widgets")):
        name = text_of(widget.get("name"))
        value = _constant(graph, inputs.get(name))
        if is_link(value):
            unknown.append(name)
        widgets[name] = _normal(unwrapped(value), text_of(widget.get("type")).upper())
    if unknown:
        return _Price(f"depends on {', '.join(unknown)}", None)
    linked = [name for name, value in inputs.items() if is_link(value)]
    names, groups = (
        [name for name in sequence(needs.get(kind)) if isinstance(name, str)]
        for kind in ("inputs", "input_groups")
    )
    context = {
        "widgets": widgets,
        "inputs": {name: {"connected": name in linked} for name in names},
        "inputGroups": {
            name: sum(each.startswith(f"{name}.") for each in linked) for name in groups
        },
    }
    shown = _shown(_evaluated(expression, json.dumps(context)))
    if shown is None and widgets:
        return _Price(f"depends on {', '.join(widgets)}", None)
    return shown or _Price("price unknown", None)


def _constant(graph: Graph, value: Any) -> Any:
    """Return the value of a primitive node that an input is linked to; else the input's value."""
    source = graph.get(value[0]) if is_link(value) else None
    if source is not None and class_of(source).startswith("Primitive"):
        return inputs_of(source).get("value", value)
    return value


def _normal(value: Any, kind: str) -> Any:
    """Return the value of a widget as expressions expect it."""
    if value is None:
        return None
    if kind in {"INT", "FLOAT"}:
        return _number(value)
    text = str(value)[:MAX_TEXT].strip().lower()
    if kind == "BOOLEAN":
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(text)
    return value if kind == "COMBO" and isinstance(value, (bool, int, float)) else text


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


@lru_cache(maxsize=1024)
def _evaluated(expression: str, context: str) -> Any:
    """Return the result of an expression; None if it has none that can be used."""
    try:
        return json.loads(expression)  # a price that does not depend on values
    except (ValueError, RecursionError):
        pass
    from jsonata.jsonata import Jsonata  # takes 0.3 s

    try:
        if len(expression) > MAX_EXPRESSION or ".." in expression:
            return None
        compiled = Jsonata(expression, regex_engine=_linear_pattern)
        known = Jsonata.static_frame.bindings
        if {*re.findall(r"\$(\w+)", expression)} & {*known} - _FUNCTIONS:
            return None
        frame = compiled.create_frame()
        frame.set_runtime_bounds(TIME_LIMIT, MAX_DEPTH)
        return compiled.evaluate(json.loads(context), frame)
    except Exception:  # of any type: the expression is not of this package
        return None


def _linear_pattern(pattern: str, flags: Any) -> re.Pattern[str]:
    if re.search(r"[*+?{]", pattern):
        raise ValueError("a pattern that may take long")
    given = re.IGNORECASE if flags.case_insensitive else 0
    return re.compile(pattern, given | (re.MULTILINE if flags.multiline else 0))


def _shown(result: Any) -> _Price | None:
    """Return a result of an expression as the editor shows it, in USD."""
    result = mapping(result)
    kind = result.get("type", "usd")
    layout = mapping(result.get("format"))
    if kind == "text" and isinstance(result.get("text"), str):
        return _Price(result["text"][:MAX_SHOWN], None)
    values = {
        "usd": [result.get("usd")],
        "range_usd": [result.get("min_usd"), result.get("max_usd")],
        "list_usd": sequence(result.get("usd"))[:100],
    }.get(str(kind), [None])
    amounts = [number for value in values if (number := _number(value)) is not None]
    if not amounts or len(amounts) != len(values):
        return None
    suffix, note = (text_of(layout.get(name))[:MAX_SHOWN] for name in ("suffix", "note"))
    about = "about " if layout.get("approximate") else ""
    if kind == "list_usd":
        separator = text_of(layout.get("separator"))[:MAX_SHOWN] or "/"
        money = separator.join(f"${_digits(amount)}" for amount in amounts)
    else:
        money = _money(amounts[0], amounts[-1])
    amounts = [round(amount, 6) for amount in amounts]
    text = f"{about}{money}{suffix}{f' {note}' if note else ''}"
    for_a_run = kind != "list_usd" and suffix.lower() in {"", "/run"}
    return _Price(text, (min(amounts), max(amounts)) if for_a_run else None)


def _money(least: float, most: float) -> str:
    low, high = _digits(least), _digits(most)
    return f"${low}" if low == high else f"${low} to ${high}"


def _digits(amount: float) -> str:
    """Return an amount with cents, and with more digits if it is small."""
    exact = f"{amount:.4f}".rstrip("0")
    return f"{amount:,.2f}" if amount >= 1 or len(exact.partition(".")[2]) <= 2 else exact
