"""The settings of pools: how a request changes them, and what the members keep of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConflictError
from .registry import POOL, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schemas import MachineConfig
    from .providers import ProviderKind
    from .registry import MachineRegistry
    from .stored import MachineRecord

CLUSTER = ("cluster", "scheduler")
# A ComfyUI keeps these settings until it ends.
OF_MEMBERS = ("comfyui_path", "comfyui_python", "launch_args", "shared_dir")
EARLIER = "earlier_shared_dirs"


async def provider_config(
    kind: ProviderKind, request: MachineConfig, known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a pool with a provider after a request."""
    fields = request.model_dump(exclude_none=True, exclude={"token", "cd_token"})
    replaced = CLUSTER if any(name in fields for name in CLUSTER) else ()
    kept = {name: known[name] for name in known if name not in replaced}
    config = await kind.check({**kept, **fields}, known)
    present, before = config.get("shared_dir"), known.get("shared_dir")
    earlier = dict.fromkeys([*known.get(EARLIER, ()), before])
    if folders := [folder for folder in earlier if folder and folder != present]:
        config[EARLIER] = folders
    return config


def for_provider(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the provider of a pool needs."""
    return {name: config[name] for name in config if name not in ("retry", EARLIER)}


def is_on_same_cluster(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a change of the settings leaves a pool on its cluster."""
    return all(before.get(name) == after.get(name) for name in CLUSTER)


def members_end(
    registry: MachineRegistry, pool: Pool, before: Mapping[str, Any], after: Mapping[str, Any]
) -> bool:
    """Return whether all members have to end, so that a change of the settings takes effect."""
    changed = [name for name in (*CLUSTER, *OF_MEMBERS) if before.get(name) != after.get(name)]
    if not changed:
        return False
    moves = [name for name in CLUSTER if name in changed]
    field = next((name for name in moves if after.get(name)), changed[0])
    on_members = sum(registry.open_runs(member) for member in pool.members)
    runs = max(registry.pool_runs(pool.id), on_members) if moves else on_members
    if runs:
        which = f"runs of {pool.id!r}" if moves else f"runs on machines of {pool.id!r}"
        raise ConflictError(
            f"{field}: cannot be changed while {which} are unfinished: {runs}",
            details={"field": field, "runs": runs},
        )
    return True


def pool_of(record: MachineRecord, members: tuple[str, ...] = ()) -> Pool:
    """Return the pool of a record; ``members`` are those that its provider has started."""
    config = record.config
    folders = (config.get("shared_dir"), *config.get(EARLIER, ()))
    return Pool(
        record.id,
        record.name,
        record.kind,
        tuple(config.get("members", ())) if record.kind == POOL else members,
        retry=config.get("retry") or 0,
        shared_dirs=tuple(folder for folder in folders if folder),
    )
