"""What ComfyUI would answer to a prompt, from node definitions alone and without queueing it.

The rules are those of ComfyUI 0.3.75 (execution.py, ``POST /prompt``). First the whole prompt is
looked at, in its order, up to the first fault. Then each output node is judged, after everything
it depends on. Two things cannot be foretold: ComfyUI goes through the output nodes and through
the inputs of a node in the order of a set, where here it is the order of the prompt and of the
definitions; and the tracebacks in its answers, which are empty here. Numbers that JSON does not
have stand as text in ``received_value`` (``"-Infinity"``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .depth import too_deep
from .formats import is_link
from .model_files import model_folder, model_links, node_packs
from .node_checks import NODE_CHECKS, NodeCheck, split_annotated

FileExists = Callable[[str, str], bool]
"""``exists(folder, path)``: does ``path`` lead to something that exists, seen from the folder
``"input"``, ``"output"`` or ``"temp"``? ComfyUI takes absolute paths and ``..`` as they are."""

Issue = dict[str, Any]

# How deep ComfyUI gets before Python stops its recursion, output nodes having depth 1; and how much
# higher up the report of that finds room on the stack. Seen with Python 3.11; whatever else its
# server has on the stack shifts both by a few nodes.
_DEEPEST = 989
_DEEPEST_REPORT = 984
_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
_RECURSION = "maximum recursion depth exceeded while calling a Python object"

_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


@dataclass
class Validation:
    """What ComfyUI would answer, and what it would not tell.

    Attributes
    ----------
    valid : bool
        Whether ComfyUI would queue the prompt.
    error : dict or None
        ComfyUI's error object: ``type``, ``message``, ``details``, ``extra_info``.
    node_errors : dict
        By node id: ``errors``, ``dependent_outputs``, ``class_type``. Also a valid prompt can have
        them, for the outputs that would be left out.
    outputs : list
        Ids of the output nodes that would run.
    missing_nodes : list of dict
        Node classes that ComfyUI lacks: ``class_type``, ``node_ids``, and ``pack`` if known.
    missing_models : list of dict
        Model files that ComfyUI lacks: ``name``, ``folder`` (None if unknown), ``node_id``,
        ``input``, and ``url`` if known.
    warnings : list of str
        One sentence for each doubt: what only a node's code or a folder can decide, and what
        ComfyUI accepts although it will not work.
    raises : str or None
        Where ComfyUI answers 500 with no error object: the exception it meets.
    """

    valid: bool
    error: Issue | None = None
    node_errors: dict[Any, Issue] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    missing_nodes: list[Issue] = field(default_factory=list)
    missing_models: list[Issue] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    raises: str | None = None


class InputRule:
    """What ComfyUI checks of one declared input.

    Parameters
    ----------
    name : str
        Name of the input.
    definition : object
        Its entry in ``object_info``: a list of type and options.
    required : bool
        Whether it may not be absent.

    Attributes
    ----------
    type : object
        A type name, or the list of options.
    extra : object
        The options of the input, usually a dict.
    config : list
        Type and options, as errors show them.
    sound : bool
        False if the definition is so malformed that ComfyUI raises on looking at it.
    """

    __slots__ = (
        "bounded",
        "choices",
        "config",
        "convert",
        "definition",
        "extra",
        "high",
        "low",
        "name",
        "number",
        "required",
        "sound",
        "type",
    )

    def __init__(self, name: str, definition: Any, required: bool) -> None:
        self.name = name
        self.definition = definition
        self.required = required
        self.type: Any = None
        self.extra: Any = {}
        try:
            self.type, self.extra = self.read()
            self.sound = True
        except Exception:  # its kind matters only where a prompt uses the input
            self.sound = False
        self.config = [self.type, self.extra]
        self.convert = _CONVERSIONS.get(self.type) if isinstance(self.type, str) else None
        plain = isinstance(self.extra, dict)
        self.bounded = not plain or "min" in self.extra or "max" in self.extra
        self.choices: list[Any] | None = None
        if isinstance(self.type, list):
            self.choices = self.type
        elif self.type == "COMBO" and plain and isinstance(self.extra.get("options"), list):
            self.choices = self.extra["options"]
        self.low: Any = self.extra.get("min", -math.inf) if plain else None
        self.high: Any = self.extra.get("max", math.inf) if plain else None
        numeric = isinstance(self.low, (int, float)) and isinstance(self.high, (int, float))
        self.number = self.convert if numeric and self.convert in (int, float) else None

    def is_plainly_good(self, value: Any) -> bool:
        """Tell whether a literal is good beyond doubt: the short way for the usual ones."""
        if type(value) is self.number:
            return bool(self.low <= value <= self.high)
        if type(value) is not str or self.bounded:
            return False
        return self.convert is str if self.choices is None else value in self.choices

    def read(self) -> tuple[Any, Any]:
        """Return type and options of the definition, or raise what ComfyUI raises on it."""
        extra = self.definition[1] if len(self.definition) > 1 else {}
        if extra is None:
            raise AssertionError
        return self.definition[0], extra


class NodeRule:
    """What ComfyUI checks of one node class.

    Parameters
    ----------
    class_type : str
        Name of the class.
    info : mapping
        Its entry in ``object_info``.

    Attributes
    ----------
    inputs : tuple of InputRule
        The declared inputs, required ones first.
    returns : tuple, list or str
        Types of the outputs, in the kind of sequence that ComfyUI has (its exceptions name it).
    own : NodeCheck or None
        The check that the class itself makes, where it is one of ComfyUI's.
    foreign : bool
        Whether the class is not ComfyUI's own, so that it may have a check unknown here.
    models : tuple of (InputRule, str or None)
        The inputs that name model files, with their folder.
    """

    __slots__ = (
        "class_type",
        "foreign",
        "inputs",
        "is_output",
        "models",
        "own",
        "returns",
        "schema3",
    )

    def __init__(self, class_type: str, info: Mapping[str, Any]) -> None:
        self.class_type = class_type
        self.is_output = bool(info.get("output_node"))
        self.foreign = str(info.get("python_module", "")).startswith("custom_nodes")
        self.own: NodeCheck | None = None if self.foreign else NODE_CHECKS.get(class_type)
        # only classes of the third schema show all three
        self.schema3 = info.keys() >= {"api_node", "deprecated", "experimental"}
        returns = info.get("output", [])
        self.returns: Any = (
            tuple(returns) if isinstance(returns, list) and not self.schema3 else returns
        )
        declared: dict[str, InputRule] = {}
        sections = info.get("input")
        for section in ("required", "optional"):
            entries = sections.get(section) if isinstance(sections, dict) else None
            for name, definition in entries.items() if isinstance(entries, dict) else ():
                if name not in declared:
                    declared[name] = InputRule(name, definition, section == "required")
        self.inputs = tuple(declared.values())
        models = []
        for rule in self.inputs:
            if rule.choices is not None:
                is_model, folder = model_folder(class_type, rule.name, rule.choices)
                if is_model:
                    models.append((rule, folder))
        self.models = tuple(models)


class NodeRules:
    """The rules of all node classes; each is made when first asked for, and kept.

    Parameters
    ----------
    object_info : mapping
        What ComfyUI answers to ``GET /object_info``: entries by class name.

    Examples
    --------
    >>> rules = NodeRules({"Nothing": {"input": {}, "output": [], "output_node": True}})
    >>> validate_prompt({"1": {"class_type": "Nothing", "inputs": {}}}, rules).outputs
    ['1']
    """

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self._object_info = object_info
        self._made: dict[Any, NodeRule | None] = {}

    def get(self, class_type: Any) -> NodeRule | None:
        """Return the rule of a class, or None if ComfyUI does not have it.

        Raises
        ------
        TypeError
            `class_type` is a list or a dict.
        """
        try:
            return self._made[class_type]
        except KeyError:
            info = self._object_info.get(class_type)
            rule = NodeRule(class_type, info) if isinstance(info, Mapping) else None
            self._made[class_type] = rule
            return rule

    def __getitem__(self, class_type: Any) -> NodeRule:
        rule = self.get(class_type)
        if rule is None:
            raise KeyError(class_type)
        return rule


def validate_prompt(
    prompt: Any,
    definitions: Mapping[str, Any] | NodeRules,
    *,
    files: FileExists | None = None,
    workflow: object = None,
) -> Validation:
    """Return what ComfyUI would answer if it were asked to run a prompt.

    Nothing is changed, nothing is queued, and no prompt makes this raise: not a cycle, not a chain
    of ten thousand nodes, not JSON that is no prompt at all.

    Parameters
    ----------
    prompt : object
        The graph in API format: ``{node id: {"class_type": str, "inputs": dict}}``.
    definitions : mapping or NodeRules
        ``object_info``. Pass a `NodeRules` to judge many prompts by the same definitions.
    files : callable, optional
        Tells which files ComfyUI's folders hold. Without it, file inputs are judged by the names
        that the definitions offer, and a warning says so where that leaves a doubt.
    workflow : object, optional
        The graph as the editor saves it. Names the packs of missing nodes and the links of
        missing models.
    """
    rules = definitions if isinstance(definitions, NodeRules) else NodeRules(definitions)
    try:
        fault, nodes = _look_through(prompt, rules)
    except Exception as error:  # ComfyUI has nothing around this part: it answers 500
        result = Validation(False, raises=f"{type(error).__name__}: {error}")
    else:
        if fault is not None:
            result = Validation(False, fault)
        else:
            result = _Judgement(prompt, nodes, files).answer()
    result.missing_nodes, result.missing_models = _missing(prompt, rules, workflow)
    return result


def _look_through(prompt: Any, rules: NodeRules) -> tuple[Issue | None, dict[Any, NodeRule]]:
    """Return the first fault of the prompt as a whole, or else the rule of each node."""
    nodes = {}
    has_output = False
    for node_id in prompt:
        node = prompt[node_id]
        if "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return _issue("invalid_prompt", message, f"Node ID '#{node_id}'"), {}
        class_type = node["class_type"]
        rule = rules.get(class_type)
        if rule is None:
            message = f"Cannot execute because node {class_type} does not exist."
            return _issue("invalid_prompt", message, f"Node ID '#{node_id}'"), {}
        nodes[node_id] = rule
        has_output = has_output or rule.is_output
    if not has_output:
        return _issue("prompt_no_outputs", "Prompt has no outputs", ""), {}
    return None, nodes


class _Frame:
    """A node whose judging has begun."""

    __slots__ = (
        "errors",
        "good",
        "inputs",
        "link",
        "node_id",
        "pending",
        "received",
        "rule",
        "values",
    )

    def __init__(self, node_id: Any, rule: NodeRule) -> None:
        self.node_id = node_id
        self.rule = rule
        self.inputs: Any = None
        self.pending: Iterator[InputRule] | None = None
        self.errors: list[Issue] = []
        self.good = True  # is everything upstream good?
        self.link: tuple[InputRule, list[Any]]  # what is being followed
        if rule.own is not None:
            self.values: dict[str, Any] = {}
            self.received: dict[str, Any] = {}


class _Judgement:
    """Judges the output nodes of one prompt, each node once, with a stack of its own."""

    def __init__(
        self, prompt: dict[Any, Any], nodes: dict[Any, NodeRule], files: FileExists | None
    ) -> None:
        self.prompt = prompt
        self.nodes = nodes
        self.files = files
        self.good: set[Any] = set()  # ids of nodes that are good, with all they depend on
        self.errors: dict[Any, list[Issue]] = {}  # of the others; empty if the fault is upstream
        self.warnings: dict[str, None] = {}  # a set that keeps its order

    def answer(self) -> Validation:
        """Return the answer to the prompt."""
        good: list[Any] = []
        failed: list[Any] = []
        lines: list[str] = []
        met: list[int] = []  # how many bad nodes were known after each failed output
        for output, rule in self.nodes.items():
            if not rule.is_output:
                continue
            if output not in self.good and output not in self.errors:
                self._judge(output)
            if output in self.good:
                good.append(output)
                continue
            lines += [f"{error['message']}: {error['details']}" for error in self.errors[output]]
            failed.append(output)
            met.append(len(self.errors))
        node_errors = {}
        first = 0  # the failed output that met the node
        for index, (node_id, errors) in enumerate(self.errors.items()):
            while met[first] <= index:
                first += 1
            if errors:
                node_errors[node_id] = {
                    "errors": errors,
                    # ComfyUI names every output that fails from then on, dependent or not
                    "dependent_outputs": failed[first:],
                    "class_type": self.nodes[node_id].class_type,
                }
        error = None
        if not good:
            message = "Prompt outputs failed validation"
            error = _issue("prompt_outputs_failed_validation", message, "\n".join(lines))
        else:
            for node_id in failed:
                self._warn(node_id, "has errors or depends on nodes that have; it will be left out")
            for node_id in self.nodes:
                if not isinstance(self.prompt[node_id].get("inputs"), dict):
                    # seen with 0.3.75: it reads the inputs of all nodes first, needed or not
                    self._warn(
                        node_id,
                        "has no object of inputs; ComfyUI accepts the prompt all the same, "
                        "and then its worker breaks down and runs nothing more until a restart",
                    )
            for node_id, fault in too_deep(self.prompt):
                self._warn(node_id, f"{fault}: it runs nothing more until a restart")
        for node_id in node_errors:
            self._doubt(node_id)
        return Validation(bool(good), error, node_errors, good, warnings=list(self.warnings))

    def _judge(self, output: Any) -> None:
        """Give a verdict on an output node and all it depends on."""
        stack = [_Frame(output, self.nodes[output])]
        while stack:
            frame = stack[-1]
            try:
                source = self._check(frame)
            except Exception as error:  # becomes part of the answer, as in ComfyUI
                stack.pop()
                self._fail(frame, stack, error)
                continue
            if source is None:
                stack.pop()
                if frame.good and not frame.errors:
                    self.good.add(frame.node_id)
                else:
                    self.errors[frame.node_id] = frame.errors
                    if stack:
                        stack[-1].good = False
            elif len(stack) < _DEEPEST:
                stack.append(source)
            else:
                self._warn(
                    source.node_id,
                    f"is in a cycle, or at the end of a chain of more than {_DEEPEST} nodes: "
                    "ComfyUI cannot follow it",
                )
                self._fail(source, stack, RecursionError(_RECURSION))

    def _fail(self, failed: _Frame, stack: list[_Frame], error: Exception) -> None:
        """Turn an exception into an error of its node, told by the node that follows it."""
        if len(stack) > _DEEPEST_REPORT:
            error = RecursionError(_RECURSION)
            failed = stack[_DEEPEST_REPORT]
            del stack[_DEEPEST_REPORT:]
        text = str(error)
        extra: Issue = {"exception_type": type(error).__name__, "traceback": []}
        if not stack:
            issue = _issue(
                "exception_during_validation", "Exception when validating node", text, extra
            )
        else:
            rule, link = stack[-1].link
            stack[-1].good = False
            extra.update(
                input_name=rule.name,
                input_config=rule.config,
                exception_message=text,
                linked_node=link,
            )
            message = "Exception when validating inner node"
            issue = _issue("exception_during_inner_validation", message, text, extra)
        self.errors[failed.node_id] = [issue]

    def _check(self, frame: _Frame) -> _Frame | None:
        """Check the inputs of a node up to a link that leads to a node without verdict yet.

        Returns
        -------
        _Frame or None
            The node to judge before this one goes on; None if this one is finished.
        """
        rule = frame.rule
        own = rule.own
        if frame.pending is None:
            frame.inputs = self.prompt[frame.node_id]["inputs"]
            frame.pending = iter(rule.inputs)
            if own is not None and isinstance(frame.inputs, dict):
                frame.values.update(frame.inputs)
        inputs = frame.inputs
        for wanted in frame.pending:
            if not wanted.sound:
                wanted.read()
            name = wanted.name
            if name not in inputs:
                if wanted.required:
                    frame.errors.append(
                        _issue(
                            "required_input_missing",
                            "Required input is missing",
                            name,
                            {"input_name": name},
                        )
                    )
                continue
            value = inputs[name]
            if not isinstance(value, list):
                if own is not None or not wanted.is_plainly_good(value):
                    self._check_literal(frame, wanted, value)
                continue
            if len(value) != 2:
                message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
                frame.errors.append(_input_issue("bad_linked_input", message, name, wanted, value))
                continue
            source = value[0]
            source_rule = self.nodes[source]
            received = source_rule.returns[value[1]]
            if own is not None and own.takes_types:
                frame.received[name] = received
            elif received != wanted.type and not self._fits(
                received, wanted, source, frame.node_id
            ):
                frame.errors.append(_mismatch(wanted, received, value))
                continue
            if source in self.good:
                continue
            if source not in self.errors:
                frame.link = (wanted, value)
                return _Frame(source, source_rule)
            frame.good = False
        if own is not None:
            self._ask(frame, own)
        return None

    def _check_literal(self, frame: _Frame, wanted: InputRule, value: Any) -> None:
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        own = frame.rule.own
        if own is not None:
            frame.values[wanted.name] = value
        if wanted.convert is not None:
            try:
                value = wanted.convert(value)
            except Exception as error:  # becomes part of the answer, as in ComfyUI
                issue = _input_issue(
                    "invalid_input_type",
                    f"Failed to convert an input value to a {wanted.type} value",
                    f"{wanted.name}, {value}, {error}",
                    wanted,
                    value,
                )
                issue["extra_info"]["exception_message"] = str(error)
                frame.errors.append(issue)
                return
        if own is not None:
            frame.values[wanted.name] = value
            if wanted.name in own.arguments:
                return
        if wanted.bounded and not _within_bounds(frame, wanted, value):
            return
        choices = wanted.choices
        if choices is None or value in choices:
            return
        if choices is not wanted.type:
            if isinstance(value, str):
                self._warn(
                    frame.node_id,
                    f"has {value!r} for {wanted.name!r}, which is none of its options; "
                    "ComfyUI does not check that before it runs the node",
                )
            return
        short = len(choices) <= 20
        offered = str(choices) if short else f"(list of length {len(choices)})"
        details = f"{wanted.name}: '{value}' not in {offered}"
        issue = _input_issue("value_not_in_list", "Value not in list", details, wanted, value)
        if not short:
            issue["extra_info"]["input_config"] = None
        frame.errors.append(issue)

    def _fits(self, received: Any, wanted: InputRule, source: Any, target: Any) -> bool:
        """Tell whether an output goes into an input of another type."""
        for type_, node_id in ((received, source), (wanted.type, target)):
            if type_ == "*":
                rule = self.nodes[node_id]
                if rule.foreign and not rule.schema3:
                    self._warn(
                        node_id,
                        "has the type '*'; whether it takes part in any link only its code decides",
                    )
                return True
        if isinstance(received, str) and isinstance(wanted.type, str):
            return not _names(received).isdisjoint(_names(wanted.type))
        return False

    def _ask(self, frame: _Frame, own: NodeCheck) -> None:
        """Let the node check its inputs itself."""
        inputs = frame.inputs if isinstance(frame.inputs, dict) else _items(frame.inputs)
        values: dict[str, Any] = {
            name: None if is_link(value) else value
            for name, value in ((name, frame.values[name]) for name in inputs)
            if name in own.arguments
        }
        if own.takes_types:
            values["input_types"] = frame.received
        answer = own.run(values, lambda name: self._exists(frame, name))
        if answer is not True:
            for name in values:
                frame.errors.append(
                    _issue(
                        "custom_validation_failed",
                        "Custom validation failed for node",
                        f"{name} - {answer}",
                        {"input_name": name},
                    )
                )

    def _exists(self, frame: _Frame, name: Any) -> bool:
        folder, path = split_annotated(name)
        if not path:
            return True  # the folder itself
        if self.files is not None:
            return self.files(folder, path)
        offered = next((rule.choices for rule in frame.rule.inputs if rule.choices), None)
        if offered is not None:
            if name in offered:
                return True
            if folder == "input" and path == name and "/" not in path:
                return False
        self._warn(frame.node_id, f"needs the file {name!r}, which could not be looked for")
        return True

    def _warn(self, node_id: Any, text: str) -> None:
        self.warnings[f"Node {node_id} ({self.nodes[node_id].class_type}) {text}."] = None

    def _doubt(self, node_id: Any) -> None:
        """Warn where a node of others has errors that a check of its own could take back."""
        if self.nodes[node_id].foreign:
            kinds = {error["type"] for error in self.errors[node_id]}
            if not kinds.isdisjoint(_REVOCABLE):
                self._warn(
                    node_id,
                    "comes from a node pack; if its code checks these inputs itself, "
                    "ComfyUI leaves the decision to it",
                )


_REVOCABLE = {
    "return_type_mismatch",
    "value_bigger_than_max",
    "value_not_in_list",
    "value_smaller_than_min",
}


def _within_bounds(frame: _Frame, wanted: InputRule, value: Any) -> bool:
    extra = wanted.extra
    if "min" in extra and value < extra["min"]:
        kind, message = (
            "value_smaller_than_min",
            f"Value {value} smaller than min of {extra['min']}",
        )
    elif "max" in extra and value > extra["max"]:
        kind, message = "value_bigger_than_max", f"Value {value} bigger than max of {extra['max']}"
    else:
        return True
    frame.errors.append(_input_issue(kind, message, wanted.name, wanted, value))
    return False


@lru_cache(maxsize=4096)
def _names(types: str) -> frozenset[str]:
    return frozenset(name.strip() for name in types.split(","))


def _items(inputs: Any) -> dict[Any, Any]:
    """Return what `inputs` maps, or raise what Python raises if it is no mapping."""
    return {name: inputs[name] for name in inputs}


def _issue(kind: str, message: str, details: str, extra: Issue | None = None) -> Issue:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _input_issue(kind: str, message: str, details: str, wanted: InputRule, value: Any) -> Issue:
    if isinstance(value, float) and not math.isfinite(value):
        value = _NOT_IN_JSON[str(value)]
    extra = {"input_name": wanted.name, "input_config": wanted.config, "received_value": value}
    return _issue(kind, message, details, extra)


def _mismatch(wanted: InputRule, received: Any, link: list[Any]) -> Issue:
    return _issue(
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


def _missing(prompt: Any, rules: NodeRules, workflow: object) -> tuple[list[Issue], list[Issue]]:
    """Return the node classes and the model files that ComfyUI lacks for a prompt."""
    classes: dict[str, Issue] = {}
    models: list[Issue] = []
    for node_id, node in prompt.items() if isinstance(prompt, dict) else ():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        if not isinstance(class_type, str):
            continue
        rule = rules.get(class_type)
        if rule is None:
            entry = classes.setdefault(class_type, {"class_type": class_type, "node_ids": []})
            entry["node_ids"].append(node_id)
        elif rule.models:
            models += _missing_models(node_id, node.get("inputs"), rule)
    if classes:
        packs = node_packs(workflow)
        for class_type, entry in classes.items():
            if class_type in packs:
                entry["pack"] = packs[class_type]
    if models:
        links = model_links(workflow)
        for entry in models:
            base = entry["name"].replace("\\", "/").rpartition("/")[2]
            link = links.get(entry["name"]) or links.get(base)
            if link is not None:
                entry["url"] = link.url
                entry["folder"] = entry["folder"] or link.folder
    return list(classes.values()), models


def _missing_models(node_id: Any, inputs: Any, rule: NodeRule) -> Iterator[Issue]:
    for wanted, folder in rule.models if isinstance(inputs, dict) else ():
        name = inputs.get(wanted.name)
        if isinstance(name, dict):
            name = name.get("__value__")
        if isinstance(name, str) and name and name not in (wanted.choices or ()):
            yield {"name": name, "folder": folder, "node_id": node_id, "input": wanted.name}
