"""A workflow that users look at, change, validate, save and run."""

from __future__ import annotations

import copy
import difflib
import html
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidRequestError,
    brief,
    printable,
    traceback_lines,
)
from ..graphs.definitions import NodeDefinitions
from ..graphs.form import with_rows, workflow_form
from ..graphs.formats import check_api_graph, class_of, inputs_of, is_link, title_of
from ..graphs.inputs import InputNames, apply_inputs, stored_value
from ..graphs.outline import graph_rows, inputs_text, node_names, shown
from ..graphs.validation import findings, missing_class, missing_model
from ..util.markup import html_table
from .files import files_in, has_files, upload_all, with_files, write_text
from .graph import Source, file_title, in_api_format
from .server import Reply, plain
from .text import counted, text_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..graphs.form import FormField, WorkflowForm
    from ..graphs.outline import NodeName
    from .server import Server


MAX_CANDIDATES = 20
"""The most names that an error lists if none is similar."""


class UnknownNameError(KeyError):
    """A workflow has no node or input of this name, or several; the message names candidates."""

    def __str__(self) -> str:
        return printable(str(self.args[0]))

    def _render_traceback_(self) -> list[str]:
        return traceback_lines(self)


def unknown_name(
    name: object, known: Iterable[str], what: str, *, close: Sequence[str] = ()
) -> UnknownNameError:
    """Return the error for a name that does not exist; it suggests similar names."""
    names = list(dict.fromkeys(known))
    hint = "it has none"
    if close := close or difflib.get_close_matches(str(name), names, n=5):
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    elif names:
        hint = f"there are {', '.join(map(repr, names[:MAX_CANDIDATES]))}"
    return UnknownNameError(f"{name!r} is no {what}; {hint}")


class Inputs(Mapping[str, Any]):
    """The inputs of a workflow that a user may want to change: keys to values.

    An input can be read and set by each name that `Workflow.set` takes, and by its label.
    """

    __slots__ = ("_named", "_workflow")

    def __init__(self, workflow: Workflow, named: Callable[[], InputNames]) -> None:
        self._workflow = workflow
        self._named = named

    def __getitem__(self, key: str) -> Any:
        found = self._find(key)
        if len(found) != 1:
            names = self._names()
            if found:
                known = [names[field.key] for field in found]
                raise UnknownNameError(f"{key!r} matches several inputs: {', '.join(known)}")
            close = self._named().close_to(str(key))
            raise unknown_name(key, names.values(), "input of this workflow", close=close)
        (field,) = found
        file = self._workflow.file(field.node_id, field.input_name)
        return field.value if file is None else file

    def __setitem__(self, key: str, value: object) -> None:
        found = self._find(key)
        keys = found[0].keys if len(found) == 1 else (key,)
        self._workflow.set(dict.fromkeys(keys, value))

    def __iter__(self) -> Iterator[str]:
        return iter([field.key for field in self._workflow.form])

    def __len__(self) -> int:
        return len(self._workflow.form)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._names().values())

    def _find(self, key: str) -> list[FormField]:
        form = self._workflow.form
        exact = [field for field in form if field.key == key]
        if exact:
            return exact
        targets = {f"{node_id}.{name}" for node_id, name in self._named().find(key)}
        named = [f for f in form if targets & {*f.keys, f"{f.node_id}.{f.input_name}"}]
        return named or [field for field in form if field.label == key]

    def _names(self) -> dict[str, str]:
        """Return the name of each input for people, by its key."""
        names = self._named()
        return {
            field.key: names.name(field.node_id, field.input_name)
            if field.key == f"{field.node_id}.{field.input_name}"
            else field.key
            for field in self._workflow.form
        }

    def _rows(self) -> list[tuple[str, str, str, str]]:
        names = self._names()
        return [(names[f.key], f.label, shown(f.value), _range_of(f)) for f in self._workflow.form]

    def __repr__(self) -> str:
        return text_table(self._rows()) or "no inputs"

    def _repr_html_(self) -> str:
        return html_table(("name", "input", "value", "range"), self._rows())


def _range_of(field: FormField) -> str:
    """Return the range or the first choices of an input, and whether a value has to be given."""
    parts = ["required"] if field.required else []
    if field.options:
        more = " …" if len(field.options) > 4 else ""
        parts.append(", ".join(map(str, field.options[:4])) + more)
    elif field.min is not None and field.max is not None:
        parts.append(f"{field.min} to {field.max}")
    return "; ".join(parts)


