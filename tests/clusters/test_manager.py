"""The events of a lease, as a scheduler sends them, and which leases are kept while idle."""

import asyncio
from types import SimpleNamespace

from comfydeploy_jupyter.machines.dask_leases import Grant, LeaseManager, _Lease
from comfydeploy_jupyter.machines.dask_worker import LeaseRequest


def manager(listener=None, *, least=0):
    provider = listener or SimpleNamespace()
    provider.token, provider.least, provider.most = "t", least, 9
    provider.request = LeaseRequest("", "", "/opt/ComfyUI")
    return LeaseManager(provider, object)


def test_events_count_although_the_clock_of_the_scheduler_was_set_back():
    """Each may arrive twice, as after a new connection; then it is handled once."""
    seen = []
    listener = SimpleNamespace(
        grant_serves=lambda grant: seen.append(("serves", grant.id)),
        grant_ended=lambda grant, reason: seen.append(("ended", grant.id)),
    )
    leases = manager(listener)
    leases._leases["a"] = _Lease("a", None, 0.0)
    events = [
        {"lease": "a", "grant": grant, "state": state, "at": "w", "url": "u"}
        for grant in ("one", "two")
        for state in ("starting", "serving", "ended")
    ]
    for number, event in enumerate([*events, *events]):
        leases._handle_event((100.0 - number, event))
        leases._handle_event((100.0 - number, event))
    assert seen == [("serves", "one"), ("ended", "one"), ("serves", "two"), ("ended", "two")]


async def test_the_same_leases_are_kept_in_any_order():
    """After a reconnection they come in another order; the kept one has models in its memory."""
    renewed = []
    leases = manager(least=2)

    async def run(_, ids, **_options):
        renewed.append(ids)

    for serving, expected in (
        ("b", [["b"]]),
        ("abc", [["b"], ["b", "a"]]),
        ("cab", [["b"], ["b", "a"], ["a", "b"]]),
        ("ca", [["b"], ["b", "a"], ["a", "b"], ["a", "c"]]),  # one has ended
    ):
        grants = {name: Grant(name, name, f"tcp://{name}:1", "serving") for name in serving}
        leases._leases = {name: _Lease(name, None, 0.0, grants[name]) for name in serving}
        leases._renew(SimpleNamespace(run=run))
        await asyncio.sleep(0.01)
        assert renewed == expected
