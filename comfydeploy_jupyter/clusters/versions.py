"""Compares the versions of Jupyter's packages with those of a scheduler and its workers."""

from __future__ import annotations

from typing import Any

COMPARED = ("python", "dask", "distributed", "msgpack", "cloudpickle")
NAMED = 3  # processes in the text


async def differences(client: Any) -> str | None:
    """Return the versions that differ as a text; None if all are the same."""
    found = await client.get_versions(check=False)
    own = _versions(found["client"])
    others = {"the scheduler": found["scheduler"]}
    others |= {f"worker {address}": info for address, info in found["workers"].items()}
    texts = []
    for who, info in others.items():
        theirs = _versions(info)
        unlike = [
            f"{name} {theirs[name]} instead of {own[name]}"
            for name in COMPARED
            if name in theirs and theirs[name] != own.get(name)
        ]
        if unlike:
            texts.append(f"{who} has {', '.join(unlike)}")
    if len(texts) > NAMED:
        texts = [*texts[:NAMED], f"and {len(texts) - NAMED} others differ"]
    return "; ".join(texts) or None


def _versions(info: Any) -> dict[str, str]:
    """Return the versions of one process from its part of the reply."""
    if not isinstance(info, dict):
        return {}
    versions = dict(info.get("packages") or {})
    host = dict(info.get("host") or {})
    python = host.get("python") or versions.get("python")
    found = {name: str(value) for name, value in versions.items() if value is not None}
    if python is not None:
        found["python"] = ".".join(str(python).split(".")[:3])
    return found
