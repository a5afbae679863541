"""What the modules of runs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..machines.registry import MachineRegistry
    from ..store.runs import RunRepository
    from ..store.session import Session
    from .active import ActiveRuns
    from .background import Background
    from .past import Past
    from .retention import EndedRuns
    from .saving import StateSaver


@dataclass(frozen=True)
class Shared:
    """What the modules of runs share.

    Attributes
    ----------
    repository : RunRepository
        The records and graphs of all runs.
    machines : MachineRegistry
        Where runs can go.
    session : Session
        The identity of this server towards ComfyUI.
    active : ActiveRuns
        The unfinished runs.
    ended : EndedRuns
        The last ones that ended.
    saver : StateSaver
        Stores their states.
    past : Past
        How long the nodes of a workflow took.
    background : Background
        For what nobody waits for.
    """

    repository: RunRepository
    machines: MachineRegistry
    session: Session
    active: ActiveRuns
    ended: EndedRuns
    saver: StateSaver
    past: Past
    background: Background
