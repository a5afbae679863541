"""The client: one object with a method for each thing to do."""

from __future__ import annotations

import os
import uuid
import warnings
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError, PromptInvalidError
from ..graphs.structure import structure_of
from .events import RunProgress
from .fetched_models import FetchedModels
from .files import Model, UploadedFile, has_files, upload, upload_all
from .graph import Source
from .login import sign_in
from .machines import Machines
from .memory import FreedMemory
from .options import check_options
from .results import Result
from .runs import Run
from .server import READ_TIMEOUT, Server, check_timeout
from .snapshots import Snapshot, given, take
from .stream import EventStream
from .sweep import Sweeps
from .tunnel import Tunnel
from .workflow import Workflow
from .workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .sweep import SweepProgress

LARGEST_SEED = 2**64 - 1  # of ComfyUI's own nodes
SHORT_ID = 8  # characters of an id that are shown in a terminal
RECENT = 100  # runs among which one is found by them
HASH_TIMEOUT = 600.0  # s; a large file on a slow disk takes its time

SITES = {"huggingface": "huggingface.co", "civitai": "civitai.com"}

WorkflowSource: TypeAlias = Workflow | dict[str, Any] | str | bytes | os.PathLike[str] | None


class Display(Protocol):
    """Makes the view of one run or sweep; the view is a context in which it is followed."""

    def __call__(self, progress: RunProgress | SweepProgress) -> AbstractContextManager[object]:
        """Return the view."""


