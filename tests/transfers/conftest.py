"""The transfer service with a real store, on the folders of a ComfyUI that need not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.machines.machine import Machine
from comfydeploy_jupyter.machines.registry import MachineRegistry
from comfydeploy_jupyter.machines.settings import MachineSettings
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.store.session import Session
from comfydeploy_jupyter.transfers.queue import Transfers
from comfydeploy_jupyter.util.times import Backoff
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from comfydeploy_jupyter.transfers.queue import TransferRecord

QUICK = Backoff(first=0.01, longest=0.05, attempts=4)


class IgnoringListener:
    """A listener of a machine that ignores all events."""

    def machine_event(self, machine: Machine, event: object) -> None: ...

    def machine_connected(self, machine: Machine) -> None: ...

    def machine_disconnected(self, machine: Machine) -> None: ...

    def machine_ended(self, machine: Machine, reason: str) -> None: ...


class Harness:
    """Transfers with all their parts, which can be closed and opened again."""

    def __init__(
        self, folder: Path, *, settings: MachineSettings | None = None, **options: Any
    ) -> None:
        self.comfyui = folder / "comfyui"
        self.data = folder / "data"
        for name in ("models/checkpoints", "models/loras", "output", "input"):
            (self.comfyui / name).mkdir(parents=True, exist_ok=True)
        self.checkpoints = self.comfyui / "models" / "checkpoints"
        self._settings = settings or MachineSettings(comfyui_path=str(self.comfyui))
        self._options = {"backoff": QUICK, **options}
        self.key: str | None = None

    async def open(self) -> Transfers:
        self.database = Database(self.data / "comfydeploy.db")
        await self.database.open()
        self.session = Session(self.data / "sessions")
        machines = MachineRegistry()
        self.machine = Machine(
            "local", self._settings, client_id="x", folder=self.data, listener=IgnoringListener()
        )
        machines.add(self.machine)
        self.transfers = Transfers(
            self.database, self.session, machines, lambda _: self.key, **self._options
        )
        self.folders = await machines.get().folders()
        await self.transfers.open()
        return self.transfers

    async def close(self) -> None:
        await self.transfers.close()
        await self.machine.close()
        await self.database.close()
        self.session.close()

    async def reopen(self) -> Transfers:
        await self.close()
        return await self.open()

    async def ended(self, record: TransferRecord | None) -> TransferRecord:
        assert record is not None
        return await self.transfers.queue.wait(record)

    async def ended_at(self, path: Path) -> TransferRecord:
        """Wait for the end of the transfer to or from a file."""
        return await self.ended(await self.transfers.queue.of_path(str(path)))

    async def until(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        await until_async(condition, timeout=timeout, what=lambda: self.transfers.queue.status())


@pytest.fixture
def make_harness(tmp_path, jp_asyncio_loop) -> Iterator[Callable[..., Awaitable[Harness]]]:
    """A function that opens a transfer service, with the arguments of `Transfers`."""
    harnesses: list[Harness] = []

    async def make(**options: Any) -> Harness:
        harnesses.append(Harness(tmp_path / "harness", **options))
        await harnesses[-1].open()
        return harnesses[-1]

    yield make
    for harness in harnesses:
        jp_asyncio_loop.run_until_complete(harness.close())


@pytest.fixture
def harness(make_harness, jp_asyncio_loop) -> Harness:
    return jp_asyncio_loop.run_until_complete(make_harness())
