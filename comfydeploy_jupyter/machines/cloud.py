"""Serverless machines of the ComfyDeploy service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..compat.comfydeploy import iso_utc, unreadable

if TYPE_CHECKING:
    from ..compat.comfydeploy import CloudAccount

_DATES = ("created_at", "updated_at")
# Fields of this package only: the service has other names for them, or does not have them.
_NOT_PASSED_ON = frozenset(
    {
        "api_url",
        "autostart",
        "cd_token",
        "comfyui_path",
        "comfyui_python",
        "comfyui_url",
        "docker_steps",
        "env",
        "kind",
        "launch_args",
        "machine_id",
        "reset",
        "restart",
        "target",
        "token",
    }
)


class CloudMachines:
    """The machines of one ComfyDeploy account."""

    def __init__(self, account: CloudAccount) -> None:
        self._account = account

    async def get(self, machine_id: str) -> dict[str, Any]:
        """Return a machine."""
        return _to_reply(await self._account.get("machine", machine_id))

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a machine; its ``status`` is ``building`` until it is ``ready``."""
        return _to_reply(await self._account.post("machine", "serverless", body=_for_service(body)))

    async def update(self, machine_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change the fields of a machine that are in `body`."""
        return _to_reply(
            await self._account.patch("machine", "serverless", machine_id, body=_for_service(body))
        )


def _for_service(body: dict[str, Any]) -> dict[str, Any]:
    passed = {k: v for k, v in body.items() if k not in _NOT_PASSED_ON and v is not None}
    steps = body.get("docker_command_steps") or body.get("docker_steps")
    if steps is not None:
        passed["docker_command_steps"] = {"steps": steps} if isinstance(steps, list) else steps
    return passed


def _to_reply(row: Any) -> dict[str, Any]:
    """Convert a machine of the service to the form of this package's replies."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise unreadable("the machine")
    # The token permits its owner to use the machine.
    row = {key: value for key, value in row.items() if key != "auth_token"}
    row |= {key: iso_utc(row[key]) for key in _DATES if key in row}
    gpu = row.get("gpu")
    named = {"id", "name", "status"}
    return {
        "id": row["id"],
        "name": row.get("name") or row["id"],
        "kind": "cloud",
        "status": row.get("status"),
        "hardware": {
            "cpu": None,
            "memory": None,
            "gpus": [{"name": gpu}] if gpu and gpu != "CPU" else [],
            "disks": [],
        },
        "software": {
            "comfyui": {
                "version": row.get("comfyui_version"),
                "url": row.get("endpoint"),
                "path": None,
                "managed": False,
                "pid": None,
            }
        },
        "config": {key: value for key, value in row.items() if key not in named},
        "restart_required": False,
    }
