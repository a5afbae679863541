"""Workflows that are stored on the server, their versions and presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urljoin

from ..errors import InvalidRequestError, printable
from ..graphs.diff import GraphDiff, diff_graphs
from .graph import Source, file_title
from .server import Record
from .workflow import Workflow

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from .server import Server


class EditorWorkflow:
    """A workflow file of ComfyUI's editor; made by `Workflows.in_editor`."""

    def __init__(self, server: Server, record: dict[str, Any], machine: str | None = None) -> None:
        self._server = server
        self._machine = machine
        self.path = str(record["path"])
        """Its path in the editor's folder, such as ``people/portrait.json``."""
        self.size = int(record["size"])
        """Its size, bytes."""
        self.updated_at = str(record["updated_at"])
        """When it was last changed: ISO 8601, UTC."""

    @property
    def name(self) -> str:
        """Its name without folders and ending."""
        return self.path.rpartition("/")[2].removesuffix(".json")

    @property
    def source(self) -> Source:
        """Its graph, as it is now."""
        found = self._server.get("editor/workflow", file=self.path, machine=self._machine)
        return Source(found["workflow"] or found["workflow_api"])

    def load(self) -> Workflow:
        """Return it as a `Workflow`, as ``comfy.load`` does."""
        return Workflow(self._server, self.source, title=self.name)

    def __repr__(self) -> str:
        when = self.updated_at[:16].replace("T", " ")
        return printable(f"<editor workflow {self.path!r}, {when}>")


class Preset:
    """Named values for the inputs of a stored workflow.

    Made by `Presets`.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        """The server's record of it."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.record["name"])

    @property
    def inputs(self) -> dict[str, Any]:
        """The values, as ``inputs`` of ``comfy.run`` takes them."""
        return dict(self.record["inputs"])

    @property
    def locked(self) -> list[str]:
        """The keys of the seeds that are not drawn anew for each run."""
        return list(self.record["locked"])

    @property
    def revision(self) -> str:
        """Changes with the content: equal presets have equal revisions."""
        return str(self.record["revision"])

    def __repr__(self) -> str:
        return f"<preset {self.name!r}, {len(self.inputs)} values>"


class Presets:
    """The presets of one stored workflow: ``comfy.workflows.get(id).presets``.

    Examples
    --------
    >>> stored.presets.save("Softer light", {"3.steps": 30})        # doctest: +SKIP
    >>> comfy.run(stored.load(), stored.presets["softer light"].inputs)  # doctest: +SKIP
    """

    def __init__(self, server: Server, workflow_id: str) -> None:
        self._server = server
        self.workflow_id = workflow_id
        """The workflow."""

    def list(self) -> list[Preset]:
        """Return the presets by name.

        Raises NotFoundError if there is no such workflow.
        """
        rows = self._server.get("workflow/presets", workflow_id=self.workflow_id)
        return [Preset(row) for row in rows]

    def __getitem__(self, name: str) -> Preset:
        """Return the preset of a name; case does not matter.

        Raises KeyError if there is no such preset.
        """
        for preset in self.list():
            if preset.name.casefold() == name.casefold():
                return preset
        raise KeyError(name)

    def save(
        self,
        name: str,
        inputs: Mapping[str, Any],
        *,
        locked: Sequence[str] = (),
        revision: str | None = None,
    ) -> Preset:
        """Store values under a name; a preset with this name is replaced.

        Parameters
        ----------
        name : str
            The name; case does not matter.
        inputs : dict
            The values, as ``inputs`` of ``comfy.run`` takes them, without files.
        locked : sequence of str
            The keys of the seeds that are not drawn anew for each run.
        revision : str, optional
            The revision to replace; ``""`` for a new preset. By default any revision is
            replaced.

        Raises
        ------
        NotFoundError
            There is no such workflow.
        ConflictError
            The preset has another revision; ``details["preset"]`` is its record, or None if it has
            been deleted.
        InvalidRequestError
            The values are too large, or there are too many presets.
        """
        reply = self._server.post(
            "workflow/preset",
            workflow_id=self.workflow_id,
            name=name,
            inputs=dict(inputs),
            locked=[*locked],
            revision=revision,
        )
        return Preset(reply)

    def delete(self, name: str, *, revision: str | None = None) -> Preset:
        """Delete a preset, and return it.

        Parameters
        ----------
        name : str
            The name; case does not matter.
        revision : str, optional
            The revision to delete; by default any.

        Raises
        ------
        NotFoundError
            There is no such workflow or preset.
        ConflictError
            The preset has another revision.
        """
        reply = self._server.post(
            "workflow/preset/delete", workflow_id=self.workflow_id, name=name, revision=revision
        )
        return Preset(reply)

    def __repr__(self) -> str:
        return f"<Presets of workflow {self.workflow_id}>"