class Node:
    """One node of a `Workflow`: its inputs are attributes and items, which can be set.

    Items are always inputs. Attributes are inputs, except for the four below.
    """

    __slots__ = ("_name", "_node", "_workflow")

    _name: NodeName
    _node: dict[str, Any]
    _workflow: Workflow

    def __init__(self, workflow: Workflow, name: NodeName, node: dict[str, Any]) -> None:
        for slot, value in (("_workflow", workflow), ("_name", name), ("_node", node)):
            object.__setattr__(self, slot, value)

    @property
    def id(self) -> str:
        """The node id."""
        return self._name.id

    @property
    def class_type(self) -> str:
        """The class."""
        return self._name.type

    @property
    def title(self) -> str:
        """The title, or ``""``."""
        return self._name.title

    @property
    def inputs(self) -> dict[str, Any]:
        """All inputs, a copy: values, and links as ``[node id, output slot]``."""
        return {name: self[name] for name in inputs_of(self._node)}

    def __getitem__(self, name: str) -> Any:
        inputs = inputs_of(self._node)
        if name not in inputs:
            raise self._unknown(name, inputs)
        file = self._workflow.file(self.id, name)
        if file is not None:
            return file
        value = copy.deepcopy(inputs[name])
        is_list = isinstance(value, dict) and value.keys() == {"__value__"}
        return value["__value__"] if is_list else value

    def __setitem__(self, name: str, value: object) -> None:
        if name not in inputs_of(self._node):
            known = NodeDefinitions.of(self._workflow.definitions())
            declared = known.declared(self.class_type)
            if name not in declared:
                raise self._unknown(name, [*inputs_of(self._node), *declared])
        self._workflow.put(self.id, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python and IPython look for such names in every object
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownNameError as error:
            raise brief(AttributeError(str(error))) from None

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(type(self), name):
            text = f"{name} cannot be set; set an input of that name as node[{name!r}]"
            raise brief(AttributeError(text))
        try:
            self[name] = value
        except UnknownNameError as error:
            raise brief(AttributeError(str(error))) from None

    def __contains__(self, name: object) -> bool:
        return name in inputs_of(self._node)

    def __iter__(self) -> Iterator[str]:
        return iter(inputs_of(self._node))

    def __dir__(self) -> list[str]:
        names = [name for name in inputs_of(self._node) if name.isidentifier()]
        return ["class_type", "id", "inputs", "title", *names]

    def _ipython_key_completions_(self) -> list[str]:
        return list(inputs_of(self._node))

    def __repr__(self) -> str:
        inputs = inputs_text(inputs_of(self._node), self._workflow.source.names)
        return printable(f"Node {self._name}: {inputs}")

    def _unknown(self, name: object, known: Iterable[str]) -> UnknownNameError:
        return unknown_name(name, known, f"input of node {self._name}")


class Validation(Reply):
    """The errors that ComfyUI finds in a workflow; also a mapping with the keys of the reply."""

    def __init__(self, reply: dict[str, Any], source: Source) -> None:
        super().__init__(reply)
        self.valid = bool(reply.get("valid"))
        """Whether ComfyUI would run it, or at least a part of it."""
        self.by_node: dict[str, list[str]]
        """The errors by node id, without the names of the nodes."""
        self.general: list[str]
        """What concerns no single node: warnings, and ComfyUI's error if it names no node."""
        self.by_node, self.general = findings(reply)
        self.problems = source.complaints(reply.get("node_errors"))
        """A sentence for each error, with the name of the node."""
        costs = reply.get("partner_nodes")
        self.price = printable(str(costs.get("text") or "")) if isinstance(costs, dict) else ""
        """What its partner nodes cost for a run, in words; empty if it has none."""
        warned = len(reply.get("warnings") or ())
        told, warnings_ = self.general[: len(self.general) - warned], self.general[-warned:]
        self.problems += told
        self.problems += source.complaints(reply.get("further_errors") or {})
        for entry in reply.get("missing_nodes") or ():
            names = [source.name(node_id) for node_id in entry.get("node_ids") or ()]
            self.problems.append(missing_class(entry, _place(names)))
        for entry in reply.get("missing_models") or ():
            where = f"node {source.name(str(entry.get('node_id')))}: "
            begin, text = missing_model(entry)
            kept = [each for each in self.problems if not each.startswith(where + begin)]
            self.problems = [*kept, f"{where}{text}"]
        self.problems = list(map(printable, self.problems + (warnings_ if warned else [])))
        self.general = list(map(printable, self.general))
        self.by_node = {node: list(map(printable, said)) for node, said in self.by_node.items()}

    @property
    def doubt(self) -> str:
        """Why the result may be wrong; empty if it comes from ComfyUI's present definitions."""
        known = self._reply.get("definitions")
        source = str(known.get("source")) if isinstance(known, dict) else "live"
        return "" if source == "live" else f"by {source} node definitions: ComfyUI is down"

    def __repr__(self) -> str:
        validity = "valid" if self.valid else "not valid"
        doubt = f", {self.doubt}" if self.doubt else ""
        said = "\n- ".join([f"The workflow is {validity}{doubt}", *self.problems])
        return f"{said}\n{self.price}" if self.price else said

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{html.escape(repr(self))}</pre>'


def _place(names: Sequence[NodeName]) -> str:
    """Return the nodes of a class in parentheses; one whose only name is its class needs none."""
    nodes = [
        f'"{name.short}"' if name.unique else f"id {name.id}"
        for name in names
        if not name.unique or name.short != name.type
    ]
    return f" ({', '.join(nodes)})" if nodes else ""


class Workflow:
    """A ComfyUI workflow, made by `Comfy.load`.

    ``workflow[name]`` is the node with this id, or the only node with this title or class. All
    changes are made in the graph itself, so the workflow that is displayed is the one that runs.

    An input may be set to a file: a `pathlib.Path` of this machine, a PIL image or an array. Each
    run uploads it to the machine that runs it; `to_api` and `validate` upload it, too.

    Warns
    -----
    UserWarning
        A workflow in the editor's format has parts that could not be converted.

    Examples
    --------
    >>> workflow = comfy.load("portrait.png")                      # doctest: +SKIP
    >>> workflow["KSampler"].steps = 8                             # doctest: +SKIP
    >>> workflow.set(positive_prompt="a cat")                      # doctest: +SKIP
    >>> comfy.run(workflow)                                        # doctest: +SKIP
    """

    __slots__ = (
        "_definitions",
        "_files",
        "_form",
        "_given",
        "_graph",
        "_nodes",
        "_server",
        "_ui",
        "title",
    )

    def __init__(
        self,
        server: Server,
        source: Workflow | Source | dict[str, Any] | str | bytes | os.PathLike[str],
        *,
        title: str = "",
    ) -> None:
        loaded = source.source if isinstance(source, Workflow) else source
        if not isinstance(loaded, Source):
            loaded = Source(loaded)
        self._server = server
        self._definitions: dict[str, Any] | None = None
        self._nodes = NodeDefinitions({})  # those of `_definitions`, as far as they were read
        self._form: WorkflowForm | None = None
        self._given = dict(loaded.given)
        self._files: dict[tuple[str, str], Any] = {}
        if isinstance(source, Workflow):
            self._files.update(source._files)
            if source._server is server:
                self._definitions, self._nodes = source._definitions, source._nodes
        known = source.title if isinstance(source, Workflow) else file_title(source)
        self.title: str = title or known
        """Its title, which notebooks and scripts that are made of it have as well."""
        converted, problems = in_api_format(server, loaded)
        _warn(problems)
        self._ui = plain(loaded.graph) if loaded.is_ui else loaded.ui
        self._graph = check_api_graph(plain(converted.graph), field="workflow")

    @property
    def source(self) -> Source:
        """The workflow, ready to be sent."""
        files = {".".join(target): file for target, file in self._files.items()}
        return Source(self._graph, ui=self._ui, given=self._given, files=files)

    def __getitem__(self, name: str | int) -> Node:
        key = str(name)
        names = node_names(self._graph)
        nodes = [Node(self, names[node_id], node) for node_id, node in self._graph.items()]
        by_id, by_title, by_class = (
            [node for node in nodes if getattr(node, name) == key]
            for name in ("id", "title", "class_type")
        )
        found = by_id or by_title or by_class
        if not found:
            raise unknown_name(key, self._names(), "node of this workflow")
        if len(found) > 1:
            known = self._names()
            names_of_each = (node.title if node.title in known else node.id for node in found)
            raise UnknownNameError(
                f"{key!r} matches several nodes; use one of {', '.join(names_of_each)}"
            )
        return found[0]

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except UnknownNameError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._graph)

    def __len__(self) -> int:
        return len(self._graph)

    def _ipython_key_completions_(self) -> list[str]:
        return self._names()

    @property
    def changed(self) -> bool:
        """Whether anything was set since it was loaded."""
        return bool(self._given)

    @property
    def inputs(self) -> Inputs:
        """The inputs that a user may want to change, as a mapping whose values can be set."""
        return Inputs(self, lambda: InputNames(self._graph, self._definitions))

    @property
    def form(self) -> list[FormField]:
        """The fields behind `inputs`, with labels, ranges and choices; the most useful first."""
        return self._whole_form().fields

    def _whole_form(self) -> WorkflowForm:
        if self._form is None:
            self._form = workflow_form(self._graph, self._known(), self._ui)
        return self._form

    def set(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> Workflow:
        """Set inputs by name.

        Returns this one. Raises UnknownInputError if a name is no input of the workflow,
        or fits inputs of several nodes; nothing is set.

        Parameters
        ----------
        inputs : dict, optional
            New values by ``"<node id>.<input>"``, ``"<node title>.<input>"``, the ``input_id`` of
            an external-input node, the bare name of an input that only one node has, or the title
            of a node that has one value.
        **named
            The same, for names that are identifiers.
        """
        given = {**(inputs or {}), **named}
        values = plain(with_files(given, _file_name))
        applied = apply_inputs(self._graph, values, strict=False)
        # A text may be an option of a dynamic combo and None may remove an input. Whether it does
        # depends on the definitions of the node classes.
        needs_definitions = any(v is None or isinstance(v, str) for v in values.values())
        if applied.unknown or needs_definitions:
            applied = apply_inputs(self._graph, values, definitions=self._known())
        for node_id in {node_id for node_id, _ in applied.given}:
            before, after = inputs_of(self._graph[node_id]), inputs_of(applied.graph[node_id])
            for name in before.keys() - after.keys():
                self._remove(node_id, name)
            for name, value in after.items():
                if (node_id, name) in applied.given or name not in before or before[name] != value:
                    self._put(node_id, name, value)
        files = {key: list(files_in(value)) for key, value in given.items()}
        for (node_id, name), key in applied.given.items():
            for path, file in files[key]:  # those in rows belong to the fields of the rows
                if (target := ".".join((name, *path))) in inputs_of(self._graph[node_id]):
                    self._files[node_id, target] = file
        return self

    def put(self, node_id: str, name: str, value: object) -> None:
        """Set one input of one node; the input is added if the node does not have it.

        Parameters
        ----------
        node_id, name : str
            The id of the node and the name of the input.
        value : object
            The value. A list that is no link to a node is wrapped as ``{"__value__": [...]}``, so
            that ComfyUI takes it for a list. A file is uploaded when it is needed. An output of
            a run is put in when that run has ended.
        """
        self._put(node_id, name, stored_value(plain(with_files(value, _file_name)), self._graph))
        if has_files(value):
            self._files[node_id, name] = value

    def file(self, node_id: str, name: str) -> Any:
        """Return the file that an input was set to, or None."""
        return self._files.get((node_id, name))

    def validate(self) -> Validation:
        """Return the errors that ComfyUI would find in the workflow, without queueing it.

        If ComfyUI does not answer, the definitions that it gave last are used.
        """
        with suppress(ComfyUIUnavailableError):
            self._upload_files()
        reply = self._server.post("workflow/validate", self.source.body())
        return Validation(reply, self.source)

    def schema(self) -> dict[str, Any]:
        """Return its inputs and outputs as JSON Schema.

        Returns
        -------
        dict
            ``inputs`` is the schema of the inputs of a run: types, ranges, choices, defaults and
            what is required; ``outputs`` has a property for each output node.
        """
        return dict(self._server.post("workflow/schema", self.source.body()))

    def to_api(self) -> dict[str, Any]:
        """Return the graph in API format, a copy."""
        self._upload_files()
        return copy.deepcopy(self._graph)

    def to_ui(self) -> dict[str, Any]:
        """Return the workflow in the format of ComfyUI's editor.

        If it was loaded in this format and has not been changed, this is what was loaded.
        Otherwise the server converts it and lays out the nodes.
        """
        if self._ui is not None and not self.changed:
            return copy.deepcopy(self._ui)
        reply = self._server.post("workflow/convert", {"workflow_api": self.to_api(), "to": "ui"})
        _warn(reply["warnings"])
        return dict(reply["workflow"])

    def to_notebook(self, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Return a notebook (nbformat 4.5) that runs the workflow, with its inputs as variables.

        Parameters
        ----------
        path : path, optional
            Also write it into this file, which is replaced if it exists.
        """
        from ..graphs.export import notebook

        made = notebook(self.to_api(), with_rows(self._whole_form()), title=self.title)
        if path is not None:
            write_text(path, json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        return made

    def to_python(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return a script that runs the workflow, with its inputs as variables.

        Parameters
        ----------
        path : path, optional
            Also write it into this file, which is replaced if it exists.
        """
        from ..graphs.export import python_script

        made = python_script(self.to_api(), with_rows(self._whole_form()), title=self.title)
        if path is not None:
            write_text(path, made)
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the workflow into a file, which is replaced if it exists.

        Returns its path. Raises InvalidRequestError if the name has another
        ending.

        Parameters
        ----------
        path : path
            ``.json`` for the API format, ``.ipynb`` for a notebook, ``.py`` for a script.
        """
        file = Path(path).expanduser()
        suffix = file.suffix.lower()
        if suffix == ".json":
            write_text(file, json.dumps(self.to_api(), indent=2, ensure_ascii=False) + "\n")
        elif suffix == ".ipynb":
            self.to_notebook(file)
        elif suffix == ".py":
            self.to_python(file)
        else:
            raise InvalidRequestError.of_field(
                "path", f"must end with .json, .ipynb or .py, not {file.name!r}"
            )
        return file

    def definitions(self) -> dict[str, Any]:
        """Return the definitions of the node classes; empty while ComfyUI does not answer."""
        if self._definitions is None:
            try:
                found = self._server.get("object_info")
            except ComfyDeployError:
                return {}
            self._definitions = found if isinstance(found, dict) else {}
            self._nodes = NodeDefinitions(self._definitions)
        return self._definitions

    def _known(self) -> NodeDefinitions:
        self.definitions()
        return self._nodes

    def __repr__(self) -> str:
        table = text_table(("", *row) for row in graph_rows(self._graph))
        return f"{self._headline()}\n{table}"

    def _repr_html_(self) -> str:
        table = html_table(("node", "class", "id", "inputs"), graph_rows(self._graph))
        return f"<div><b>{html.escape(self._headline())}</b>{table}</div>"

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        return f"Workflow{title}: {counted(len(self._graph), 'node')}"

    def _names(self) -> list[str]:
        """Return the titles and classes that only one node has, and the ids of other nodes."""
        titles = Counter(title_of(node) for node in self._graph.values())
        classes = Counter(class_of(node) for node in self._graph.values())
        names: dict[str, None] = {}
        for node_id, node in self._graph.items():
            title, kind = title_of(node), class_of(node)
            unique = [title] if title and titles[title] == 1 else []
            unique += [kind] if kind and classes[kind] == 1 and kind not in titles else []
            own = [name for name in unique if name not in self._graph]
            names.update(dict.fromkeys(own or [node_id]))
        return list(names)

    def _put(self, node_id: str, name: str, value: Any) -> None:
        node = self._graph[node_id]
        if is_link(value) or is_link(inputs_of(node).get(name)):
            # The graph in the editor's format has other links now, so it is not used any more.
            self._ui = None
        node["inputs"] = {**inputs_of(node), name: value}
        self._given[f"{node_id}.{name}"] = value
        self._files.pop((node_id, name), None)
        self._form = None

    def _remove(self, node_id: str, name: str) -> None:
        node = self._graph[node_id]
        node["inputs"] = {n: value for n, value in inputs_of(node).items() if n != name}
        self._given.pop(f"{node_id}.{name}", None)
        self._files.pop((node_id, name), None)
        self._form = None

    def _upload_files(self) -> None:
        """Upload the files that inputs were set to; set the inputs to the names of the uploads."""
        files = dict(self._files)
        for (node_id, name), stored in upload_all(self._server, files).items():
            self._put(node_id, name, stored_value(stored, self._graph))
        self._files = files


WorkflowSource: TypeAlias = Workflow | dict[str, Any] | str | bytes | os.PathLike[str] | None


def source_of(workflow: WorkflowSource) -> Source:
    """Return a workflow that a user gave in the form in which it is sent."""
    return workflow.source if isinstance(workflow, Workflow) else Source(workflow)


def _warn(problems: list[str]) -> None:
    if problems:
        text = "\n- ".join(["the conversion is not exact", *problems])
        warnings.warn(printable(text), stacklevel=4)


def _file_name(file: Any) -> str:
    """Return the name that is shown for a file until it is uploaded."""
    return file.name if isinstance(file, Path) else "picture.png"
