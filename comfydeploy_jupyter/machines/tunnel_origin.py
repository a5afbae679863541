"""What a tunnel leads to: Jupyter, a port of this machine, or the ComfyUI of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yarl import URL

from ..comfyui.client import NONE
from ..errors import ComfyUIUnavailableError, InvalidRequestError
from ..tunnel.gate import Upstream
from ..tunnel.tunnels import Origin, TunnelOptions
from ..util.peers import ANYONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .registry import MachineRegistry
    from .settings import MachineSettings


async def find_origin(
    options: TunnelOptions,
    machines: MachineRegistry,
    jupyter: Callable[[], Origin] | None,
    *,
    start: bool,
) -> Origin:
    """Return the service that a tunnel exposes."""
    if options.target == "jupyter":
        if jupyter is None:
            raise InvalidRequestError.of_field("target", "there is no Jupyter to expose")
        origin = jupyter()
        if options.port not in (None, origin.port):
            raise InvalidRequestError.of_field(
                "port", f"must be that of Jupyter, {origin.port}, or not be given"
            )
        return origin
    if options.port is not None:
        url = f"http://127.0.0.1:{options.port}"
        return Origin(url, options.port, trusted_users=(ANYONE,))  # the user has given it
    machine = machines.get(options.machine)
    if machine.settings.access.tls is not None:
        raise InvalidRequestError.of_field(
            "machine",
            f"a tunnel cannot lead to {machine.id!r}: its ComfyUI is on a worker of a cluster, and"
            " accepts only Jupyter's certificate; open a tunnel to Jupyter instead",
        )
    if start:
        await machine.ready()
    elif not machine.connected:
        raise ComfyUIUnavailableError(f"The ComfyUI of machine {machine.id!r} is not available")
    assert machine.url is not None
    address = URL(machine.url)
    return Origin(
        str(address),
        address.port or 80,
        machine=machine.id,
        trusted_users=machine.settings.trusted_users,
        upstream=_upstream_of(machine.settings),
    )


def _upstream_of(settings: MachineSettings) -> Upstream:
    """Return the credentials that the ComfyUI at ``comfyui_url`` asks for."""
    asked = settings.credentials if settings.comfyui_url else NONE
    files = (asked.client_cert, asked.client_key, asked.ca)
    # The gate has another working directory than Jupyter.
    return Upstream(
        asked.all_headers,
        *(file and str(Path(file).expanduser().absolute()) for file in files),
    )
