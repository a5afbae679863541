"""``comfy.models``: list, move and delete the models of ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError
from .files import Model
from .server import without_none

if TYPE_CHECKING:
    from .server import Server

MOVE_TIMEOUT = 3600.0  # s; a model is copied if it is moved to another disk


class ModelUses(NamedTuple):
    """What uses a model.

    Attributes
    ----------
    in_use : bool
        Whether a run that has not ended, a prompt in ComfyUI's queue or a transfer uses it now, as
        far as is known: a ComfyUI that does not answer is left out.
    workflows : list of str
        The names of the stored workflows that name it.
    runs : list of str
        The ids of the runs that name it: those that have not ended, then the newest of the last
        1,000 others; at most 20.
    run_count : int
        Number of all of these runs.
    transfers : list of str
        The ids of the transfers of its file that have not ended.
    """

    in_use: bool
    workflows: list[str]
    runs: list[str]
    run_count: int
    transfers: list[str]


class Models:
    """The models of ComfyUI: ``comfy.models(…)`` lists them.

    A model is given as ``"<folder>/<name>"`` or as a `Model` of the list.

    Parameters
    ----------
    server : Server
        The server.

    Examples
    --------
    >>> comfy.models("loras", search="ink")                                   # doctest: +SKIP
    >>> comfy.models.uses("loras/ink.safetensors")                            # doctest: +SKIP
    >>> comfy.models.move("loras/ink.safetensors", name="style/ink.safetensors")  # doctest: +SKIP
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return "comfy.models(…), comfy.models.uses(…), comfy.models.move(…), comfy.models.delete(…)"

    def __call__(
        self, folder: str | None = None, *, search: str | None = None, machine: str | None = None
    ) -> list[Model]:
        """Return the model files of ComfyUI.

        Parameters
        ----------
        folder : str, optional
            Only those of one folder, e.g. ``checkpoints``.
        search : str, optional
            Words that must be in the name.
        machine : str, optional
            The machine that has them.
        """
        found = self._server.get("models", folder=folder, search=search, machine=machine)
        names = Model.__dataclass_fields__
        return [Model(**{k: v for k, v in model.items() if k in names}) for model in found]

    def uses(self, model: str | Model, *, machine: str | None = None) -> ModelUses:
        """Return what uses a model: stored workflows, runs and transfers.

        Raises
        ------
        NotFoundError
            There is no such model in the folders of this machine.
        """
        folder, name = _parts(model)
        found = self._server.get("models/uses", folder=folder, filename=name, machine=machine)
        return ModelUses(
            found["in_use"],
            [use["name"] for use in found["workflows"]],
            [use["prompt_id"] for use in found["runs"]],
            found["run_count"],
            [use["id"] for use in found["transfers"]],
        )

    def move(
        self,
        model: str | Model,
        folder: str | None = None,
        name: str | None = None,
        *,
        in_use: bool = False,
        machine: str | None = None,
    ) -> str:
        """Move a model to another models folder, or give it another name; return its new path.

        Nothing is replaced. Its hashes stay known. Workflows that name it are not changed.

        Parameters
        ----------
        model : str or Model
            The model.
        folder : str, optional
            The new models folder, e.g. ``checkpoints``; by default it stays.
        name : str, optional
            The new name, with its subfolder; by default it stays.
        in_use : bool
            Whether it is moved although a run or a transfer uses it now.
        machine : str, optional
            The machine that has it.

        Raises
        ------
        ConflictError
            Another file is there, a run or a transfer uses the model, or a ComfyUI that has the
            model does not answer.
        InvalidRequestError, NotFoundError, ForbiddenPathError
            The model does not exist, or it may not be there.
        """
        fields = {"to_folder": folder, "to_filename": name}
        reply = self._change("move", model, in_use, machine, fields)
        return str(reply["path"])

    def delete(
        self, model: str | Model, *, in_use: bool = False, machine: str | None = None
    ) -> None:
        """Delete the file of a model. This cannot be undone.

        Parameters
        ----------
        model : str or Model
            The model.
        in_use : bool
            Whether it is deleted although a run or a transfer uses it now.
        machine : str, optional
            The machine that has it.

        Raises
        ------
        ConflictError
            A run or a transfer uses the model, or a ComfyUI that has it does not answer;
            ``error.details["uses"]`` has what is known.
        NotFoundError, ForbiddenPathError
            The model does not exist, or may not be deleted.
        """
        self._change("delete", model, in_use, machine, {})

    def _change(
        self,
        action: str,
        model: str | Model,
        in_use: bool,
        machine: str | None,
        fields: dict[str, str | None],
    ) -> dict[str, Any]:
        folder, name = _parts(model)
        body = {"action": action, "folder": folder, "filename": name, "in_use": in_use}
        optional = without_none({"machine": machine, **fields})
        return dict(self._server.post("volume/model", {**body, **optional}, timeout=MOVE_TIMEOUT))


def _parts(model: str | Model) -> tuple[str, str]:
    """Return the models folder and the name of a model."""
    if isinstance(model, Model):
        return model.folder, model.name
    folder, slash, name = model.removeprefix("models/").partition("/")
    if not slash or not name:
        raise InvalidRequestError.of_field("model", f"must be <folder>/<name>, not {model!r}")
    return folder, name
