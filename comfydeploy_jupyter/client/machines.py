"""The machines that can run workflows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakValueDictionary

from ..dask_clusters import adapt, pem, release
from ..errors import InvalidRequestError, printable
from .files import human_size
from .server import Record, without_none

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .server import Server


CERTIFICATES = ("tls_ca_file", "tls_client_cert", "tls_client_key")


def fields_of(cluster: Any) -> dict[str, Any]:
    """Return the fields of a request that name a Dask cluster."""
    if isinstance(cluster, str):
        return {"scheduler" if "://" in cluster else "cluster": cluster}
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequestError.of_field(
            "cluster", f"{type(cluster).__name__} has no scheduler_address: is it a Dask cluster?"
        )
    if address.startswith("inproc:"):
        raise InvalidRequestError.of_field(
            "cluster", "is only in this process, where Jupyter cannot reach it: use processes=True"
        )
    if not hasattr(cluster, "adapt"):
        raise InvalidRequestError.of_field(
            "cluster",
            f"{type(cluster).__name__} cannot start workers as they are needed (adapt); give the"
            " address of its scheduler instead",
        )
    found: dict[str, Any] = {"scheduler": address}
    security = getattr(cluster, "security", None)
    if address.startswith("tls:") and security is not None:
        found["security"] = certificates_of(security, field="cluster")
    return found


def certificates_of(security: Any, *, field: str) -> dict[str, str]:
    """Return the certificates of a ``distributed.Security`` for a request, as PEM texts."""
    try:
        return {name: pem(getattr(security, name) or "", name) for name in CERTIFICATES}
    except ValueError as error:
        raise InvalidRequestError.of_field(field, f"its certificates: {error}") from None


RESTART_TIMEOUT = (
    900.0  # s; ComfyUI loads its nodes, perhaps twice, when it has to go back to the old settings
)


class Machine(Record["Machines"]):
    """A machine: a ComfyUI that can run workflows, or a serverless machine of ComfyDeploy.

    Made by `Machines`. It has the last known state; `refresh` requests the present one.
    """

    @property
    def id(self) -> str:
        """Its id, for ``machine=`` of runs."""
        return str(self.record["id"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.record.get("name") or self.id)

    @property
    def kind(self) -> str:
        """``managed`` (started by the server), ``comfyui`` (by somebody else) or ``cloud``.

        ``pool`` for machines that share one queue. A pool whose machines a cluster starts has the
        kind of the cluster, such as ``dask``.
        """
        return str(self.record.get("kind"))

    @property
    def status(self) -> str:
        """``ready``, ``starting``, ``backoff``, ``failed``, ``stopped`` or ``unreachable``.

        For a serverless machine, the status that ComfyDeploy reports.
        """
        return str(self.record.get("status"))

    @property
    def members(self) -> list[dict[str, Any]]:
        """The machines of a pool: their ``id``, ``status``, ``gpu``, ``run`` and ``models``."""
        return list(self._complete_record().get("members", ()))

    @property
    def hardware(self) -> dict[str, Any]:
        """``cpu``, ``memory``, ``gpus``, ``disks``; sizes in bytes."""
        return dict(self._complete_record()["hardware"])

    @property
    def gpus(self) -> list[dict[str, Any]]:
        """Its GPUs, each with ``name``, ``memory`` in bytes, load in ``percent``."""
        return list(self.hardware["gpus"])

    @property
    def software(self) -> dict[str, Any]:
        """Operating system, Python, Jupyter, and ``comfyui``: version, path, process, arguments."""
        return dict(self._complete_record()["software"])

    @property
    def config(self) -> dict[str, Any]:
        """Its settings; secrets are hidden."""
        return dict(self._complete_record()["config"])

    @property
    def restart_required(self) -> bool:
        """Whether changes take effect only when ComfyUI is restarted."""
        return bool(self._complete_record().get("restart_required"))

    def refresh(self) -> Machine:
        """Get the present state from the server; return this machine."""
        self.record = self._home.get(self.id).record
        return self

    def update(self, **changes: Any) -> Machine:
        """Change it, as `Machines.update` does; return this machine."""
        self.record = self._home.update(self.id, **changes).record
        return self

    def restart(self) -> Machine:
        """Restart its ComfyUI and wait until it answers; return this machine."""
        return self.update(restart=True)

    def go_back(self) -> list[str]:
        """Use the ComfyUI that an update has kept, as `Machines.go_back` does."""
        notes = self._home.go_back(self.id)
        self.refresh()
        return notes

    def delete(self) -> None:
        """Remove it from the server, as `Machines.delete` does."""
        self._home.delete(self.id)

    def _complete_record(self) -> dict[str, Any]:
        if "hardware" not in self.record:
            self.refresh()
        return self.record

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name != self.id else ""
        version = self.record.get("version")
        if "software" in self.record:
            version = self.record["software"].get("comfyui", {}).get("version")
        facts = [self.kind, self.status]
        if version and self.kind != "cloud":
            facts.append(f"ComfyUI {version}")
        for gpu in self.record.get("hardware", {}).get("gpus", ()):
            memory = (gpu.get("memory") or {}).get("total")
            facts.append(f"{gpu['name']} {human_size(memory)}" if memory else str(gpu["name"]))
        return printable(f"<machine {self.id}{name}: {', '.join(facts)}>")


MachineList: TypeAlias = list[Machine]
Notes: TypeAlias = list[str]


_CLUSTERS: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""The cluster objects of this process, by the names that `Machines` gives their pools."""


