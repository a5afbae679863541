"""The objects that all modules of runs use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..store.session import Session
    from .active import ActiveRuns
    from .background import Background
    from .dispatching import Dispatching
    from .estimates import EarlierTimes
    from .prepare import Loader
    from .records import RunRepository
    from .retention import EndedRuns
    from .saving import StateSaver


@dataclass(frozen=True)
class Shared:
    """The objects that all modules of runs use.

    Attributes
    ----------
    repository : RunRepository
        The records and graphs of all runs.
    machines : MachineRegistry
        The machines that runs can be sent to.
    session : Session
        The identity of this server in its requests to ComfyUI.
    active : ActiveRuns
        The unfinished runs.
    ended : EndedRuns
        The last runs that ended.
    saver : StateSaver
        Stores the states of runs.
    loader : Loader
        Reads waiting runs from the store.
    earlier_times : EarlierTimes
        The work of nodes in earlier runs.
    background : Background
        The background tasks.
    dispatching : Dispatching
        The queue in front of pools, and the load of all machines.
    kept_outputs : KeptOutputs
        The outputs of members that a provider has started.
    """

    repository: RunRepository
    machines: MachineRegistry
    session: Session
    active: ActiveRuns
    ended: EndedRuns
    saver: StateSaver
    loader: Loader
    earlier_times: EarlierTimes
    background: Background
    dispatching: Dispatching
    kept_outputs: KeptOutputs