class WorkflowVersion(Record["Workflows"]):
    """One version of a stored workflow. It never changes.

    Made by `Workflows.version` and `Workflows.versions`. Versions in a list have no graphs; these
    are fetched when they are used.
    """

    @property
    def workflow_id(self) -> str:
        """The id of the workflow."""
        return str(self.record["workflow_id"])

    @property
    def number(self) -> int:
        """The number of the version, from 1."""
        return int(self.record["version"])

    @property
    def comment(self) -> str:
        """The comment of its author."""
        return str(self.record.get("comment") or "")

    @property
    def created_at(self) -> str:
        """When it was saved: ISO 8601, UTC."""
        return str(self.record.get("created_at") or "")

    @property
    def workflow(self) -> dict[str, Any] | None:
        """The graph in the editor's format, if it was saved."""
        return self._graph("workflow")

    @property
    def workflow_api(self) -> dict[str, Any] | None:
        """The graph in API format, if it was saved or could be converted."""
        return self._graph("workflow_api")

    @property
    def graph(self) -> dict[str, Any]:
        """A graph that can be given to ``comfy.run``: in API format if there is one."""
        return self.workflow_api or self.workflow or {}

    def _graph(self, field: str) -> dict[str, Any] | None:
        if field not in self.record:
            self.record = self._home.version(self.workflow_id, self.number).record
        graph = self.record.get(field)
        return graph if isinstance(graph, dict) else None

    def load(self, title: str = "") -> Workflow:
        """Return it as a `Workflow`, as ``comfy.load`` does.

        Parameters
        ----------
        title : str
            The title of the workflow.
        """
        return Workflow(self._home.server, graphs_of(self), title=title)

    def __repr__(self) -> str:
        comment = f" {self.comment!r}" if self.comment else ""
        return f"<version {self.number}{comment}, {_day(self.created_at)}>"


class StoredWorkflow(Record["Workflows"]):
    """A workflow that is stored on the server.

    Made by `Workflows`.
    """

    @property
    def id(self) -> str:
        """Its id, which the routes call ``workflow_id``."""
        return str(self.record["id"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.record.get("name") or "")

    @property
    def latest_version(self) -> int | None:
        """The number of its newest version; None in lists of ComfyDeploy, which do not have it."""
        return self.record.get("latest_version")

    @property
    def updated_at(self) -> str:
        """When it was last changed: ISO 8601, UTC."""
        return str(self.record.get("updated_at") or "")

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self.record.get("tags") or [])

    def rename(self, name: str) -> StoredWorkflow:
        """Rename it, and return it."""
        return self._home.change(self.id, name=name)

    def tag(self, *tags: str) -> StoredWorkflow:
        """Replace its tags by these, and return it."""
        return self._home.change(self.id, tags=tags)

    def edit(self) -> str:
        """Put it into the folder of ComfyUI's editor; return the address of the page that opens it.

        What is saved on that page becomes a new version.
        """
        return self._home.edit(self.id)

    def delete(self) -> None:
        """Delete it, with its versions and presets; `Workflows.restore` takes that back."""
        self._home.delete(self.id)

    @property
    def presets(self) -> Presets:
        """Its presets: named values for its inputs."""
        return Presets(self._home.server, self.id)

    def version(self, number: int | Literal["latest"] = "latest") -> WorkflowVersion:
        """Return one version, with its graphs."""
        return self._home.version(self.id, number)

    def load(self) -> Workflow:
        """Return its newest version as a `Workflow`, as ``comfy.load`` does."""
        return self.version().load(self.name)

    def schema(self, version: int | Literal["latest"] = "latest") -> dict[str, Any]:
        """Return the inputs and outputs of a version as JSON Schema; see `Workflow.schema`."""
        return self._home.schema(self.id, version)

    def versions(self, search: str = "") -> VersionList:
        """Return its versions, newest first."""
        return self._home.versions(self.id, search)

    def __repr__(self) -> str:
        latest = f" v{self.latest_version}" if self.latest_version else ""
        return printable(f"<workflow {self.name!r}{latest}, {_day(self.updated_at)}, id {self.id}>")


