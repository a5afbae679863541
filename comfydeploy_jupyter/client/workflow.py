"""A workflow in the hands of a user: look at it, change it, check it, keep it."""

from __future__ import annotations

import copy
import difflib
import html
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, ComfyUIUnavailableError, InvalidRequestError
from ..graphs.form import input_form
from ..graphs.formats import (
    check_api_graph,
    class_of,
    declared_inputs,
    inputs_of,
    is_link,
    title_of,
)
from ..graphs.inputs import apply_inputs, stored_value
from .files import is_file, upload_all
from .graph import NodeName, Source, file_title, sentence
from .graph_text import counted, graph_rows, html_table, inputs_text, shown, text_table
from .server import encode
from .writing import write_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from ..graphs.form_fields import FormField
    from .server import Server


MAX_CANDIDATES = 20
"""How many names an error lists when none is close."""


class UnknownNameError(KeyError):
    """A workflow has no node or input of this name, or several; the message names candidates."""

    def __str__(self) -> str:
        return str(self.args[0])


class Workflow:
    """A ComfyUI workflow, made by `Comfy.load`.

    Nodes are found by id, by title or by class, where only one node has it. What is displayed is
    what runs: every change is made in the graph itself.

    An input may be set to a file: a `pathlib.Path` of this machine, a PIL image or an array. It is
    uploaded by each run to the ComfyUI that shall run it, and when the graph is wanted otherwise.

    Parameters
    ----------
    server : Server
        Converts, checks, and knows the node classes.
    source : dict, str, bytes, path, Source or Workflow
        As `Source` takes it. A dict or workflow is copied.
    ui : dict, optional
        The same workflow in the editor's format, beside a source in API format.
    title : str
        What it is called; by default the name of the file.

    Attributes
    ----------
    title : str
        What it is called, in notebooks and scripts made of it.

    Warns
    -----
    UserWarning
        A workflow of the editor has parts that could not be converted.

    Examples
    --------
    >>> workflow = comfy.load("portrait.png")                      # doctest: +SKIP
    >>> workflow["KSampler"].steps = 8                             # doctest: +SKIP
    >>> workflow.set(positive_prompt="a cat")                      # doctest: +SKIP
    >>> comfy.run(workflow)                                        # doctest: +SKIP
    """

    __slots__ = ("_definitions", "_files", "_form", "_given", "_graph", "_server", "_ui", "title")

    def __init__(
        self,
        server: Server,
        source: Workflow | Source | dict[str, Any] | str | bytes | os.PathLike[str],
        *,
        ui: dict[str, Any] | None = None,
        title: str = "",
    ) -> None:
        loaded = source.source if isinstance(source, Workflow) else source
        if not isinstance(loaded, Source):
            loaded = Source(loaded, ui=ui)
        self._server = server
        self._definitions: dict[str, Any] | None = None
        self._form: list[FormField] | None = None
        self._given = dict(loaded.given)
        self._files: dict[tuple[str, str], Any] = {}
        if isinstance(source, Workflow):
            self._files.update(source._files)
        known = source.title if isinstance(source, Workflow) else file_title(source)
        self.title: str = title or known
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
        nodes = [
            Node(self, NodeName(node_id, class_of(node), title_of(node)), node)
            for node_id, node in self._graph.items()
        ]
        by_id, by_title, by_class = (
            [node for node in nodes if getattr(node, name) == key]
            for name in ("id", "title", "class_type")
        )
        found = by_id or by_title or by_class
        if not found:
            raise _unknown(key, self._names(), "node of this workflow")
        if len(found) > 1:
            raise UnknownNameError(
                f"{key!r} are several nodes, name one of them by its id: "
                f"{', '.join(node.id for node in found)}"
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
        """What a user may want to change: a mapping of keys to values, which can be set."""
        return Inputs(self)

    @property
    def form(self) -> list[FormField]:
        """The fields behind `inputs`, with labels, ranges and choices, the most likely first."""
        if self._form is None:
            self._form = input_form(self._graph, self.definitions(), self._ui)
        return self._form

    def set(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> Workflow:
        """Set inputs by name.

        Parameters
        ----------
        inputs : dict, optional
            New values by ``"<node id>.<input>"``, ``"<node title>.<input>"``, the ``input_id`` of
            an external-input node, or the bare name of an input that only one node has.
        **named
            The same, for names that are identifiers.

        Returns
        -------
        Workflow
            This one.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or several; nothing is set then.
        """
        given = {**(inputs or {}), **named}
        files = {key: value for key, value in given.items() if is_file(value)}
        values = plain({**given, **{key: _stand_in(file) for key, file in files.items()}})
        applied = apply_inputs(self._graph, values, strict=False)
        # A text may be the option of a dynamic combo, None may remove an input: definitions tell.
        told = any(value is None or isinstance(value, str) for value in values.values())
        if applied.unknown or told:
            applied = apply_inputs(self._graph, values, definitions=self.definitions())
        for node_id in {node_id for node_id, _ in applied.given}:
            before, after = inputs_of(self._graph[node_id]), inputs_of(applied.graph[node_id])
            for name in before.keys() - after.keys():
                self._drop(node_id, name)
            for name, value in after.items():
                if (node_id, name) in applied.given or name not in before or before[name] != value:
                    self._put(node_id, name, value)
        for (node_id, name), key in applied.given.items():
            if key in files:
                self._files[node_id, name] = files[key]
        return self

    def put(self, node_id: str, name: str, value: object) -> None:
        """Set one input of one node, whether the node has it already or not.

        Parameters
        ----------
        node_id, name : str
            Which.
        value : object
            A list that is no link to a node becomes what ComfyUI takes for a list; a file is
            uploaded when it is needed.
        """
        if is_file(value):
            self._put(node_id, name, _stand_in(value))
            self._files[node_id, name] = value
        else:
            self._put(node_id, name, stored_value(plain(value), self._graph))

    def file(self, node_id: str, name: str) -> Any:
        """Return the file that an input was set to, or None."""
        return self._files.get((node_id, name))

    def validate(self) -> Validation:
        """Ask what ComfyUI would say of the workflow, without queueing it.

        Returns
        -------
        Validation
            Also when ComfyUI is down: then by the node definitions that were seen last.
        """
        with suppress(ComfyUIUnavailableError):
            self._deliver()
        reply = self._server.post("workflow/validate", self.source.body())
        return Validation(reply, self.source)

    def to_api(self) -> dict[str, Any]:
        """Return the graph in API format, a copy."""
        self._deliver()
        return copy.deepcopy(self._graph)

    def to_ui(self) -> dict[str, Any]:
        """Return the workflow in the format of ComfyUI's editor.

        As the editor saved it, where it came from there and was not changed since; else laid out
        anew by the server.
        """
        if self._ui is not None and not self.changed:
            return copy.deepcopy(self._ui)
        reply = self._server.post("workflow/convert", {"workflow_api": self.to_api(), "to": "ui"})
        _warn(_problems(reply))
        return dict(reply["workflow"])

    def to_notebook(self, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Return a notebook (nbformat 4.5) that runs the workflow, its inputs as variables.

        Parameters
        ----------
        path : path, optional
            Also write it there; a file of that name is replaced.
        """
        from ..graphs.notebook import notebook

        made = notebook(self.to_api(), self.form, title=self.title)
        if path is not None:
            write_text(path, json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        return made

    def to_python(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return a script that runs the workflow, its inputs as variables.

        Parameters
        ----------
        path : path, optional
            Also write it there; a file of that name is replaced.
        """
        from ..graphs.python_script import python_script

        made = python_script(self.to_api(), self.form, title=self.title)
        if path is not None:
            write_text(path, made)
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the workflow into a file, which is replaced if it exists.

        Parameters
        ----------
        path : path
            ``.json`` for the API format, ``.ipynb`` for a notebook, ``.py`` for a script.

        Returns
        -------
        Path
            Where it is now.

        Raises
        ------
        InvalidRequestError
            The name ends otherwise.
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
        """Return the definitions of the node classes, empty while no server knows them."""
        if self._definitions is None:
            try:
                found = self._server.get("object_info")
            except ComfyDeployError:
                return {}
            self._definitions = found if isinstance(found, dict) else {}
        return self._definitions

    def __repr__(self) -> str:
        table = text_table(("", *row) for row in graph_rows(self._graph))
        return f"{self._headline()}\n{table}"

    def _repr_html_(self) -> str:
        table = html_table(("id", "class", "title", "inputs"), graph_rows(self._graph))
        return f"<div><b>{html.escape(self._headline())}</b>{table}</div>"

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        return f"Workflow{title}: {counted(len(self._graph), 'node')}"

    def _names(self) -> list[str]:
        """Return every name that is one node: ids, titles, classes."""
        titles = [title_of(node) for node in self._graph.values()]
        classes = [class_of(node) for node in self._graph.values()]
        names = dict.fromkeys(
            [
                *self._graph,
                *(title for title in titles if title and titles.count(title) == 1),
                *(c for c in classes if c and classes.count(c) == 1 and c not in titles),
            ]
        )
        return list(names)

    def _put(self, node_id: str, name: str, value: Any) -> None:
        node = self._graph[node_id]
        if is_link(value) or is_link(inputs_of(node).get(name)):
            # With other links this is another graph than the one that the editor saved.
            self._ui = None
        node["inputs"] = {**inputs_of(node), name: value}
        self._given[f"{node_id}.{name}"] = value
        self._files.pop((node_id, name), None)
        self._form = None

    def _drop(self, node_id: str, name: str) -> None:
        node = self._graph[node_id]
        node["inputs"] = {n: value for n, value in inputs_of(node).items() if n != name}
        self._given.pop(f"{node_id}.{name}", None)
        self._files.pop((node_id, name), None)
        self._form = None

    def _deliver(self) -> None:
        """Upload the files that inputs were set to, and put their names there into the graph."""
        files = dict(self._files)
        for (node_id, name), stored in upload_all(self._server, files).items():
            self._put(node_id, name, stored)
        self._files = files


class Node:
    """One node of a `Workflow`: its inputs are attributes and items, which can be set.

    Items are always inputs; attributes are, but for the four below.

    Parameters
    ----------
    workflow : Workflow
        Where it is.
    name : NodeName
        How it is called.
    node : dict
        Its entry in the graph.

    Attributes
    ----------
    id, class_type, title : str
        How it is called.
    inputs : dict
        A copy of all its inputs.
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
            declared = declared_inputs(self._workflow.definitions(), self.class_type)
            if name not in declared:
                raise self._unknown(name, [*inputs_of(self._node), *declared])
        self._workflow.put(self.id, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python and IPython ask any object for
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownNameError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name} cannot be set; an input of that name is node[{name!r}]")
        try:
            self[name] = value
        except UnknownNameError as error:
            raise AttributeError(str(error)) from None

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
        return f"Node {self._name}: {inputs_text(inputs_of(self._node))}"

    def _unknown(self, name: object, known: Iterable[str]) -> UnknownNameError:
        return _unknown(name, known, f"input of node {self._name}")


class Inputs(Mapping[str, Any]):
    """The inputs of a workflow that a user may want to change: keys to values.

    Setting one is `Workflow.set`: any name of an input will do.

    Parameters
    ----------
    workflow : Workflow
        Whose they are.
    """

    __slots__ = ("_workflow",)

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    def __getitem__(self, key: str) -> Any:
        fields = {field.key: field for field in self._workflow.form}
        if key not in fields:
            raise _unknown(key, fields, "input of this workflow")
        field = fields[key]
        file = self._workflow.file(field.node_id, field.input_name)
        return field.value if file is None else file

    def __setitem__(self, key: str, value: object) -> None:
        twins = next((field.twins for field in self._workflow.form if field.key == key), ())
        self._workflow.set(dict.fromkeys((key, *twins), value))

    def __iter__(self) -> Iterator[str]:
        return iter([field.key for field in self._workflow.form])

    def __len__(self) -> int:
        return len(self._workflow.form)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (field.key, field.label, shown(field.value), _range_of(field))
            for field in self._workflow.form
        ]

    def __repr__(self) -> str:
        return text_table(self._rows()) or "no inputs"

    def _repr_html_(self) -> str:
        return html_table(("key", "input", "value", "range"), self._rows())


class Validation(Mapping[str, Any]):
    """What ComfyUI would say of a workflow: the reply of the route, which reads well.

    Parameters
    ----------
    reply : dict
        Has ``valid``, ``error``, ``node_errors``, ``outputs``, ``missing_nodes``,
        ``missing_models``, ``warnings`` and ``definitions``.
    source : Source
        The workflow, for the names of nodes.

    Attributes
    ----------
    valid : bool
        Whether ComfyUI would run it, all of it or a part.
    problems : list of str
        A sentence for each thing that is wrong, with the names of the nodes.
    by_node : dict of str to list of str
        The same by node id, without the names.
    general : list of str
        What is not about a node: ComfyUI's error where it names none, and warnings.
    """

    def __init__(self, reply: dict[str, Any], source: Source) -> None:
        self._reply = reply
        self.valid = bool(reply.get("valid"))
        self.by_node: dict[str, list[str]] = {}
        self.general: list[str] = []
        self.problems = source.complaints(reply.get("node_errors"))
        error = reply.get("error")
        if isinstance(error, dict) and not self.problems:
            self.general.append(sentence(error))
        for node_id, fault in (reply.get("node_errors") or {}).items():
            self.by_node[str(node_id)] = [sentence(item) for item in fault.get("errors") or ()]
        missing = list(reply.get("missing_nodes") or ())
        models = list(reply.get("missing_models") or ())
        for entry in missing:
            for node_id in entry.get("node_ids") or ():
                self._find(node_id, _no_class(entry))
        for entry in models:
            self._find(entry.get("node_id"), _no_model(entry))
        warned = [str(warning) for warning in reply.get("warnings") or ()]
        self.problems += self.general
        self.problems += map(_missing_class, missing)
        self.problems += map(_missing_model, models)
        self.problems += warned
        self.general += warned

    @property
    def doubt(self) -> str:
        """Why this may not be the last word; empty where ComfyUI itself was asked."""
        known = self._reply.get("definitions")
        source = str(known.get("source")) if isinstance(known, dict) else "live"
        return "" if source == "live" else f"by {source} node definitions: ComfyUI is down"

    def _find(self, node_id: object, finding: str) -> None:
        self.by_node.setdefault(str(node_id), []).append(finding)

    def __getitem__(self, key: str) -> Any:
        return self._reply[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reply)

    def __len__(self) -> int:
        return len(self._reply)

    def __repr__(self) -> str:
        verdict = "valid" if self.valid else "not valid"
        doubt = f", {self.doubt}" if self.doubt else ""
        return "\n- ".join([f"The workflow is {verdict}{doubt}", *self.problems])

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{html.escape(repr(self))}</pre>'


def in_api_format(server: Server, source: Source) -> tuple[Source, list[str]]:
    """Return a workflow with its graph in API format, and what of it could not be converted.

    Parameters
    ----------
    server : Server
        Converts what is in the editor's format.
    source : Source
        In either format.
    """
    if not source.is_ui:
        return source, []
    reply = server.post("workflow/convert", {"workflow": source.graph, "to": "api"})
    converted = Source(
        reply["workflow_api"], ui=source.graph, given=source.given, files=source.files
    )
    return converted, _problems(reply)


def _problems(reply: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in reply.get("warnings") or ()]


def _warn(problems: list[str]) -> None:
    if problems:
        warnings.warn("\n- ".join(["the conversion is not exact", *problems]), stacklevel=4)


def _unknown(name: object, known: Iterable[str], what: str) -> UnknownNameError:
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(str(name), names, n=5)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = (
            f"there are {', '.join(map(repr, names[:MAX_CANDIDATES]))}" if names else "it has none"
        )
    return UnknownNameError(f"{name!r} is no {what}; {hint}")


def _no_class(entry: dict[str, Any]) -> str:
    from_ = ""
    if entry.get("needs"):
        from_ = f"; it needs {entry['needs']}"
    elif entry.get("pack"):
        from_ = f"; it is in the node pack {entry['pack']}"
    return f"ComfyUI has no node class {entry.get('class_type')}{from_}"


def _missing_class(entry: dict[str, Any]) -> str:
    words, semicolon, pack = _no_class(entry).partition(";")
    nodes = ", ".join(map(str, entry.get("node_ids") or ()))
    return f"{words} (id {nodes}){semicolon}{pack}"


def _no_model(entry: dict[str, Any]) -> str:
    folder = f" in models/{entry['folder']}" if entry.get("folder") else ""
    url = f"; it is at {entry['url']}" if entry.get("url") else ""
    return f"ComfyUI has no {entry.get('name')}{folder}{url}"


def _missing_model(entry: dict[str, Any]) -> str:
    words, semicolon, url = _no_model(entry).partition("; it is at ")
    return f"{words} (id {entry.get('node_id')}){semicolon}{url}"


def _range_of(field: FormField) -> str:
    if field.options:
        more = " …" if len(field.options) > 4 else ""
        return ", ".join(map(str, field.options[:4])) + more
    if field.min is not None and field.max is not None:
        return f"{field.min} to {field.max}"
    return ""


def _stand_in(file: Any) -> str:
    """Return what is shown of a file until it is uploaded."""
    return file.name if isinstance(file, Path) else "picture.png"


def plain(value: Any) -> Any:
    """Return a copy of what JSON makes of a value: no numpy, no paths, no tuples."""
    return json.loads(encode({"value": value}))["value"]