class Comfy:
    """Runs ComfyUI workflows through the routes of a Jupyter server.

    Made by `comfydeploy_jupyter.connect`.

    Parameters
    ----------
    url : str
        Address of the Jupyter server, with its base URL.
    token : str, optional
        Its token.
    display : callable, optional
        Makes the live view of `run`; without one, `run` is silent.

    Attributes
    ----------
    server : Server
        HTTP with the Jupyter server.
    workflows : Workflows
        The workflows that it keeps.
    machines : Machines
        The machines that runs can go to.
    tunnel : Tunnel
        Makes ComfyUI reachable from the internet.
    sweep : Sweeps
        Runs a workflow at every point of a grid: ``comfy.sweep(workflow, {"seed": range(8)})``.

    Examples
    --------
    >>> comfy = connect()                                          # doctest: +SKIP
    >>> result = comfy.run("portrait.json", inputs={"6.text": "a cat"}, seed=7)  # doctest: +SKIP
    >>> result.images[0]                                           # doctest: +SKIP
    """

    def __init__(
        self, url: str, token: str | None = None, *, display: Display | None = None
    ) -> None:
        self.server = Server(url, token)
        self.workflows = Workflows(self.server)
        self.machines = Machines(self.server)
        self.tunnel = Tunnel(self.server)
        self.sweep = Sweeps(self)
        self._display = display

    @property
    def url(self) -> str:
        """Address of the Jupyter server."""
        return self.server.url

    def __repr__(self) -> str:
        return f"<Comfy at {self.url}>"

    def load(
        self, workflow: Workflow | dict[str, Any] | str | bytes | os.PathLike[str]
    ) -> Workflow:
        """Take a workflow into the hand: look at it, change it, check it, keep it, run it.

        Parameters
        ----------
        workflow : dict, str, bytes, path or Workflow
            In API format or in the format of ComfyUI's editor: as a dict, as JSON text, or as the
            path or content of a JSON file or of a picture, video or sound that ComfyUI saved.

        Returns
        -------
        Workflow
            A copy; what is done to it changes nothing else.

        Raises
        ------
        InvalidRequestError
            There is no workflow in it.
        FileNotFoundError
            There is no such file.
        """
        return Workflow(self.server, workflow)

    def run(
        self,
        workflow: WorkflowSource = None,
        inputs: dict[str, Any] | None = None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        api_key: str | None = None,
        previews: bool = True,
        progress: bool | Literal["auto"] | Display = "auto",
        timeout: float | None = None,
        cancel_on_interrupt: bool = True,
        **options: Any,
    ) -> Result:
        """Run a workflow, show how far it is, return its result.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            In API format or in the format of ComfyUI's editor: what `load` returned, a dict, JSON
            text, or the path or content of a file that `load` takes. Leave it out and give
            ``workflow_id=`` for one in the store.
        inputs : dict, optional
            New values by ``"<node id>.<input>"``, ``"<node title>.<input>"``, the ``input_id`` of
            an external-input node, or the bare name of an input that only one node has. A path,
            a PIL image or an array is uploaded, and the input is set to its name.
        seed : int, optional
            Set every seed of the workflow: each ``seed`` and ``noise_seed`` that is no link.
            `inputs` have the last word. Of a workflow in the editor's format or in the store the
            inputs are not known here; then it is the input ``seed``, which only one node may have.
        machine : str, optional
            The machine that shall run it, by its id or name; ``"auto"``: the one with the least
            work; the default one if left out.
        api_key : str, optional
            Key of a Comfy account (platform.comfy.org) for the partner nodes of this run. It is not
            kept; `set_comfy_api_key` keeps one for all runs.
        previews : bool
            Whether to see the pictures of samplers while they work.
        progress : bool, "auto" or callable
            Whether to show progress; ``"auto"`` does in a notebook and in a terminal. A callable
            gets the `RunProgress` and returns a context manager.
        timeout : float, optional
            Wait at most this long, s.
        cancel_on_interrupt : bool
            Whether interrupting the kernel (the stop button, Ctrl-C) cancels the run.
        **options
            ``workflow_id``, ``version``, ``prompt_id``, ``client_id``, ``front`` (head of the
            queue), ``outputs`` (ids of the output nodes to execute, and nothing else),
            ``preview_method`` (``"none"``, ``"auto"``, ``"latent2rgb"``, ``"taesd"``),
            ``seed_mode`` (``"saved"``, ``"auto"``, ``"random"``), ``strict_inputs``,
            ``status_endpoint``, ``file_upload_endpoint``, ``gpu_event_id``: as the route ``run``
            takes them.

        Returns
        -------
        Result
            Shows its pictures, texts and timings when displayed.

        Warns
        -----
        UserWarning
            ComfyUI refused some outputs of the workflow and ran the others.

        Raises
        ------
        RunFailedError
            A node failed; the message names it, ``error.result`` has what there is.
        RunCancelledError
            The run was cancelled.
        RunTimeoutError
            ``timeout`` is over; the run goes on.
        PromptInvalidError
            ComfyUI refuses the workflow; the message names the nodes.
        UnknownInputError
            A key of `inputs` is no input of the workflow, or several.
        InvalidRequestError
            Something else in the arguments is wrong; the message names it.
        """
        check_timeout(timeout)
        source = _source(workflow)
        body = self._body(
            source, inputs, seed, machine, options, api_key=api_key, previews=previews
        )
        state = RunProgress(source)
        reply: dict[str, Any] = {}
        try:
            with self._view(progress, state), self._start(source, body, timeout) as events:
                for event in events:
                    state.feed(event)
                    if event.event == "result":
                        reply = event.data
                        state.result = Result(self.server, reply, source)
        except KeyboardInterrupt:
            if cancel_on_interrupt:
                with suppress(ComfyDeployError):
                    self.server.post("interrupt", {"prompt_id": body["prompt_id"]}, timeout=5)
            raise
        if not reply:
            reply = self.server.get("check-status", prompt_id=body["prompt_id"])
        result = Result(self.server, reply, source).raise_for_status()
        if result.left_out:
            warnings.warn(
                "\n- ".join(["ComfyUI left out a part of the workflow", *result.left_out]),
                stacklevel=2,
            )
        return result

    def stream(
        self,
        workflow: WorkflowSource = None,
        inputs: dict[str, Any] | None = None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        api_key: str | None = None,
        previews: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> EventStream:
        """Start a workflow and give its events as they arrive.

        Parameters are those of `run`. Leaving the loop does not end the run; `interrupt` does.

        Returns
        -------
        EventStream
            Iterates over `Event`; the last is the final ``status``, whatever it is.
        """
        check_timeout(timeout)
        source = _source(workflow)
        body = self._body(
            source, inputs, seed, machine, options, api_key=api_key, previews=previews
        )
        return self._start(source, body, timeout)

    def submit(
        self,
        workflow: WorkflowSource = None,
        inputs: dict[str, Any] | None = None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> Run:
        """Start a workflow in the background; return as soon as ComfyUI has accepted it.

        Parameters are those of `run`.

        Returns
        -------
        Run
            The handle: ``wait()``, ``cancel()``, ``status``, ``result``, ``events()``.
        """
        source = _source(workflow)
        body = self._body(source, inputs, seed, machine, options, api_key=api_key)
        with self._start(source, body, None) as events:
            known = {"status": "queued", **next(events).data}
        return Run(self.server, known, source)

    def free(
        self, *, machine: str | None = None, unload_models: bool = True, free_memory: bool = True
    ) -> FreedMemory:
        """Have ComfyUI unload its models and give up memory, e.g. for a model in the notebook.

        Parameters
        ----------
        machine : str, optional
            The machine, by its id or name; the default one if left out.
        unload_models : bool
            Whether models leave the memory of GPU and machine.
        free_memory : bool
            Whether the outputs of nodes that ComfyUI keeps for later runs go too.

        Returns
        -------
        FreedMemory
            How many bytes were gained. Where ComfyUI executes a run, it gives up memory after that.

        Raises
        ------
        ComfyUIUnavailableError
            ComfyUI does not answer.
        NotFoundError
            There is no such machine.
        """
        body: dict[str, Any] = {"unload_models": unload_models, "free_memory": free_memory}
        if machine is not None:
            body["machine"] = machine
        answer = self.server.post("free", body)
        return FreedMemory(answer["gpu"]["freed"], answer["ram"]["freed"], answer["pending"])

    def set_comfy_api_key(self, api_key: str | None) -> None:
        """Keep the key of a Comfy account on the server, for the partner nodes of all runs.

        It is in a file there that only its owner can read, and is never told again.

        Parameters
        ----------
        api_key : str or None
            The key (platform.comfy.org); None: forget the one that is kept.
        """
        self.server.post("comfy-account", {"api_key": api_key})

    def interrupt(self, prompt_id: str | None = None, *, machine: str | None = None) -> str:
        """Cancel a run; without an id the one that runs now.

        Returns
        -------
        str
            The id of the cancelled run.

        Raises
        ------
        NotFoundError
            There is no such run.
        ConflictError
            It has ended already, or none runs.
        """
        fields = {"prompt_id": prompt_id, "machine": machine}
        body = {key: value for key, value in fields.items() if value is not None}
        return str(self.server.post("interrupt", body)["prompt_id"])

    def get(self, prompt_id: str) -> Run:
        """Return the handle of a run that exists, by its id.

        Parameters
        ----------
        prompt_id : str
            The id; of the latest runs also the first eight characters, as ``%comfy runs`` shows.

        Raises
        ------
        NotFoundError
            There is no such run.
        """
        try:
            record = self.server.get("check-status", prompt_id=prompt_id)
        except NotFoundError:
            if len(prompt_id) < SHORT_ID:
                raise
            found = [r for r in self.runs(RECENT) if r.prompt_id.startswith(prompt_id)]
            if len(found) != 1:
                raise
            return found[0]
        return Run(self.server, {"prompt_id": prompt_id, **record})

    def runs(
        self,
        limit: int | None = None,
        offset: int | None = None,
        status: str | None = None,
        *,
        of: Workflow | None = None,
    ) -> list[Run]:
        """Return handles of the runs, newest first.

        Parameters
        ----------
        limit, offset : int, optional
            How many, and after how many.
        status : str, optional
            Only those that are ``queued``, ``running``, ``uploading``, ``success``, ``failed`` or
            ``cancelled``.
        of : Workflow, optional
            Only those of this workflow, whatever values its inputs had.
        """
        structure = None if of is None else structure_of(of.to_api())
        records = self.server.get(
            "runs", limit=limit, offset=offset, status=status, structure=structure
        )
        source = None if of is None else of.source
        return [Run(self.server, record, source) for record in records]

    def login(self, *, timeout: float | None = 300.0) -> str:
        """Sign in to ComfyDeploy: show a link, wait until you have approved there.

        The Jupyter server keeps the key, over restarts; it never comes here. Interrupting the
        kernel (the stop button, Ctrl-C) ends the wait.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s; None: as long as the link is good.

        Returns
        -------
        str
            What ComfyDeploy calls you.

        Raises
        ------
        CloudError
            The sign-in is over, or ComfyDeploy cannot be reached.
        RunTimeoutError
            ``timeout`` is over.
        InvalidRequestError
            ``timeout`` is not a positive number.
        """
        check_timeout(timeout)
        return sign_in(self.server, timeout=timeout)

    def status(self, *, machine: str | None = None) -> dict[str, Any]:
        """Return how the service is: ComfyUI, queue, uploads, tunnel.

        Parameters
        ----------
        machine : str, optional
            Whose ComfyUI and queue; by default the ComfyUI of the default machine, and all queues.
        """
        return _object(self.server.get("check-status", machine=machine))

    def object_info(self, *, machine: str | None = None) -> dict[str, Any]:
        """Return the definitions of all node classes, as ComfyUI gives them."""
        return _object(self.server.get("object_info", machine=machine))

    def version(self, *, machine: str | None = None) -> str:
        """Return the version of ComfyUI."""
        return str(_object(self.server.get("comfyui-version", machine=machine)).get("version"))

    def view(
        self,
        filename: str,
        *,
        subfolder: str = "",
        type: str = "output",  # noqa: A002 - the name that ComfyUI gives it
        machine: str | None = None,
    ) -> bytes:
        """Return the content of an output or input file of ComfyUI.

        Parameters
        ----------
        filename, subfolder, type : str
            As in the outputs of a run; `type` is ``output``, ``input`` or ``temp``.
        machine : str, optional
            The ComfyUI that has it.
        """
        fields = {"filename": filename, "subfolder": subfolder, "type": type, "machine": machine}
        address = self.server.address("view", fields)
        with self.server.request("GET", address, timeout=READ_TIMEOUT) as response:
            return response.content

    def upload(
        self,
        source: Any,
        *,
        name: str | None = None,
        type: str = "input",  # noqa: A002 - the name that ComfyUI gives it
        subfolder: str = "",
        overwrite: bool = False,
        machine: str | None = None,
    ) -> UploadedFile:
        """Put a file into one of ComfyUI's folders.

        Parameters
        ----------
        source : path, bytes, open file, PIL image or array
            A file of this kernel's machine, read while it is sent; a picture is sent as PNG. An
            array has the shape (height, width[, 1, 3 or 4]), uint8 or 0 … 1.
        name : str, optional
            What it shall be called; by default as it is.
        type : str
            ``input``, ``output``, ``temp`` or ``models/<folder>``.
        subfolder : str
            Where below that folder.
        overwrite : bool
            Whether a file of that name is replaced. Else the same content is not stored twice, and
            other content gets a free name.
        machine : str, optional
            The ComfyUI that shall have it.

        Returns
        -------
        UploadedFile
            ``str()`` of it is what a loader node takes.
        """
        return upload(
            self.server,
            source,
            name=name,
            type=type,
            subfolder=subfolder,
            overwrite=overwrite,
            machine=machine,
        )

    def models(
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
            The ComfyUI that has them.
        """
        found = self.server.get("models", folder=folder, search=search, machine=machine)
        names = Model.__dataclass_fields__
        return [Model(**{k: v for k, v in model.items() if k in names}) for model in found]

    def model_folders(self, *, machine: str | None = None) -> list[str]:
        """Return the names of ComfyUI's models folders, e.g. ``checkpoints``, empty ones too."""
        found = _object(self.server.get("models", format="folders", machine=machine))
        return sorted(found)

    def add_model(
        self,
        url: str,
        folder: str,
        *,
        filename: str | None = None,
        sha256: str | None = None,
        source: Literal["link", "huggingface", "civitai"] | None = None,
        machine: str | None = None,
    ) -> dict[str, Any]:
        """Have a model downloaded into one of ComfyUI's folders, in the background.

        Parameters
        ----------
        url : str
            Where it is: of a file, of a Hugging Face file (or ``owner/repo`` beside `filename` and
            ``source="huggingface"``), or of a model's page on Civitai.
        folder : str
            The models folder, e.g. ``checkpoints``.
        filename : str, optional
            What it shall be called; follows from the address where that has a name.
        sha256 : str, optional
            What its content must be, hexadecimal.
        source : str, optional
            Which kind of address it is; by default the host of the address tells.
        machine : str, optional
            The ComfyUI that shall have it; its folders must be those of the server's machine.

        Returns
        -------
        dict
            The transfer, as in `uploads`, which tells how far it is, and ``path``.

        Raises
        ------
        InvalidRequestError
            The address, the folder or the name will not do.
        """
        fields = {
            "url": url,
            "source": source or _source_of(url),
            "folder": folder,
            "filename": filename or None,
            "sha256": sha256 or None,
            "machine": machine,
        }
        body = {key: value for key, value in fields.items() if value is not None}
        return _object(self.server.post("volume/model", {"action": "add", **body}))

    def fetch_models(
        self,
        workflow: WorkflowSource,
        *,
        dry_run: bool = False,
        sizes: bool = False,
        models: Sequence[str] | None = None,
        machine: str | None = None,
    ) -> FetchedModels:
        """Fetch the models that a workflow needs and ComfyUI lacks, in the background.

        They go into the folders that the workflow's loaders look in; links, and checksums where
        there are some, are those that the workflow carries, as templates do.

        Parameters
        ----------
        workflow : dict, str, path or Workflow
            As `run` takes it. Only the editor's format carries links.
        dry_run : bool
            Whether only to tell what would be fetched.
        sizes : bool
            Whether to ask the sites how large it is; also finds out which models need a token.
        models : sequence of str, optional
            The names of those that are meant; default all that are missing.
        machine : str, optional
            The ComfyUI that shall have them; its folders must be on the server's machine.

        Returns
        -------
        FetchedModels
            All models that the workflow names, with their states; ``wait()`` waits for the
            downloads. Asked again, it goes on with what is under way.

        Raises
        ------
        OfflineError
            The setting ``offline`` forbids it.
        InvalidRequestError
            The workflow names no model of a name in `models`.
        """
        fields = {"dry_run": dry_run, "sizes": sizes, "machine": machine}
        body: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
        if models is not None:
            body["models"] = list(models)
        source = _source(workflow)
        reply = _object(self.server.post("workflow/fetch-models", {**source.body(), **body}))
        return FetchedModels(reply, self.server)

    def uploads(self, prompt_id: str | None = None) -> dict[str, Any]:
        """Return what is on its way, out and in: counts, and ``uploads`` with each transfer.

        Parameters
        ----------
        prompt_id : str, optional
            Only the uploads of one run.
        """
        return _object(self.server.get("upload-queue-status", prompt_id=prompt_id))

    def cancel_uploads(self, prompt_id: str | None = None, *, id: str | None = None) -> int:  # noqa: A002 - the name in the route
        """Stop the uploads of a run, one transfer by its id, or all uploads.

        Returns
        -------
        int
            How many were stopped.
        """
        return int(self.server.post("cancel-uploads", _given(prompt_id, id))["cancelled"])

    def retry_uploads(self, prompt_id: str | None = None, *, id: str | None = None) -> int:  # noqa: A002 - the name in the route
        """Begin anew with the failed uploads of a run, one failed transfer, or all failed uploads.

        A run that failed because of its uploads stays as it ended.

        Returns
        -------
        int
            How many are under way again.

        Raises
        ------
        NotFoundError
            There is no transfer of that id.
        ConflictError
            It has not failed, or so long ago that its addresses are forgotten.
        """
        return int(self.server.post("retry-uploads", _given(prompt_id, id))["retried"])

    def hash(self, filename: str | os.PathLike[str], *, machine: str | None = None) -> str:
        """Return the SHA-256 of a file of ComfyUI or below Jupyter's root, hexadecimal."""
        reply = self.server.get(
            "get-file-hash", filename=os.fspath(filename), machine=machine, timeout=HASH_TIMEOUT
        )
        return str(reply["file_hash"])

    def snapshot(
        self,
        name: str | None = None,
        *,
        snapshot: Snapshot | dict[str, Any] | str | os.PathLike[str] | None = None,
        include_models: bool = False,
        build: bool = False,
        target: Literal["local", "cloud"] | None = None,
        machine: str | None = None,
        progress: Callable[[str], object] | bool = True,
    ) -> Snapshot:
        """Take the environment of a ComfyUI down, as a Docker build context.

        Parameters
        ----------
        name : str, optional
            What to call it: letters, digits, ``.``, ``_`` and ``-``, at most 64. An earlier one
            of that name is replaced. By default the time.
        snapshot : Snapshot, dict or path, optional
            One that exists, instead of the present environment: of this method, or of
            ComfyUI-Manager (a JSON or YAML file).
        include_models : bool
            Whether the image gets the models whose source is known. SHA-256 that are not known
            are computed then, which takes a while for many GiB.
        build : bool
            Whether a Docker engine beside the server builds the image.
        target : {"local", "cloud"}, optional
            ``cloud`` lets ComfyDeploy make the steps for its machines; nothing is written.
        machine : str, optional
            Whose environment; default the local ComfyUI's.
        progress : bool or callable
            Print lines of progress, such as the log of the build, or have them told.

        Returns
        -------
        Snapshot

        Raises
        ------
        DockerUnavailableError
            There is no Docker engine; ``extra["path"]`` is the context, which is there.
        DockerFailedError
            The image could not be built.
        """
        tell: Callable[[str], object] = progress if callable(progress) else print
        body = {
            "name": name,
            "snapshot": None if snapshot is None else given(snapshot),
            "include_models": include_models,
            "build": build,
            "target": target,
            "machine": machine,
        }
        chosen = {key: value for key, value in body.items() if value is not None}
        return take(self.server, chosen, tell if progress else lambda _: None)

    def _start(self, source: Source, body: dict[str, Any], timeout: float | None) -> EventStream:
        with _naming_nodes(source):
            return EventStream(self.server, body["prompt_id"], body=body, timeout=timeout)

    def _display_for(self, progress: bool | str | Display) -> Display | None:
        """Return what makes the view that the argument `progress` asks for."""
        chosen = self._display if progress in (True, "auto") else progress
        return chosen if callable(chosen) else None

    def _view(
        self, progress: bool | Literal["auto"] | Display, state: RunProgress
    ) -> AbstractContextManager[object]:
        chosen = self._display_for(progress)
        return nullcontext() if chosen is None else chosen(state)

    def _body(
        self,
        source: Source,
        inputs: dict[str, Any] | None,
        seed: int | None,
        machine: str | None,
        options: dict[str, Any],
        *,
        api_key: str | None,
        **fields: Any,
    ) -> dict[str, Any]:
        check_options(options)
        _check_seed(seed)
        if source.graph is None and not options.get("workflow_id"):
            raise InvalidRequestError.of_field(
                "workflow", "is missing; give a workflow, or workflow_id="
            )
        body: dict[str, Any] = {**source.body(), **fields, **options}
        if api_key is not None:
            body["extra_data"] = {**(options.get("extra_data") or {}), "api_key_comfy_org": api_key}
        # The id is ours, so that a run can be found again whose very first reply got lost.
        body.setdefault("prompt_id", str(uuid.uuid4()))
        seeds = {} if seed is None else source.seed_inputs(seed)
        # Only where the editor's seed widgets decide, the server must know what the user has set.
        set_before = source.given if options.get("seed_mode", "auto") == "auto" else {}
        values = {**set_before, **source.files, **seeds, **(inputs or {})}
        if machine == "auto" and any(map(has_files, values.values())):
            machine = self.machines.get(machine).id  # it must be the one that has the files
        values |= upload_all(self.server, values, machine=machine)
        if values:
            body["inputs"] = values
        if machine is not None:
            body["machine"] = machine
        return body


def _source(workflow: WorkflowSource) -> Source:
    return workflow.source if isinstance(workflow, Workflow) else Source(workflow)


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
            f"must be a whole number from 0 to 2**64 - 1, not {seed!r}; for new ones leave it out"
            ' and give seed_mode="random", for a node that takes others use inputs=',
        )


@contextmanager
def _naming_nodes(source: Source) -> Iterator[None]:
    """Add to a refusal what ComfyUI says of each node, by the names that the user knows."""
    try:
        yield
    except PromptInvalidError as error:
        complaints = source.complaints(error.extra.get("node_errors"))
        if complaints:
            error.message = "\n- ".join([error.message, *complaints])
            error.args = (error.message,)
        raise


def _source_of(url: str) -> str:
    host = urlsplit(url).hostname or ""
    for name, site in SITES.items():
        if host == site or host.endswith(f".{site}"):
            return name
    return "link"


def _given(prompt_id: str | None, transfer_id: str | None) -> dict[str, str]:
    fields = {"prompt_id": prompt_id, "id": transfer_id}
    return {name: value for name, value in fields.items() if value is not None}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
