"""The request that runs a workflow."""

from __future__ import annotations

import uuid
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError, InvalidRequestError, PromptInvalidError
from ..graphs.issues import NOT_HERE
from ..graphs.model_files import listed_models
from .files import has_files, upload_all
from .options import check_options
from .stream import EventStream

if TYPE_CHECKING:
    from .graph import Source
    from .machines import Machines
    from .server import Server

LARGEST_SEED = 2**64 - 1  # of ComfyUI's own nodes


class RunRequest:
    """A request that runs a workflow.

    Parameters
    ----------
    server : Server
        The server that runs it.
    source : Source
        The workflow.
    options : dict
        The options of `Comfy.run`.
    **fields
        Further fields of the body.

    Attributes
    ----------
    prompt_id : str
        The id that the run will have.

    Raises
    ------
    TypeError
        There is no such option.
    InvalidRequestError
        There is neither a workflow nor the option ``workflow_id``.
    """

    def __init__(
        self, server: Server, source: Source, options: dict[str, Any], **fields: Any
    ) -> None:
        check_options(options)
        if source.graph is None and not options.get("workflow_id"):
            raise InvalidRequestError.of_field(
                "workflow", "is missing; give a workflow, or workflow_id="
            )
        self._server = server
        self.source = source
        self._body: dict[str, Any] = {**source.body(), **fields, **options}
        labels = self._body.pop("labels", None)
        if labels:
            self._body["metadata"] = labels
        # The client chooses the id, so that it can find the run if the first reply gets lost.
        self.prompt_id = str(self._body.setdefault("prompt_id", str(uuid.uuid4())))

    def set_api_key(self, api_key: str) -> None:
        """Add the key of a Comfy account, for partner nodes."""
        extra = self._body.get("extra_data") or {}
        self._body["extra_data"] = {**extra, "api_key_comfy_org": api_key}

    def set_inputs(
        self, inputs: dict[str, Any], seed: int | None, machine: str | None, machines: Machines
    ) -> None:
        """Add inputs and machine; files among the inputs are uploaded.

        Parameters
        ----------
        inputs, seed, machine
            As `Comfy.run` takes them.
        machines : Machines
            The machines of the server.

        Raises
        ------
        InvalidRequestError
            The seed is out of range, or the workflow has none.
        """
        _check_seed(seed)
        seeds = {} if seed is None else self.source.seed_inputs(seed)
        # In the mode "auto" the server draws new seeds as the editor's seed widgets say, except
        # for those that it finds in `inputs`. So the values that the user has set are sent, too.
        is_auto = self._body.get("seed_mode", "auto") == "auto"
        values = {**(self.source.given if is_auto else {}), **self.source.files, **seeds, **inputs}
        if machine == "auto" and any(map(has_files, values.values())):
            machine = machines.get(machine).id  # files go to the machine that runs
        values |= upload_all(self._server, values, machine=machine)
        if values:
            self._body["inputs"] = values
        if machine is not None:
            self._body["machine"] = machine

    def start(self, timeout: float | None = None) -> EventStream:
        """Send the request; return the events of the run.

        Parameters
        ----------
        timeout : float, optional
            Follow the run at most this long, s.

        Raises
        ------
        PromptInvalidError
            ComfyUI refuses the workflow; the message names the nodes.
        """
        try:
            return EventStream(self._server, self.prompt_id, body=self._body, timeout=timeout)
        except (PromptInvalidError, InvalidInputError) as error:
            named = self.source.complaints(error.extra.get("node_errors"))
            if named and named[0] not in error.message:
                error.say("; ".join([error.message, *named]))
            # `message` stays as it is: a panel shows it, and a button that downloads
            if NOT_HERE in error.message:
                error.args = (f"{error.message}; {self._how_to_fetch(error.message)}",)
            raise

    def _how_to_fetch(self, message: str) -> str:
        linked = any(
            model.url is not None and model.name in message
            for model in listed_models(self.source.ui or self.source.graph)
        )
        call = "fetch_models(workflow)" if linked else "add_model(url, folder)"
        return f"comfy.{call} downloads it"


def _check_seed(seed: object) -> None:
    if seed is None:
        return
    if (
        isinstance(seed, bool)
        or not isinstance(seed, Integral)
        or not 0 <= int(seed) <= LARGEST_SEED
    ):
        raise InvalidRequestError.of_field(
            "seed",
            f"must be a whole number from 0 to 2**64 - 1, not {seed!r}; for random seeds omit it"
            ' and give seed_mode="random"; for a node that accepts other seeds use inputs=',
        )
