"""The events of a lease, as a scheduler sends them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from comfydeploy_jupyter.machines.dask_leases import LeaseManager, _Lease
from comfydeploy_jupyter.machines.dask_worker import LeaseRequest


def test_events_count_although_the_clock_of_the_scheduler_was_set_back() -> None:
    """Each may arrive twice, as after a new connection; then it is handled once."""
    seen: list[tuple[str, str]] = []
    listener: Any = SimpleNamespace(
        grant_serves=lambda grant: seen.append(("serves", grant.id)),
        grant_ended=lambda grant, reason: seen.append(("ended", grant.id)),
    )
    request = LeaseRequest("", "", "", "/opt/ComfyUI")
    manager = LeaseManager("t", object, request, least=0, most=1, provider=listener)
    manager._leases["a"] = _Lease("a", None, 0.0)
    times = iter(range(100, 0, -1))
    for grant in ("one", "two"):
        for state in ("starting", "serving", "ended"):
            event = {"lease": "a", "grant": grant, "state": state, "at": "w", "url": "u"}
            for _ in range(2):
                manager._handle_event((float(next(times)), event))
    assert seen == [("serves", "one"), ("ended", "one"), ("serves", "two"), ("ended", "two")]
