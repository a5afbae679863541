"""The client: a class with a method for each action of users."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError
from ..graphs.formats import objects
from .account import ComfyAccount, sign_in
from .files import UploadedFile, human_size, upload
from .machines import Machines
from .models import FetchedModels, Models
from .packs import NodePacks
from .proofs import lacking, listed_models, read_receipt, verify
from .results import Result
from .runs import RECENT, SHORT_ID, Run, RunRequest, Runs, sources_in
from .server import Server, check_timeout, without_none
from .snapshots import Snapshot, given, take
from .stream import RunProgress
from .sweep import Batches, Sweeps
from .tunnel import Tunnel
from .workflow import Workflow, WorkflowSource, source_of
from .workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..receipts import Receipt
    from .proofs import Verification
    from .stream import EventStream
    from .sweep import Sweep, SweepProgress


class FreedMemory(NamedTuple):
    """How much memory a ComfyUI has freed.

    Attributes
    ----------
    gpu, ram : int
        Memory that was freed on its GPUs and on its machine, bytes.
    """

    gpu: int
    ram: int
    pending: bool
    """Whether ComfyUI executes a run and frees memory after it."""

    def __str__(self) -> str:
        freed = f"{human_size(self.gpu)} of GPU memory, {human_size(self.ram)} of RAM freed"
        return (
            f"{freed}; ComfyUI frees more when the current run has ended" if self.pending else freed
        )


HASH_TIMEOUT = 600.0  # s; for a large file on a slow disk

SITES = {"huggingface": "huggingface.co", "civitai": "civitai.com"}


Display: TypeAlias = "Callable[[RunProgress | SweepProgress], AbstractContextManager[object]]"
"""Makes the view of one run or sweep, a context manager that is entered while it runs."""


class Comfy:
    """Runs ComfyUI workflows through the routes of a Jupyter server.

    Made by `comfydeploy_jupyter.connect`. Each method takes a machine by its id or name; by default
    it is the default machine.

    Parameters
    ----------
    url : str
        Address of the Jupyter server, with its base URL.
    token : str, optional
        Its token.
    display : callable, optional
        Makes the live view of `run`; without one, `run` shows nothing.
    own : bool
        Whether the server must be a process of this user or of root, if it is on this machine.

    Examples
    --------
    >>> comfy = connect()                                          # doctest: +SKIP
    >>> result = comfy.run("portrait.json", inputs={"6.text": "a cat"}, seed=7)  # doctest: +SKIP
    >>> result.images[0]                                           # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        display: Display | None = None,
        own: bool = False,
    ) -> None:
        self.server = Server(url, token, own=own)
        """HTTP with the Jupyter server."""
        self.workflows = Workflows(self.server)
        """The workflows that the server stores."""
        self.machines = Machines(self.server)
        """The machines that can run workflows."""
        self.tunnel = Tunnel(self.server)
        """Makes ComfyUI reachable from the internet."""
        self.runs = Runs(self.server)
        """The runs that the server stores: ``comfy.runs(limit=5)``, ``comfy.runs.delete(…)``."""
        self.models = Models(self.server)
        """The models of ComfyUI: ``comfy.models("loras")``, ``comfy.models.delete(…)``."""
        self.comfy_account = ComfyAccount(self.server)
        """The Comfy account that partner nodes use."""
        self.batches = Batches(self)
        """The batches that the server has, also those of sweeps: ``comfy.batches()``."""
        self.sweep = Sweeps(self)
        """Runs a workflow at every point of a grid: ``comfy.sweep(workflow, {"seed":
        range(8)})``."""
        self._display = display

    @property
    def url(self) -> str:
        """Address of the Jupyter server."""
        return self.server.url

    def __repr__(self) -> str:
        return f"<Comfy at {self.url}>"

    def verify(
        self,
        receipt: Receipt | str | os.PathLike[str],
        *,
        machine: str | None = None,
        execute: bool = True,
        nodes: bool = False,
        fetch: bool = False,
        timeout: float | None = None,
    ) -> Verification:
        """Make the run of a receipt here, and compare what is made.

        The other arguments are those of `Run.verify`.

        Parameters
        ----------
        receipt : path or Receipt
            The file.
        fetch : bool
            Whether models, node packs and input files that are missing are fetched before. A model
            gets its name only if its SHA-256 is that of the receipt. Packs are installed by
            ComfyUI-Manager; their code runs with the rights of ComfyUI. No file is replaced.

        Returns
        -------
        Verification
            It is true if each output is identical. ``missing`` has the models and node packs that
            are not here, each with ``kind``, ``name``, ``url`` and its SHA-256, commit or version.

        Raises
        ------
        ReceiptError
            The file is no receipt, or any byte of it was changed.
        ConflictError
            The machine executes something, so its caches cannot be emptied now.
        OfflineError
            The setting ``offline`` forbids to fetch what is missing.
        RunTimeoutError
            It took too long.
        """
        found = read_receipt(receipt)
        first = {"record": found.record, "machine": machine, "execute": False}
        self.server.post("receipts/verify", first)  # it checks the record
        missing = lacking(self.server, found, machine=machine, fetch=fetch, timeout=timeout)
        asked = {"machine": machine, "execute": execute, "nodes": nodes}
        prompt_id = str(found.record.get("prompt_id"))
        made = verify(self.server, prompt_id, asked, timeout, record=found.record)
        return replace(made, missing=missing)

    def open(self, receipt: Receipt | str | os.PathLike[str]) -> Any:
        """Return a `RunPanel` with the workflow of a receipt.

        Raises ReceiptError if the file is no receipt, or any byte of it was changed.

        Parameters
        ----------
        receipt : path or Receipt
            The file.
        """
        record = read_receipt(receipt).record
        workflow = record.get("workflow")
        if workflow is not None:  # the panel offers what is missing as it does for any workflow
            listed = [*objects(workflow.get("models")), *listed_models(record)]
            workflow = {**workflow, "models": listed}
        package = import_module("comfydeploy_jupyter")  # its panels are above the client
        return package.RunPanel(workflow or record["prompt"], comfy=self)

    def load(
        self, workflow: Workflow | dict[str, Any] | str | bytes | os.PathLike[str]
    ) -> Workflow:
        """Return a workflow that can be displayed, changed, validated, saved and run.

        It is a copy: changing it changes nothing else.

        Parameters
        ----------
        workflow : dict, str, bytes, path or Workflow
            In API format or in the format of ComfyUI's editor: as a dict, as JSON text, or as the
            path or content of a JSON file or of a picture, video or sound that ComfyUI saved.

        Raises
        ------
        InvalidRequestError
            It has no workflow.
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
        """Run a workflow, show its progress and return its result.

        The result shows its pictures, texts and timings when it is displayed.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            In API format or in the format of ComfyUI's editor: what `load` returned, a dict, JSON
            text, or the path or content of a file that `load` takes. For a workflow that the server
            stores, leave it out and give ``workflow_id=``.
        inputs : dict, optional
            New values by ``"<node id>.<input>"``, ``"<node title>.<input>"``, the ``input_id`` of
            an external-input node, the bare name of an input that only one node has, or the title
            of a node that has one value. A path, a PIL image or an array, also in rows, is
            uploaded, and the input is set to its name. The value may be an output of another run,
            also of one that has not ended: the run, its result, or one of its outputs
            (``run.images[0]``).
        seed : int, optional
            The value of all seeds of the workflow: each ``seed`` and ``noise_seed`` that is not a
            link and not in `inputs`. In the editor's format, and for a stored workflow, it sets the
            input ``seed``, which only one node may have.
        machine : str, optional
            The machine or pool that runs it, by its id or name; ``"auto"``: any machine.
            Default: the default machine.
        api_key : str, optional
            Key of a Comfy account (platform.comfy.org) for the partner nodes of this run. It is not
            stored; `set_comfy_api_key` stores one for all runs.
        previews : bool
            Whether to get the previews of samplers.
        progress : bool, "auto" or callable
            Whether to show progress; ``"auto"``: in a notebook and in a terminal. A callable gets
            the `RunProgress` and returns a context manager.
        timeout : float, optional
            Wait at most this long, s.
        cancel_on_interrupt : bool
            Whether interrupting the kernel (the stop button, Ctrl-C) cancels the run.
        **options
            ``workflow_id``, ``version``, ``prompt_id``, ``client_id``, ``front`` (run before all
            queued runs), ``outputs`` (ids of the only output nodes to execute),
            ``labels`` (texts by name, with which `runs` finds the run: ``{"client": "acme"}``),
            ``preview_method`` (``"none"``, ``"auto"``, ``"latent2rgb"``, ``"taesd"``),
            ``cancel_with`` (cancel it, too, if a run whose output it needs is cancelled),
            ``seed_mode`` (``"saved"``, ``"auto"``, ``"random"``), ``strict_inputs``,
            ``status_endpoint``, ``file_upload_endpoint``, ``gpu_event_id``: as the route ``run``
            takes them.

        Warns
        -----
        UserWarning
            ComfyUI did not execute some outputs of the workflow because of errors.

        Raises
        ------
        RunFailedError
            A node failed; the message names it, ``error.result`` has the result so far.
        RunCancelledError
            The run was cancelled.
        RunTimeoutError
            ``timeout`` is over; the run continues.
        PromptInvalidError
            ComfyUI refuses the workflow; the message names the nodes.
        UnknownInputError
            A key of `inputs` is no input of the workflow, or fits inputs of several nodes.
        InvalidInputError
            A value of `inputs` is of the wrong type, out of range, or no choice.
        InvalidRequestError
            Something else in the arguments is wrong; the message names it.
        """
        check_timeout(timeout)
        request = RunRequest(
            self, workflow, inputs, seed, machine, options, api_key=api_key, previews=previews
        )
        state = RunProgress(request.source)
        try:
            with self._view(progress, state), request.start(timeout) as events:
                for event in events:
                    state.feed(event)
                    if event.event == "result":
                        state.result = Result(self.server, event.data, request.source)
        except KeyboardInterrupt:
            if cancel_on_interrupt:
                with suppress(ComfyDeployError):
                    self.server.post("interrupt", {"prompt_id": request.prompt_id}, timeout=5)
            raise
        if state.result is None:
            record = self.server.get("check-status", prompt_id=request.prompt_id)
            state.result = Result(self.server, record, request.source)
        result = state.result.raise_for_status()
        if result.left_out:
            warnings.warn(
                "\n- ".join(["ComfyUI did not execute a part of the workflow", *result.left_out]),
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
        """Start a workflow and return its events as they arrive.

        Parameters are those of `run`. The run continues when the loop is left; `interrupt`
        ends it. The stream iterates over `Event`; the last one is the final ``status``.
        """
        check_timeout(timeout)
        request = RunRequest(
            self, workflow, inputs, seed, machine, options, api_key=api_key, previews=previews
        )
        return request.start(timeout)

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

        Parameters are those of `run`. The handle has ``wait()``, ``cancel()``,
        ``status``, ``result``, ``events()``.
        """
        request = RunRequest(self, workflow, inputs, seed, machine, options, api_key=api_key)
        with request.start() as events:
            known = next(events).data
        status = "not-started" if known.get("waiting_for") else "queued"
        return Run(self.server, {"status": status, **known}, request.source)

    def map(
        self,
        workflow: WorkflowSource,
        over: Any,
        *,
        input: str | None = None,  # noqa: A002 - it is the word for it
        inputs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Sweep:
        """Run a workflow once for each picture of other runs, or for each of some files.

        The server does it, also without this kernel: the runs need not have ended. Returns a batch,
        whose points have the pictures in their order. How many there are is known when the runs
        have ended: its length, and ``for point in …``, wait until then.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            As `run` takes it.
        over : Run, Result, Sweep, Point, path, picture, or a list or a dict of these
            A run stands for all pictures that it saves, or else for its other files; ``run.texts``
            for its texts; a sweep for the pictures of its points that are successful; a folder for
            its pictures. A run that fails is a point that fails. In lists, numbers and texts stand
            for themselves. A dict has several inputs with as many of these, which change together.
        input : str, optional
            The input that gets one of them, by a name as in `run`. Needed unless ``over`` is a
            dict.
        inputs : dict, optional
            Other inputs. With ``{"$vary": [1, 2]}`` one has several values: every combination runs.
        **options
            As ``comfy.sweep`` takes them, and ``workflow_id`` and ``version``.

        Raises
        ------
        RunFailedError
            A result in ``over`` has no pictures, since its run failed.
        InvalidRequestError
            A run has ended without success, or something else is wrong with the arguments.

        Examples
        --------
        >>> batch = comfy.sweep("portrait.json", {"seed": [1, 2]}, wait=False)  # doctest: +SKIP
        >>> enlarged = comfy.map("enlarge.json", batch, input="image")      # doctest: +SKIP
        >>> [point.wait().images[0] for point in enlarged]                  # doctest: +SKIP
        >>> comfy.map("enlarge.json", {"image": batch, "scale_by": [1.5, 2]})  # doctest: +SKIP
        """
        if (input is None) != isinstance(over, Mapping):
            raise InvalidRequestError.of_field("input", "is needed unless over is a dict of inputs")
        lists = over if input is None else {input: over}
        sources = {str(name): [*sources_in(each)] for name, each in lists.items()}
        return self.sweep._over(workflow, sources, inputs, **options)

    def free(
        self, *, machine: str | None = None, unload_models: bool = True, free_memory: bool = True
    ) -> FreedMemory:
        """Make ComfyUI unload its models and free memory, e.g. for a model in the notebook.

        Returns how much was freed. If ComfyUI executes a run, it frees memory after that run.

        Parameters
        ----------
        machine : str, optional
            The machine, by its id or name. Default: the default machine.
        unload_models : bool
            Whether models are removed from the memory of GPU and machine.
        free_memory : bool
            Whether ComfyUI's cache of node outputs is removed, too.

        Raises
        ------
        ComfyUIUnavailableError
            ComfyUI does not answer.
        NotFoundError
            There is no such machine.
        """
        reply = self.server.post(
            "free", machine=machine, unload_models=unload_models, free_memory=free_memory
        )
        return FreedMemory(reply["gpu"]["freed"], reply["ram"]["freed"], reply["pending"])

    def set_comfy_api_key(self, api_key: str | None) -> None:
        """Store the key of a Comfy account on the server, for the partner nodes of all runs.

        It is stored in a file that only its owner can read, and no route returns it.

        Parameters
        ----------
        api_key : str or None
            The key (platform.comfy.org); None: delete the stored key, or the sign-in.
        """
        self.comfy_account.set_api_key(api_key)

    def interrupt(self, prompt_id: str | None = None, *, machine: str | None = None) -> str:
        """Cancel a run; without an id, the run that ComfyUI executes now.

        Returns the id of the cancelled run.

        Raises
        ------
        NotFoundError
            There is no such run.
        ConflictError
            It has ended already, or ComfyUI executes no run.
        """
        reply = self.server.post("interrupt", prompt_id=prompt_id, machine=machine)
        return str(reply["prompt_id"])

    def get(self, prompt_id: str) -> Run:
        """Return the handle of an existing run, by its id.

        Raises NotFoundError if there is no such run.

        Parameters
        ----------
        prompt_id : str
            The id; for the latest runs, its first eight characters are enough.
        """
        if not prompt_id:
            raise NotFoundError("prompt_id: must not be empty")
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

    def login(self, *, timeout: float | None = 300.0) -> str:
        """Sign in to ComfyDeploy: show a link, and wait until you have approved there.

        The Jupyter server stores the key; the kernel never gets it. Interrupting the kernel
        (the stop button, Ctrl-C) ends the wait. Returns your name in ComfyDeploy.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s; None: until the link expires.

        Raises
        ------
        CloudError
            The link has expired, or ComfyDeploy cannot be reached.
        RunTimeoutError
            ``timeout`` is over.
        InvalidRequestError
            ``timeout`` is not a positive number.
        """
        check_timeout(timeout)
        return sign_in(self.server, timeout=timeout)

    def status(self, *, machine: str | None = None) -> dict[str, Any]:
        """Return the state of the server: ComfyUI, queue, uploads, tunnel.

        Parameters
        ----------
        machine : str, optional
            The machine whose ComfyUI and queue are meant; by default the ComfyUI of the default
            machine, and all queues.
        """
        return dict(self.server.get("check-status", machine=machine))

    def object_info(self, *, machine: str | None = None) -> dict[str, Any]:
        """Return the definitions of all node classes: ComfyUI's ``object_info``."""
        return dict(self.server.get("object_info", machine=machine))

    def version(self, *, machine: str | None = None) -> str:
        """Return the version of ComfyUI."""
        return str(self.server.get("comfyui-version", machine=machine)["version"])

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
        """
        fields = {"filename": filename, "subfolder": subfolder, "type": type, "machine": machine}
        address = self.server.address("view", fields)
        with self.server.request("GET", address) as response:
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
        """Upload a file into one of ComfyUI's folders.

        ``str()`` of the result is the value for a loader node.

        Parameters
        ----------
        source : path, bytes, open file, PIL image or array
            A file on the machine of this kernel, which is read while it is sent. A picture is sent
            as PNG. An array has the shape (height, width[, 1, 3 or 4]), uint8 or 0 … 1.
        name : str, optional
            The name that it gets; by default its own.
        type : str
            ``input``, ``output``, ``temp`` or ``models/<folder>``.
        subfolder : str
            The folder below that folder.
        overwrite : bool
            Whether a file of the same name is replaced. Otherwise the same content is not stored
            twice, and other content gets a free name.
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

    def model_folders(self, *, machine: str | None = None) -> list[str]:
        """Return the names of ComfyUI's models folders, such as ``checkpoints``."""
        return sorted(self.server.get("models", format="folders", machine=machine))

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
        """Start the download of a model into one of ComfyUI's folders.

        Returns the transfer, as in `uploads`, which has its progress, and ``path``. Raises
        InvalidRequestError if the address, the folder or the name is invalid.

        Parameters
        ----------
        url : str
            The address of a file, of a file of Hugging Face (or ``owner/repo`` with `filename` and
            ``source="huggingface"``), or of a model's page on Civitai.
        folder : str
            The models folder, e.g. ``checkpoints``.
        filename : str, optional
            The name that it gets; by default the one in the address.
        sha256 : str, optional
            The SHA-256 that its content must have, hexadecimal.
        source : str, optional
            The kind of the address; by default it depends on the host.
        machine : str, optional
            The machine that gets it; its folders must be on the server's machine.
        """
        reply = self.server.post(
            "volume/model",
            action="add",
            url=url,
            source=source or _source_of(url),
            folder=folder,
            filename=filename or None,
            sha256=sha256 or None,
            machine=machine,
        )
        return dict(reply)

    def fetch_models(
        self,
        workflow: WorkflowSource,
        *,
        dry_run: bool = False,
        sizes: bool = False,
        models: Sequence[str] | None = None,
        machine: str | None = None,
    ) -> FetchedModels:
        """Start the downloads of the models that a workflow needs and ComfyUI does not have.

        They go into the folders that the loaders of the workflow use. Links and checksums are those
        in the workflow, as ComfyUI's templates have them.

        Parameters
        ----------
        workflow : dict, str, path or Workflow
            As `run` takes it. Only the editor's format has links.
        dry_run : bool
            Whether to return only what would be downloaded.
        sizes : bool
            Whether to ask the sites for the sizes; this also shows which models need a token.
        models : sequence of str, optional
            The names of the models to download; by default all that are missing.
        machine : str, optional
            The machine that gets them; its folders must be on the server's machine.

        Returns
        -------
        FetchedModels
            All models that the workflow names, with their states; ``wait()`` waits for the
            downloads. A second call does not start a running download again.

        Raises
        ------
        OfflineError
            The setting ``offline`` forbids it.
        InvalidRequestError
            The workflow names no model of a name in `models`.
        """
        reply = self.server.post(
            "workflow/fetch-models",
            source_of(workflow).body(),
            dry_run=dry_run,
            sizes=sizes,
            models=None if models is None else list(models),
            machine=machine,
        )
        return FetchedModels(reply, self.server)

    def install_packs(
        self,
        workflow: WorkflowSource,
        *,
        dry_run: bool = False,
        packs: Sequence[str] | None = None,
        versions: Mapping[str, str] | None = None,
        machine: str | None = None,
    ) -> NodePacks:
        """Have ComfyUI-Manager install the node packs that a workflow needs and ComfyUI lacks.

        ComfyUI loads them when it is restarted: ``comfy.machines.update(restart=True)``. Code in a
        node pack runs with the rights of ComfyUI.

        Parameters
        ----------
        workflow : dict, str, path or Workflow
            As `run` takes it. Only the editor's format names the packs of its nodes; for others,
            ComfyUI-Manager's list is searched.
        dry_run : bool
            Whether to return only what is missing.
        packs : sequence of str, optional
            The ``pack`` of each that is installed; by default all that are missing.
        versions : dict of str to str, optional
            The version in the registry, or the commit, of packs by their ``pack``; by default the
            newest one. If it cannot be had, the newest one is installed, and ``problem`` says so.
        machine : str, optional
            The machine whose ComfyUI gets them.

        Returns
        -------
        NodePacks
            The packs with their states; ``wait()`` waits for the installations, ``cancel()``
            cancels those that wait.

        Raises
        ------
        ConflictError
            This ComfyUI has no ComfyUI-Manager of version 3 or 4.
        OfflineError
            The setting ``offline`` forbids it.
        InvalidRequestError
            The workflow lacks no pack of a name in `packs`.
        """
        reply = self.server.post(
            "workflow/install-packs",
            source_of(workflow).body(),
            dry_run=dry_run,
            packs=None if packs is None else list(packs),
            versions=None if versions is None else dict(versions),
            machine=machine,
        )
        return NodePacks(reply, self.server)

    def uploads(self, prompt_id: str | None = None) -> dict[str, Any]:
        """Return the state of uploads and downloads: counts, and each transfer in ``uploads``.

        Parameters
        ----------
        prompt_id : str, optional
            Only the uploads of one run.
        """
        return dict(self.server.get("upload-queue-status", prompt_id=prompt_id))

    def cancel_uploads(self, prompt_id: str | None = None, *, id: str | None = None) -> int:  # noqa: A002 - the name in the route
        """Stop the uploads of a run, one transfer by its id, or all uploads.

        Returns how many were stopped.
        """
        return int(self.server.post("cancel-uploads", prompt_id=prompt_id, id=id)["cancelled"])

    def retry_uploads(self, prompt_id: str | None = None, *, id: str | None = None) -> int:  # noqa: A002 - the name in the route
        """Retry the failed uploads of a run, one failed transfer, or all failed uploads.

        A run that failed because of its uploads stays failed. Returns how many were started again.

        Raises
        ------
        NotFoundError
            There is no transfer with this id.
        ConflictError
            It has not failed, or its addresses are no longer stored.
        """
        return int(self.server.post("retry-uploads", prompt_id=prompt_id, id=id)["retried"])

    def hash(self, filename: str | os.PathLike[str], *, machine: str | None = None) -> str:
        """Return the SHA-256, hexadecimal, of a file of ComfyUI or below Jupyter's root."""
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
        """Write the environment of a ComfyUI into a Docker build context.

        Parameters
        ----------
        name : str, optional
            Its name: at most 64 letters, digits, ``.``, ``_`` and ``-``. One of the same name is
            replaced. By default the time.
        snapshot : Snapshot, dict or path, optional
            An existing snapshot instead of the present environment: from this method, or from
            ComfyUI-Manager (a JSON or YAML file).
        include_models : bool
            Whether the image gets the models whose source is known. Their SHA-256 are computed if
            they are not known, which takes long for many GiB.
        build : bool
            Whether the Docker engine of the server's machine builds the image.
        target : {"local", "cloud"}, optional
            ``cloud``: ComfyDeploy makes the steps for its machines; no files are written.
        machine : str, optional
            The machine. Default: the local ComfyUI.
        progress : bool or callable
            Whether to print lines of progress, such as the build log; a callable gets them.

        Raises
        ------
        DockerUnavailableError
            There is no Docker engine; ``extra["path"]`` is the build context, which was written.
        DockerFailedError
            The image could not be built.
        """
        on_line: Callable[[str], object] = progress if callable(progress) else print
        body = {
            "name": name,
            "snapshot": None if snapshot is None else given(snapshot),
            "include_models": include_models,
            "build": build,
            "target": target,
            "machine": machine,
        }
        return take(self.server, without_none(body), on_line if progress else lambda _: None)

    def _view(
        self, progress: bool | str | Display, state: RunProgress | SweepProgress
    ) -> AbstractContextManager[object]:
        chosen = self._display if progress in (True, "auto") else progress
        return chosen(state) if callable(chosen) else nullcontext()


def _source_of(url: str) -> str:
    host = f".{urlsplit(url).hostname or ''}"
    return next((name for name, site in SITES.items() if host.endswith(f".{site}")), "link")
