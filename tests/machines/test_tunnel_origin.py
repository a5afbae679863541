"""What a tunnel may lead to."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.comfyui.client import Access
from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.machines.service import find_origin
from comfydeploy_jupyter.tunnel.tunnels import TunnelOptions


async def test_a_tunnel_to_a_worker_of_a_cluster_is_refused():
    settings = SimpleNamespace(access=Access(tls=ssl.create_default_context()))
    machines = SimpleNamespace(get=lambda name: SimpleNamespace(id=name, settings=settings))
    options = TunnelOptions(machine="hpc-1")
    with pytest.raises(
        InvalidRequestError, match="machine: a tunnel cannot lead to 'hpc-1'"
    ) as caught:
        await find_origin(options, machines, None, start=True)
    assert caught.value.details["field"] == "machine"
