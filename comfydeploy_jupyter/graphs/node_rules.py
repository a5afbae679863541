"""What ComfyUI checks of each node class, read from node definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .model_files import model_folder
from .node_checks import NODE_CHECKS, NodeCheck, list_of_files
from .replacements import BUNDLED
from .versions import Behaviour, behaviour_of

AUTOGROW = "COMFY_AUTOGROW_V3"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
DYNAMIC_SLOT = "COMFY_DYNAMICSLOT_V3"
DYNAMIC = frozenset({AUTOGROW, DYNAMIC_COMBO, DYNAMIC_SLOT})

MAX_GROWN = 1000
"""The most inputs of an autogrow group that are read; ComfyUI itself allows 100."""

MAX_NESTED = 100
"""The most levels of nested dynamic inputs that are read."""

_MAX_LISTED = 50  # options; if there are more, they are looked up in a set
_MAX_SEARCHED = 10_000  # options that are searched for the names of model files

_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


class InputRule:
    """What ComfyUI checks of one declared input."""

    __slots__ = (
        "bounded",
        "checked",
        "choices",
        "config",
        "convert",
        "definition",
        "extra",
        "folder",
        "high",
        "is_model",
        "low",
        "name",
        "number",
        "offered",
        "required",
        "several",
        "sound",
        "type",
    )

    def __init__(
        self, name: str, definition: Any, required: bool, class_type: str, behaviour: Behaviour
    ) -> None:
        self.name = name
        self.definition = definition
        self.required = required
        self.type: Any = None
        self.extra: Any = {}
        try:
            self.type, self.extra = self.read()
            self.sound = True
        except Exception:  # raised again when a prompt uses the input
            self.sound = False
        self.config = [self.type, self.extra]
        self.convert = _CONVERSIONS.get(self.type) if isinstance(self.type, str) else None
        plain = isinstance(self.extra, dict)
        self.bounded = not plain or "min" in self.extra or "max" in self.extra
        self.choices: list[Any] | None = None
        self.checked = True
        if isinstance(self.type, list):
            self.choices = self.type
        elif self.type == "COMBO" and plain:
            self.checked = behaviour.checks_v3_options
            options = self.extra.get("options", [] if self.checked else None)
            self.choices = options if isinstance(options, list) else None
        self.several = self.checked and plain and bool(self.extra.get("multiselect", False))
        # The container in which texts are looked up. For a long list it is the set of the texts in
        # it, which compares them as the list does.
        self.offered: list[Any] | frozenset[Any] | None = self.choices
        if self.choices is not None and len(self.choices) > _MAX_LISTED:
            self.offered = frozenset(choice for choice in self.choices if isinstance(choice, str))
        self.low: Any = self.extra.get("min", -math.inf) if plain else None
        self.high: Any = self.extra.get("max", math.inf) if plain else None
        numeric = isinstance(self.low, (int, float)) and isinstance(self.high, (int, float))
        self.number = self.convert if numeric and self.convert in (int, float) else None
        self.is_model, self.folder = False, None
        if self.choices is not None:
            own_name = name.rpartition(".")[2]
            self.is_model, self.folder = model_folder(
                class_type, own_name, self.choices[:_MAX_SEARCHED]
            )

    def is_certainly_valid(self, value: Any) -> bool:
        """Return whether a value is certainly valid; a quick check for common values."""
        if type(value) is self.number:
            return bool(self.low <= value <= self.high)
        if type(value) is not str or self.bounded:
            return False
        if self.offered is None:
            return self.convert is str
        return value in self.offered

    def read(self) -> tuple[Any, Any]:
        """Return type and options of the definition; raise what ComfyUI raises."""
        extra = self.definition[1] if len(self.definition) > 1 else {}
        if extra is None:
            raise AssertionError
        return self.definition[0], extra


class _Dynamic:
    """A dynamic input: the inputs that replace it depend on the other inputs of a node."""

    __slots__ = ("fault", "grown", "name", "options", "own", "rule")

    def __init__(self, name: str, definition: Any, required: bool, rule: NodeRule) -> None:
        self.name = name
        self.rule = rule
        self.fault: str | None = None  # why the definition cannot be read
        self.own: InputRule | None = None  # the input itself, if ComfyUI checks it, too
        self.grown: tuple[InputRule, ...] = ()  # the inputs of an autogrow group
        self.options: dict[
            Any, _Section | Any
        ] = {}  # the inputs of each option of a dynamic combo, read when it is chosen
        kind = definition[0]
        extra = definition[1] if len(definition) > 1 else None
        try:
            if not isinstance(extra, Mapping):
                raise TypeError("it has no options")
            if kind == AUTOGROW:
                self.grown = tuple(self._grow(extra["template"]))
                return
            self.own = rule.input(name, definition, required)
            if kind == DYNAMIC_SLOT:
                self.options = {None: extra["inputs"]}
                return
            for option in extra["options"]:
                self.options.setdefault(option["key"], option["inputs"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            self.fault = f"the definition of its input {name!r} ({kind}) is malformed: {what}"
            self.own, self.options = None, {}

    def _grow(self, template: Any) -> Iterator[InputRule]:
        least = template["min"]
        if "names" in template:
            names = [str(child) for child in template["names"][:MAX_GROWN]]
        else:
            count = min(template["max"], MAX_GROWN)
            names = [f"{template['prefix']}{n}" for n in range(count)]
        sections = [(name, section) for name, section in template["input"].items() if section]
        if not sections:
            raise ValueError("its template has no input")
        section, inputs = sections[0]
        definition = next(iter(inputs.values()))
        for n, child in enumerate(names):
            required = n < least and section == "required"
            yield self.rule.input(f"{self.name}.{child}", definition, required)

    def add_to(self, declared: dict[str, InputRule], inputs: Any, faults: list[str]) -> bool:
        """Add the inputs that replace this one; return whether there are any."""
        if self.fault is None and self.name.count(".") > MAX_NESTED:
            self.fault = f"more than {MAX_NESTED} of its inputs are nested"
        if self.fault is not None:
            faults.append(self.fault)
            return False
        if self.own is None:
            for child in self.grown:
                _declare(declared, child)
            return True
        if self.name not in inputs:
            return False
        chosen = inputs[self.name] if self.own.type == DYNAMIC_COMBO else None
        try:
            section = self.options[chosen]
        except (KeyError, TypeError):  # it is not an option, or it is a link
            return False
        if not isinstance(section, _Section):
            section = self.options[chosen] = _Section(section, self.rule, f"{self.name}.")
        section.add_to(declared, inputs, faults)
        _declare(declared, self.own)
        return True


class _Section:
    """The inputs that a node class or an option of a dynamic combo declares."""

    __slots__ = ("dynamic", "entries")

    def __init__(self, sections: Any, rule: NodeRule, prefix: str = "") -> None:
        self.entries: list[InputRule | _Dynamic] = []
        self.dynamic = False
        for section in ("required", "optional"):
            inputs = sections.get(section) if isinstance(sections, dict) else None
            for name, definition in inputs.items() if isinstance(inputs, dict) else ():
                required = section == "required"
                if rule.expands and _is_dynamic(definition):
                    self.entries.append(_Dynamic(prefix + name, definition, required, rule))
                    self.dynamic = True
                else:
                    self.entries.append(rule.input(prefix + name, definition, required))

    def add_to(self, declared: dict[str, InputRule], inputs: Any, faults: list[str]) -> bool:
        """Add all inputs that are declared; return whether any of them are dynamic."""
        grown = False
        for entry in self.entries:
            if isinstance(entry, InputRule):
                _declare(declared, entry)
            elif entry.add_to(declared, inputs, faults):
                grown = True
        return grown


def _is_dynamic(definition: Any) -> bool:
    return (
        isinstance(definition, (list, tuple))
        and bool(definition)
        and isinstance(definition[0], str)
        and definition[0] in DYNAMIC
    )


def _declare(declared: dict[str, InputRule], rule: InputRule) -> None:
    known = declared.get(rule.name)
    if known is None or rule.required or not known.required:
        declared[rule.name] = rule


class NodeRule:
    """What ComfyUI checks of one node class."""

    __slots__ = (
        "_behaviour",
        "_models",
        "_plain",
        "_section",
        "class_type",
        "expands",
        "foreign",
        "is_output",
        "own",
        "returns",
        "schema3",
    )

    def __init__(self, class_type: str, info: Mapping[str, Any], behaviour: Behaviour) -> None:
        self.class_type = class_type
        self._behaviour = behaviour
        self.is_output = bool(info.get("output_node"))
        self.foreign = str(info.get("python_module", "")).startswith("custom_nodes")
        # only classes of the third schema have all three
        self.schema3 = info.keys() >= {"api_node", "deprecated", "experimental"}
        self.expands = self.schema3 and behaviour.expands_inputs
        checks = NODE_CHECKS[behaviour.own_checks]
        self.own: NodeCheck | None = None if self.foreign else checks.get(class_type)
        returns = info.get("output", [])
        self.returns: Any = (
            tuple(returns) if isinstance(returns, list) and not self.schema3 else returns
        )
        self._section = _Section(info.get("input"), self)
        self._plain: tuple[InputRule, ...] | None = None
        self._models: tuple[InputRule, ...] = ()
        if not self._section.dynamic:
            declared: dict[str, InputRule] = {}
            self._section.add_to(declared, {}, [])
            self._plain = tuple(declared.values())
            self._models = tuple(entry for entry in self._plain if entry.is_model)

    def input(self, name: str, definition: Any, required: bool) -> InputRule:
        """Return the rule of one input of this class."""
        return InputRule(name, definition, required, self.class_type, self._behaviour)

    def declared(self, inputs: Any, faults: list[str]) -> tuple[tuple[InputRule, ...], bool]:
        """Return the inputs that the class has for a node, and whether dynamic ones are among them.

        The required ones come first. A sentence is added to ``faults`` for each that cannot be
        read.
        """
        if self._plain is not None:
            return self._plain, False
        declared: dict[str, InputRule] = {}
        dynamic = self._section.add_to(declared, inputs, faults)
        required = [rule for rule in declared.values() if rule.required]
        optional = [rule for rule in declared.values() if not rule.required]
        return (*required, *optional), dynamic

    def models(self, inputs: Any) -> tuple[InputRule, ...]:
        """Return the inputs of the class that name model files."""
        if self._plain is not None:
            return self._models
        return tuple(entry for entry in self.declared(inputs, [])[0] if entry.is_model)


class NodeRules:
    """The rules of all node classes; each is made when it is first used."""

    def __init__(
        self,
        object_info: Mapping[str, Any],
        *,
        version: str | None = None,
        replacements: Mapping[str, Any] | None = None,
    ) -> None:
        self._object_info = object_info
        self._made: dict[Any, NodeRule] = {}
        self.behaviour = behaviour_of(version, object_info)
        self.replacements: Mapping[str, Any] = {}
        if self.behaviour.replaces_nodes:
            self.replacements = BUNDLED if replacements is None else replacements

    def get(self, class_type: Any) -> NodeRule | None:
        """Return the rule of a class, or None if ComfyUI does not have it."""
        rule = self._made.get(class_type)
        if rule is None:
            info = self._object_info.get(class_type)
            if isinstance(info, Mapping):
                rule = self._made[class_type] = NodeRule(class_type, info, self.behaviour)
        return rule

    def lists(self, name: str) -> bool | None:
        """Return whether a file is in the input folder by the options of the classes that load it.

        None if no class has such files among its options.
        """
        class_type, wanted = list_of_files(name, self.behaviour.own_checks) or ("", "")
        rule = self.get(class_type)
        declared = () if rule is None else rule.declared({}, [])[0]
        choices = next((each.choices for each in declared if each.name == wanted), None)
        return None if choices is None else name in choices

    def has(self, class_type: Any) -> bool:
        """Return whether ComfyUI has a class."""
        return self.get(class_type) is not None

    def __getitem__(self, class_type: Any) -> NodeRule:
        rule = self.get(class_type)
        if rule is None:
            raise KeyError(class_type)
        return rule
