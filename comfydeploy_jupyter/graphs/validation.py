"""What ComfyUI would reply to a prompt, from node definitions alone and without queueing it.

The rules are those of ``POST /prompt``; `versions` has the differences between versions of ComfyUI.
First, old nodes are replaced. Then the prompt as a whole is checked, up to the first error. Then
`node_validator` validates each output node, after all nodes that it depends on.

Two things cannot be reproduced. ComfyUI takes the output nodes, and the inputs of a node, in the
order of a set; here it is the order of the prompt and of the definitions. And the tracebacks in its
replies are empty here. Numbers that JSON does not have are text in ``received_value``
(``"-Infinity"``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .depth import too_deep
from .issues import Issue, issue
from .model_files import model_links, node_packs
from .node_rules import NodeRule, NodeRules
from .node_validator import FileExists, NodeValidator
from .replacements import ReplacementError, replace_nodes, replacement_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .versions import Behaviour

__all__ = ["NodeRules", "Validation", "validate_prompt"]


@dataclass
class Validation:
    """What ComfyUI would reply to a prompt, and further findings.

    Attributes
    ----------
    valid : bool
        Whether ComfyUI would queue the prompt.
    error : dict or None
        ComfyUI's error object: ``type``, ``message``, ``details``, ``extra_info``.
    node_errors : dict
        By node id: ``errors``, ``dependent_outputs``, ``class_type``. A valid prompt can have them,
        too, for outputs that would not run.
    outputs : list
        Ids of the output nodes that would run.
    missing_nodes : list of dict
        Node classes that ComfyUI does not have: ``class_type``, ``node_ids``, and ``pack`` where it
        is known.
    missing_models : list of dict
        Model files that ComfyUI does not have: ``name``, ``folder`` (None if unknown), ``node_id``,
        ``input``, and ``url`` if known.
    warnings : list of str
        A sentence for each thing that only a node's code or a folder can decide, and for each that
        ComfyUI accepts although it will not work.
    raises : str or None
        If ComfyUI replies 500 without an error object: the exception that is raised in it.
    further_errors : dict
        As ``node_errors``, but without ``dependent_outputs``: the errors of nodes that ComfyUI does
        not look at because of ``error``, such as an unknown node class.
    """

    valid: bool
    error: Issue | None = None
    node_errors: dict[Any, Issue] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    missing_nodes: list[Issue] = field(default_factory=list)
    missing_models: list[Issue] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    raises: str | None = None
    further_errors: dict[Any, Issue] = field(default_factory=dict)


def validate_prompt(
    prompt: Any,
    definitions: Mapping[str, Any] | NodeRules,
    *,
    files: FileExists | None = None,
    workflow: object = None,
) -> Validation:
    """Return what ComfyUI would reply to a prompt.

    The prompt is neither changed nor queued. No prompt makes this function raise, also none with a
    cycle or with a chain of ten thousand nodes, and no JSON that is not a prompt.

    Parameters
    ----------
    prompt : object
        The graph in API format: ``{node id: {"class_type": str, "inputs": dict}}``.
    definitions : mapping or NodeRules
        ``object_info``. Pass a `NodeRules` to validate many prompts by the same definitions.
    files : callable, optional
        Returns whether a file exists in ComfyUI's folders. Without it, the file names among the
        options of the definitions are used, and a warning says where that may be wrong.
    workflow : object, optional
        The graph in the editor's format. It has the packs of missing nodes and the links of
        missing models.
    """
    rules = definitions if isinstance(definitions, NodeRules) else NodeRules(definitions)
    nodes: dict[Any, NodeRule] = {}
    fault: Issue | None = None
    raises: str | None = None
    warnings: list[str] = []
    try:
        prompt, nodes = _read(prompt, rules)
        fault = _first_error(prompt, nodes, rules.behaviour)
    except ReplacementError as error:
        raises = str(error)
        warnings = [_not_replaced(error)]
    except Exception as error:  # ComfyUI does not catch exceptions here: it replies 500
        raises = f"{type(error).__name__}: {error}"
    if raises is None and fault is None:
        result = _validate_outputs(
            NodeValidator(prompt, nodes, files, rules.lists, rules.behaviour)
        )
    else:
        result = Validation(False, fault, warnings=warnings, raises=raises)
        if nodes:
            validator = NodeValidator(prompt, nodes, files, rules.lists, rules.behaviour)
            result.further_errors = _further_errors(validator)
            result.warnings += validator.warnings
    result.missing_nodes, result.missing_models = _missing(prompt, rules, workflow)
    return result


def _read(prompt: Any, rules: NodeRules) -> tuple[dict[Any, Any], dict[Any, NodeRule]]:
    """Return the prompt with its old nodes replaced, and the rules of nodes of known classes."""
    nodes: dict[Any, NodeRule] = {}
    replaced = False
    # a ComfyUI that replaces old nodes reads the inputs of all nodes first
    reads_first = rules.behaviour.replaces_nodes
    for position, node_id in enumerate(prompt.keys() if reads_first else prompt):
        try:
            node = prompt[node_id]
            if "class_type" not in node:
                continue
            rule = rules.get(node["class_type"])
            if reads_first and "inputs" in node and type(node["inputs"]) is not dict:
                node["inputs"].items()  # raises what is raised in ComfyUI
        except Exception:
            if reads_first or len(nodes) == position:
                raise
            continue  # ComfyUI ends at an earlier node, which has no class
        if rule is not None:
            nodes[node_id] = rule
        elif replacement_of(node["class_type"], rules.replacements, rules.has) is not None:
            replaced = True
    if not replaced:
        return prompt, nodes
    prompt = replace_nodes(prompt, rules.replacements, rules.has)
    return prompt, {
        node_id: rule
        for node_id, node in prompt.items()
        if (rule := rules.get(node.get("class_type"))) is not None
    }


def _not_replaced(error: ReplacementError) -> str:
    lacks = "has no input " + str(error.cause)
    if error.cause.args == ("_meta",):
        lacks = 'has no "_meta" (add "_meta": {} to it)'
    return (
        f"Node {error.node_id} ({error.old}) is of an old class that ComfyUI replaces by "
        f"{error.new}. ComfyUI answers 500, because the node {lacks}."
    )


def _first_error(
    prompt: dict[Any, Any], nodes: dict[Any, NodeRule], behaviour: Behaviour
) -> Issue | None:
    """Return the first error that concerns the prompt as a whole."""
    has_output = False
    for node_id in prompt:
        rule = nodes.get(node_id)
        if rule is None:
            return _classless(node_id, prompt[node_id], behaviour)
        has_output = has_output or rule.is_output
    if not has_output:
        return issue("prompt_no_outputs", "Prompt has no outputs", "")
    return None


def _classless(node_id: Any, node: dict[str, Any], behaviour: Behaviour) -> Issue:
    """Return the error for a node without a class, or of an unknown one."""
    has_class = "class_type" in node
    class_type = node["class_type"] if has_class else None
    details = f"Node ID '#{node_id}'"
    if not behaviour.names_missing_classes:
        if has_class:
            message = f"Cannot execute because node {class_type} does not exist."
        else:
            message = "Cannot execute because a node is missing the class_type property."
        return issue("invalid_prompt", message, details)
    title = node.get("_meta", {}).get("title", class_type)
    if has_class:
        message = f"Node '{title}' not found. The custom node may not be installed."
    else:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type. "
            "The workflow may be corrupted or a custom node is missing."
        )
    extra = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return issue("missing_node_type", message, details, extra)


def _validate_outputs(validator: NodeValidator) -> Validation:
    """Validate the output nodes and all nodes that they depend on."""
    valid: list[Any] = []
    failed: list[Any] = []
    lines: list[str] = []
    known: list[int] = []  # how many invalid nodes were known after each failed output
    for output, rule in validator.nodes.items():
        if not rule.is_output:
            continue
        validator.validate(output)
        if output in validator.valid:
            valid.append(output)
            continue
        lines += [f"{error['message']}: {error['details']}" for error in validator.errors[output]]
        failed.append(output)
        known.append(len(validator.errors))
    node_errors = {}
    first = 0  # index of the first failed output that depends on the node
    for index, (node_id, errors) in enumerate(validator.errors.items()):
        while known[first] <= index:
            first += 1
        if errors:
            node_errors[node_id] = {
                "errors": errors,
                # ComfyUI names all outputs that fail after this node, dependent or not
                "dependent_outputs": failed[first:],
                "class_type": validator.nodes[node_id].class_type,
            }
    error = None
    if not valid:
        message = "Prompt outputs failed validation"
        error = issue("prompt_outputs_failed_validation", message, "\n".join(lines))
    else:
        for node_id in failed:
            validator.warn(
                node_id, "has errors, or depends on nodes with errors; it will not be executed"
            )
        for node_id in validator.nodes:
            if not isinstance(validator.prompt[node_id].get("inputs"), dict):
                # its worker reads the inputs of all nodes first, also of those that it does not run
                validator.warn(
                    node_id,
                    "has no object of inputs; ComfyUI accepts the prompt, but then its "
                    "worker thread ends, and it runs nothing more until a restart",
                )
        for node_id, fault in too_deep(validator.prompt):
            validator.warn(node_id, f"{fault}: it runs nothing more until a restart")
    for node_id in node_errors:
        validator.warn_of_own_check(node_id)
    return Validation(bool(valid), error, node_errors, valid, warnings=list(validator.warnings))


def _further_errors(validator: NodeValidator) -> dict[Any, Issue]:
    """Return the errors of all nodes of known classes, for a prompt whose nodes ComfyUI ignores."""
    for node_id in validator.nodes:
        validator.validate(node_id)
    found = {}
    for node_id, errors in validator.errors.items():
        if errors:
            class_type = validator.nodes[node_id].class_type
            found[node_id] = {"errors": errors, "class_type": class_type}
            validator.warn_of_own_check(node_id)
    return found


def _missing(prompt: Any, rules: NodeRules, workflow: object) -> tuple[list[Issue], list[Issue]]:
    """Return the node classes and model files of a prompt that ComfyUI does not have."""
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
        else:
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
    for wanted in rule.models(inputs) if isinstance(inputs, dict) else ():
        name = inputs.get(wanted.name)
        if isinstance(name, dict):
            name = name.get("__value__")
        if isinstance(name, str) and name and name not in (wanted.offered or ()):
            yield {"name": name, "folder": wanted.folder, "node_id": node_id, "input": wanted.name}