VersionList: TypeAlias = list[WorkflowVersion]
WorkflowList: TypeAlias = list[StoredWorkflow]
EditorWorkflowList: TypeAlias = list[EditorWorkflow]


class Workflows:
    """The workflows that a server stores: ``comfy.workflows``.

    Examples
    --------
    >>> saved = comfy.workflows.save("portrait.json", comment="softer light")  # doctest: +SKIP
    >>> comfy.workflows.list(search="portrait")                     # doctest: +SKIP
    >>> comfy.run(saved.version(1).load())                          # doctest: +SKIP
    """

    def __init__(self, server: Server, target: Literal["local", "cloud"] = "local") -> None:
        self.server = server
        """The Jupyter server."""
        self._target = target

    @property
    def cloud(self) -> Workflows:
        """The workflows in ComfyDeploy."""
        return Workflows(self.server, "cloud")

    def list(self, search: str = "", *, limit: int = 100, offset: int = 0) -> WorkflowList:
        """Return workflows, the last changed first.

        Parameters
        ----------
        search : str
            Only those whose name, tags or comments contain this text; case does not matter.
        limit, offset : int
            How many to return, and how many to skip.
        """
        rows = self._get("workflows", search=search or None, limit=limit, offset=offset)
        return [StoredWorkflow(self, row) for row in rows]

    def get(self, workflow_id: str) -> StoredWorkflow:
        """Return a workflow by its id.

        Raises NotFoundError if there is no such workflow.
        """
        return StoredWorkflow(self, self._get("workflow", workflow_id=workflow_id))

    def save(
        self,
        workflow: Workflow | dict[str, Any] | str | os.PathLike[str],
        name: str | None = None,
        *,
        workflow_id: str | None = None,
        workflow_api: dict[str, Any] | None = None,
        comment: str = "",
        machine_id: str | None = None,
        force: bool = False,
    ) -> StoredWorkflow:
        """Store a workflow, or a new version of one.

        ``record["new_version"]`` of the result says whether a new version was stored.

        Parameters
        ----------
        workflow : Workflow, dict, str or path
            In API format or in the editor's: what ``comfy.load`` returned, a dict, JSON text, or
            the path of a file that ``comfy.load`` takes. A `Workflow` that was changed is stored in
            API format only, since the values in the editor's format are the old ones.
        name : str, optional
            Its name; by default the title of the workflow, or the name of the file.
        workflow_id : str, optional
            The workflow that gets a new version, if the graph has changed.
        workflow_api : dict, optional
            The same graph in API format, if `workflow` is in the editor's format.
        comment : str
            A comment on this version.
        machine_id : str, optional
            The machine that it is for.
        force : bool
            Store a new version even if the graph has not changed.

        Raises
        ------
        NotFoundError
            There is no workflow of that id.
        InvalidRequestError
            It is not a workflow, or it is new and has no name.
        """
        if isinstance(workflow, Workflow):
            source = Source(workflow.to_api(), ui=None if workflow.changed else workflow.source.ui)
        else:
            source = Source(workflow)
        if workflow_api is not None and not source.is_ui:
            raise InvalidRequestError.of_field("workflow_api", "workflow is already in API format")
        if name is None and workflow_id is None:
            title = workflow.title if isinstance(workflow, Workflow) else file_title(workflow)
            name = title or None
        reply = self.server.post(
            "workflow",
            source.body(),
            name=name,
            workflow_id=workflow_id,
            workflow_api=workflow_api,
            comment=comment or None,
            machine_id=machine_id,
            force=force or None,
            target=self._target,
        )
        return StoredWorkflow(self, reply)

    def change(
        self, workflow_id: str, *, name: str | None = None, tags: Sequence[str] | None = None
    ) -> StoredWorkflow:
        """Rename a workflow in the local store, or give it other tags.

        Raises NotFoundError if there is no such workflow.

        Parameters
        ----------
        name : str, optional
            Its new name.
        tags : sequence of str, optional
            All its tags from now on.
        """
        given = None if tags is None else list(tags)
        reply = self.server.post("workflow/update", workflow_id=workflow_id, name=name, tags=given)
        return StoredWorkflow(self, reply)

    def delete(self, workflow_id: str) -> StoredWorkflow:
        """Delete a workflow in the local store, with its versions and presets; return it.

        It can be restored for 30 days. Its runs stay. Raises NotFoundError if there is no
        such workflow.
        """
        reply = self.server.post("workflow/delete", {"workflow_id": workflow_id})
        return StoredWorkflow(self, reply)

    def restore(self, workflow_id: str) -> StoredWorkflow:
        """Restore a workflow that was deleted, and return it.

        Raises NotFoundError if there is no such deleted workflow.
        """
        reply = self.server.post("workflow/restore", {"workflow_id": workflow_id})
        return StoredWorkflow(self, reply)

    def edit(self, workflow_id: str) -> str:
        """Put the newest version of a workflow into the folder of ComfyUI's editor.

        What is saved on ComfyUI's page below Jupyter's address becomes a new version.
        Returns the address of the page that opens it.

        Raises
        ------
        NotFoundError
            There is no such workflow, or ComfyUI's page is turned off.
        ComfyUIUnavailableError
            ComfyUI does not answer.
        """
        reply = self.server.post("workflow/edit", {"workflow_id": workflow_id})
        return urljoin(self.server.url, str(reply["url"]))

    def in_editor(self, machine: str | None = None) -> EditorWorkflowList:
        """Return the workflows that ComfyUI's editor keeps in its own folder, newest first.

        Raises ComfyUIUnavailableError if ComfyUI does not answer, or cannot list them.
        """
        rows = self.server.get("editor/workflows", machine=machine)
        return [EditorWorkflow(self.server, row, machine) for row in rows]

    def versions(
        self, workflow_id: str, search: str = "", *, limit: int = 100, offset: int = 0
    ) -> VersionList:
        """Return the versions of a workflow, newest first.

        Raises NotFoundError if there is no such workflow.

        Parameters
        ----------
        search : str
            Only those whose comment contains this text; case does not matter.
        limit, offset : int
            How many to return, and how many to skip.
        """
        rows = self._get(
            "workflow/versions",
            workflow_id=workflow_id,
            search=search or None,
            limit=limit,
            offset=offset,
        )
        return [WorkflowVersion(self, row) for row in rows]

    def version(
        self, workflow_id: str, number: int | Literal["latest"] = "latest"
    ) -> WorkflowVersion:
        """Return one version with its graphs.

        Raises NotFoundError if there is no such workflow or version.
        """
        record = self._get("workflow/version", workflow_id=workflow_id, version=number)
        return WorkflowVersion(self, record)

    def schema(
        self, workflow_id: str, number: int | Literal["latest"] = "latest"
    ) -> dict[str, Any]:
        """Return the inputs and outputs of a version as JSON Schema; see `Workflow.schema`.

        Raises NotFoundError if there is no such workflow or version.
        """
        return dict(self._get("workflow/schema", workflow_id=workflow_id, version=number))

    def diff(
        self,
        workflow_id: str,
        old: int | Literal["latest"],
        new: int | Literal["latest"] = "latest",
    ) -> GraphDiff:
        """Return the differences between two versions.

        Parameters
        ----------
        old, new : int or "latest"
            The versions.

        Returns
        -------
        GraphDiff
            The differences between the graphs in API format, if both versions have one and they
            differ; otherwise between those in the editor's format.

        Raises
        ------
        NotFoundError
            There is no such workflow or version.
        InvalidRequestError
            The versions have no format in common.
        """
        a, b = self.version(workflow_id, old), self.version(workflow_id, new)
        found = [
            diff_graphs(before, after)
            for before, after in ((a.workflow_api, b.workflow_api), (a.workflow, b.workflow))
            if before is not None and after is not None
        ]
        if not found:
            raise InvalidRequestError(
                f"versions {a.number} and {b.number} have no graph in the same format"
            )
        return next((diff for diff in found if diff), found[-1])

    def _get(self, path: str, **params: Any) -> Any:
        return self.server.get(path, target=self._target, **params)

    def __repr__(self) -> str:
        where = "ComfyDeploy, through " if self._target == "cloud" else ""
        return f"<Workflows of {where}{self.server.url}>"


def graphs_of(version: WorkflowVersion) -> Source:
    """Return the graphs of a version as a `Source`."""
    graph = version.workflow_api or version.workflow
    if graph is None:
        raise InvalidRequestError.of_field("workflow", "this version has no graph")
    return Source(graph, ui=version.workflow if version.workflow_api else None)


def _day(timestamp: str) -> str:
    return timestamp[:16].replace("T", " ") or "at an unknown time"
