"""The error objects of ComfyUI's replies to prompts (ComfyUI execution.py, ``validate_inputs``).

Also the sentences about them for people.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import printable
from .model_files import SUFFIXES, model_folder
from .node_checks import split_annotated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .node_rules import InputRule

Issue: TypeAlias = dict[str, Any]
"""``{"type", "message", "details", "extra_info"}``."""

NOT_HERE = "is not on this ComfyUI"
OF_PROMPTS = frozenset(
    {
        "invalid_prompt",
        "missing_node_type",
        "prompt_invalid",
        "prompt_no_outputs",
        "prompt_outputs_failed_validation",
        "prompt_unreadable",
    }
)
"""The types of error objects about whole prompts, which were not executed."""

MOST_NAMED = 8  # errors of one prompt that a message names

_FILE_CHECK = re.compile(r"\w+ - Invalid [\w ]+ file: (.+)", re.DOTALL)  # of `node_checks`
_NO_CLASS = re.compile(r"Cannot execute because node (.+) does not exist\.", re.DOTALL)
_NODE_ID = re.compile(r"Node ID '#(.+)'", re.DOTALL)
_LONG_LIST = re.compile(r"\(list of length (\d+)\)$")
_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def issue(kind: str, message: str, details: str, extra: Issue | None = None) -> Issue:
    """Return an error object."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def input_issue(kind: str, message: str, details: str, wanted: InputRule, value: Any) -> Issue:
    """Return an error object about the value of an input."""
    if isinstance(value, float) and not math.isfinite(value):
        value = _NOT_IN_JSON[str(value)]
    extra = {"input_name": wanted.name, "input_config": wanted.config, "received_value": value}
    return issue(kind, message, details, extra)


def type_mismatch(wanted: InputRule, received: Any, link: list[Any]) -> Issue:
    """Return the error object for a link between outputs and inputs of different types."""
    return issue(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{wanted.name}, received_type({received}) mismatch input_type({wanted.type})",
        {
            "input_name": wanted.name,
            "input_config": wanted.config,
            "received_type": received,
            "linked_node": link,
        },
    )


def sentence(error: Issue, class_type: str = "") -> str:
    """Return one of ComfyUI's error objects as a sentence for people."""
    return printable(_sentence(error, class_type))


def _sentence(error: Issue, class_type: str) -> str:
    details, extra = str(error.get("details") or ""), error.get("extra_info")
    facts = extra if isinstance(extra, dict) else {}
    name, value = facts.get("input_name"), facts.get("received_value")
    if error.get("type") == "value_not_in_list" and isinstance(name, str) and value is not None:
        options = _options_of(facts.get("input_config"))
        long = _LONG_LIST.search(details)
        if not isinstance(value, (list, dict)) and (options is not None or long is not None):
            number = int(long[1]) if options is None and long is not None else 0
            return not_offered(value, options or (), class_type, name, more=number)
    if error.get("type") == "custom_validation_failed":
        file = _FILE_CHECK.fullmatch(details)
        if file is not None:
            folder, path = split_annotated(file[1])
            return f"{_brief(path)} is not in the {folder} folder of this ComfyUI"
    missing = facts.get("class_type")
    if error.get("type") == "missing_node_type" and isinstance(missing, str):
        return f"this ComfyUI has no node class {_brief(missing)}"
    message = str(error.get("message") or "")
    if error.get("type") == "invalid_prompt" and (unknown := _NO_CLASS.fullmatch(message)):
        return f"this ComfyUI has no node class {_brief(unknown[1])}"
    return ": ".join(filter(None, (message, details)))


def complaints(node_errors: object, name: Callable[[str, str], str]) -> Iterator[str]:
    """Yield a sentence for each of the errors of nodes, with the name of the node."""
    for node_id, fault in node_errors.items() if isinstance(node_errors, dict) else ():
        if not isinstance(fault, dict):
            continue
        class_type = str(fault.get("class_type") or "")
        for error in fault.get("errors") or ():
            if isinstance(error, dict):
                yield f"node {name(str(node_id), class_type)}: {sentence(error, class_type)}"


def refusal(error: Issue, node_errors: object, name: Callable[[str, str], str]) -> str:
    """Return why ComfyUI refuses a prompt, in one line for people."""
    found = list(dict.fromkeys(complaints(node_errors, name)))
    if not found:
        text = sentence(error)
        node = _NODE_ID.fullmatch(str(error.get("details") or ""))
        known = node is not None and not text.endswith(node[0])
        found = [f"node {name(node[1], '')}: {text}" if node is not None and known else text]
    more = [f"and {len(found) - MOST_NAMED} more errors"] if len(found) > MOST_NAMED else []
    return " ".join("; ".join([*found[:MOST_NAMED], *more]).split("\n"))


def not_offered(
    value: object, options: Sequence[object], class_type: str, name: str, *, more: int = 0
) -> str:
    """Return the sentence about a value that is none of the options of a combo."""
    _, folder = model_folder(class_type, name, options)
    is_file = isinstance(value, str) and (folder or value.lower().endswith(SUFFIXES))
    if is_file or not (options or more):
        known = [option for option in options if isinstance(option, str)]
        known = known if len(known) <= 1000 else []  # a comparison takes time
        close = difflib.get_close_matches(str(value), known, n=3, cutoff=0.9)
        hint = f"; did you mean {' or '.join(map(_brief, close))}?" if close else ""
        return f"{_brief(str(value))} {NOT_HERE}{hint}"
    offered = ", ".join(map(value_text, options[:8])) + (", …" if len(options) > 8 else "")
    return f"must be one of {offered or f'its {more} options'}, not {value_text(value)}"


def value_text(value: object) -> str:
    """Return a value as JSON, shortened."""
    return _brief(json.dumps(value, ensure_ascii=False, default=str))


def _options_of(config: object) -> list[object] | None:
    """Return the options in the declaration of a combo, ``[options or "COMBO", {"options"}]``."""
    if not isinstance(config, (list, tuple)) or not config:
        return None
    options = config[0]
    if options == "COMBO" and len(config) > 1 and isinstance(config[1], dict):
        options = config[1].get("options")
    return list(options) if isinstance(options, (list, tuple)) else None


def _brief(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
