"""Presets: named values for the inputs of a stored workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .server import without_none

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .server import Server


class Preset:
    """Named values for the inputs of a stored workflow.

    Made by `Presets`.

    Parameters
    ----------
    record : dict
        The server's record of it.

    Attributes
    ----------
    record : dict
        The server's record of it.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

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

    Parameters
    ----------
    server : Server
        The Jupyter server.
    workflow_id : str
        The workflow, which is stored on this server.

    Attributes
    ----------
    workflow_id : str
        The workflow.

    Examples
    --------
    >>> stored.presets.save("Softer light", {"3.steps": 30})        # doctest: +SKIP
    >>> comfy.run(stored.load(), stored.presets["softer light"].inputs)  # doctest: +SKIP
    """

    def __init__(self, server: Server, workflow_id: str) -> None:
        self._server = server
        self.workflow_id = workflow_id

    def list(self) -> list[Preset]:
        """Return the presets by name.

        Raises
        ------
        NotFoundError
            There is no such workflow.
        """
        rows = self._server.get("workflow/presets", workflow_id=self.workflow_id)
        return [Preset(row) for row in rows]

    def __getitem__(self, name: str) -> Preset:
        """Return the preset of a name; case does not matter.

        Raises
        ------
        KeyError
            There is no such preset.
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
        body = {
            "workflow_id": self.workflow_id,
            "name": name,
            "inputs": dict(inputs),
            "locked": [*locked],
            "revision": revision,
        }
        return Preset(self._server.post("workflow/preset", without_none(body)))

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
        body = {"workflow_id": self.workflow_id, "name": name, "revision": revision}
        return Preset(self._server.post("workflow/preset/delete", without_none(body)))

    def __repr__(self) -> str:
        return f"<Presets of workflow {self.workflow_id}>"
