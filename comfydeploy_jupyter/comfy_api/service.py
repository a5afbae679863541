"""The parts of the Comfy API, for handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .asset_records import AssetRepository
from .assets import Assets
from .events import JobEvents
from .job_records import JobRepository
from .jobs import Jobs
from .outputs import Outputs

if TYPE_CHECKING:
    from ..files.hashes import Hasher
    from ..machines.kept_outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRepository
    from ..runs.service import RunService
    from ..store.database import Database


class ComfyAPI(NamedTuple):
    """The parts of the Comfy API."""

    jobs: Jobs
    events: JobEvents
    assets: Assets

    @classmethod
    def build(
        cls,
        database: Database,
        records: RunRepository,
        runs: RunService,
        machines: MachineRegistry,
        hasher: Hasher,
        kept_outputs: KeptOutputs,
    ) -> ComfyAPI:
        """Return the parts, which use the same runs, machines and hashes as all other routes."""
        repository = AssetRepository(database)
        outputs = Outputs(repository, machines, kept_outputs)
        assets = Assets(repository, machines, hasher, kept_outputs)
        jobs = Jobs(runs, records, JobRepository(database), machines, outputs, assets)
        return cls(jobs, JobEvents(runs, outputs), assets)