class Machines:
    """The machines that a server knows: ``comfy.machines``.

    Examples
    --------
    >>> comfy.machines.list()                                          # doctest: +SKIP
    >>> comfy.machines.create("gpu1", kind="managed", gpu=1)           # doctest: +SKIP
    >>> comfy.run("portrait.json", machine="auto")                     # doctest: +SKIP
    >>> comfy.machines.create("gpus", gpus="all")                      # doctest: +SKIP
    >>> comfy.run("portrait.json", machine="gpus")                     # doctest: +SKIP
    """

    def __init__(self, server: Server, target: Literal["local", "cloud"] = "local") -> None:
        self._server = server
        self._target = target

    @property
    def cloud(self) -> Machines:
        """The serverless machines in ComfyDeploy, which must be named by their id."""
        return Machines(self._server, "cloud")

    def list(self) -> MachineList:
        """Return all machines that the server knows, the default one first.

        `cloud` lists those that this server created, since ComfyDeploy's API cannot list any.
        """
        rows = self._server.get("machines")
        if self._target == "cloud":
            rows = [row for row in rows if row["kind"] == "cloud"]
        return [Machine(self, row) for row in rows]

    def get(self, machine_id: str | None = None) -> Machine:
        """Return a machine with its hardware, software and settings.

        Raises NotFoundError if there is no such machine.

        Parameters
        ----------
        machine_id : str, optional
            Its id or name, or ``"auto"``: the one with the least work. Default: the local one.
        """
        record = self._server.get("machine", machine_id=machine_id, target=self._target)
        return Machine(self, record)

    def number(self, machine_id: str | None) -> int:
        """Return how many machines may execute the runs that are sent to a machine or pool.

        Parameters
        ----------
        machine_id : str or None
            Its id or name; ``"auto"``: all machines that are ready. None: the default machine.
        """
        if machine_id is None:
            return 1
        rows = self._server.get("machines", members="1")
        if machine_id == "auto":
            usable = [row for row in rows if row["kind"] in {"managed", "comfyui"}]
            return sum(row["status"] == "ready" for row in usable) or 1
        for row in rows:
            names = (row["id"].casefold(), row["name"].casefold())
            if machine_id.casefold() in names and "members" in row:
                workers = self.get(machine_id).config.get("workers") or [0]
                return max(len(row["members"]), int(workers[-1]), 1)
        return 1

    def create(
        self,
        name: str,
        *,
        kind: Literal["managed", "comfyui", "cloud", "pool", "dask"] | None = None,
        members: Sequence[str | Machine] | None = None,
        gpus: Literal["all"] | None = None,
        comfyui_url: str | None = None,
        comfyui_path: str | None = None,
        launch_args: Sequence[str] | str | None = None,
        env: Mapping[str, str] | None = None,
        gpu: str | int | None = None,
        cluster: Any = None,
        workers: Sequence[int] | None = None,
        **fields: Any,
    ) -> Machine:
        """Register a machine, or make a pool of machines.

        Parameters
        ----------
        name : str
            Its name.
        kind : str, optional
            ``managed``: a ComfyUI that the server starts, at a port of its own; ``comfyui``: one
            that is started otherwise; ``cloud``: a serverless machine of ComfyDeploy; ``pool``:
            machines that share one queue. By default it depends on the other arguments.
        members : sequence of str or Machine, optional
            The machines of a pool. Each run of the pool is executed by the one that will probably
            finish it first.
        gpus : "all", optional
            Start a managed ComfyUI for each GPU of the server, and make a pool of them.
        comfyui_url : str, optional
            The address of a ComfyUI that is started otherwise.
        comfyui_path : str, optional
            The folder of a managed ComfyUI; by default that of the local machine.
        launch_args : sequence of str or str, optional
            Arguments for ComfyUI.
        env : mapping, optional
            Environment variables for ComfyUI.
        gpu : str or int, optional
            The GPUs that a managed ComfyUI may use (``0``, ``"0,1"``), or the kind of GPU in the
            cloud.
        cluster : object or str, optional
            For a pool on a Dask cluster: a cluster object of this kernel (``LocalCluster``,
            ``SLURMCluster``, ``KubeCluster``, …), the address of a scheduler, or a name in the
            server's setting ``clusters``. A cluster object starts and ends its workers as
            the runs need them.
        workers : (int, int)
            The least and the greatest number of ComfyUIs on the cluster; by default ``(0, 1)``.
        **fields
            ``comfyui_python``, ``autostart``, ``docker_steps``, ``comfyui_version``, and fields of
            ComfyDeploy, as the route ``machine/create`` takes them; for a cluster ``scheduler``,
            ``security`` (also as a ``distributed.Security``), ``shared_dir`` and ``retry``.

        Raises
        ------
        ConflictError
            The name is taken.
        InvalidRequestError
            A field is wrong; the message names it.
        """
        given = _sent(
            cluster,
            name=name,
            kind=kind,
            members=members,
            gpus=gpus,
            comfyui_url=comfyui_url,
            comfyui_path=comfyui_path,
            launch_args=launch_args,
            env=env,
            gpu=gpu,
            workers=workers,
            **fields,
        )
        if kind is None and (cluster is not None or "scheduler" in fields):
            given["kind"] = "dask"
        made = Machine(self, self._post("machine/create", given)["machine"])
        try:
            self._adapt(made, cluster)
        except Exception:
            self._server.post("machine/delete", {"machine_id": made.id})
            raise
        return made

    def update(
        self,
        machine_id: str | None = None,
        *,
        name: str | None = None,
        members: Sequence[str | Machine] | None = None,
        comfyui_url: str | None = None,
        comfyui_path: str | None = None,
        launch_args: Sequence[str] | str | None = None,
        env: Mapping[str, str | None] | None = None,
        gpu: str | int | None = None,
        cluster: Any = None,
        workers: Sequence[int] | None = None,
        restart: bool | None = None,
        **fields: Any,
    ) -> Machine:
        """Change a machine; settings that are not given stay as they are.

        ``restart_required`` of the result says whether changes take effect only after a
        restart.

        Parameters
        ----------
        machine_id : str, optional
            Its id or name. Default: the local one.
        name, members, comfyui_url, comfyui_path, launch_args, gpu, cluster, workers
            As for `create`. Runs stay on a machine that is removed from a pool. A cluster object
            that was given to `create` in this kernel gets the new ``workers``, too.
        env : mapping, optional
            Variables to set; the value None removes a variable.
        restart : bool, optional
            Restart a managed ComfyUI and wait until it answers. The run that it executes fails;
            queued runs continue after the restart.
        **fields
            ``comfyui_python``, ``autostart``, ``docker_steps``, ``comfyui_version``, ``reset``
            (undo all changes of the local machine), and fields of ComfyDeploy.

        Raises
        ------
        NotFoundError
            There is no such machine.
        InvalidRequestError
            A field is wrong; nothing was changed.
        ComfyUIUnavailableError
            ComfyUI does not start with the changes; they were undone.
        """
        given = _sent(
            cluster,
            machine_id=machine_id,
            name=name,
            members=members,
            comfyui_url=comfyui_url,
            comfyui_path=comfyui_path,
            launch_args=launch_args,
            env=env,
            gpu=gpu,
            workers=workers,
            restart=restart,
            **fields,
        )
        changed = Machine(self, self._post("machine/update", given)["machine"])
        known = _CLUSTERS.get(self._name_of(changed.id))
        moves = cluster is not None or "scheduler" in fields
        if not moves and workers is not None:
            cluster = known
        self._adapt(changed, cluster)
        if moves and known is not None and known is not cluster:
            self._release(changed.id, known)
        return changed

    def go_back(self, machine_id: str | None = None) -> Notes:
        """Use the ComfyUI that an update has kept, and keep the present one.

        ComfyUI is stopped and started again. Returns what may not work with the other version, such
        as node packs. Another call returns to the version that was used before this one.

        Parameters
        ----------
        machine_id : str, optional
            Its id or name. Default: the local one.

        Raises
        ------
        NotFoundError
            No other version is kept.
        ConflictError
            The server has not started its ComfyUI, or an installation is running.
        ComfyUIUnavailableError
            The other version does not start.
        """
        reply = self._server.post(
            "comfyui/back", without_none({"machine": machine_id}), timeout=RESTART_TIMEOUT
        )
        return [str(note) for note in reply["notes"]]

    def delete(self, machine_id: str) -> None:
        """Remove a machine from the server, and stop its ComfyUI if it is managed.

        A serverless machine stays in ComfyDeploy.

        Raises
        ------
        NotFoundError
            There is no such machine.
        ConflictError
            It is the local one, or has unfinished runs.
        """
        reply = self._server.post("machine/delete", {"machine_id": machine_id})
        known = _CLUSTERS.get(self._name_of(reply["machine_id"]))
        if known is not None:
            self._release(reply["machine_id"], known)

    def _adapt(self, pool: Machine, cluster: Any) -> None:
        """Have the cluster object of a pool, if there is one, start and end the pool's workers."""
        if cluster is not None and not isinstance(cluster, str):
            name = self._name_of(pool.id)
            adapt(cluster, name, *pool.config["workers"])
            _CLUSTERS[name] = cluster

    def _release(self, pool_id: str, cluster: Any) -> None:
        """Have the cluster object that a pool has left end the pool's workers."""
        name = self._name_of(pool_id)
        if _CLUSTERS.get(name) is cluster:
            del _CLUSTERS[name]
        try:
            release(cluster, name)
        except Exception as error:  # such as one that was closed before
            warnings.warn(f"The workers of {pool_id!r} were not ended: {error}", stacklevel=3)

    def _name_of(self, pool_id: str) -> str:
        """Return the name of a pool, which differs from those on other servers."""
        return f"{self._server.url} {pool_id}"

    def _post(self, path: str, fields: dict[str, Any]) -> Any:
        if self._target == "cloud":
            fields = {**fields, "target": "cloud"}
        return self._server.post(path, without_none(fields), timeout=RESTART_TIMEOUT)

    def __repr__(self) -> str:
        where = "ComfyDeploy, through " if self._target == "cloud" else ""
        return f"<Machines of {where}{self._server.url}>"


def _sent(cluster: Any, **given: Any) -> dict[str, Any]:
    """Return the fields of a request in a form that JSON has; the server validates them."""
    for name, value in given.items():
        if name == "members" and value is not None:
            given[name] = [each.id if isinstance(each, Machine) else each for each in value]
        elif name == "env" and value is not None:
            given[name] = dict(value)
        elif name in {"launch_args", "workers"} and not isinstance(value, str):
            given[name] = [*value] if isinstance(value, Iterable) else value
        elif name == "security" and hasattr(value, "tls_ca_file"):  # a `distributed.Security`
            given[name] = certificates_of(value, field="security")
    return given if cluster is None else given | fields_of(cluster)
