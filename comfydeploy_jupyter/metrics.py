"""Metrics for Jupyter's ``/metrics``: counters, durations and gauges.

All metrics are in the default registry of prometheus_client, which Jupyter serves. Events are
counted by the code that handles them, for the whole process. Gauges are read when /metrics is
requested, from every server in this process (`watch`). Labels have few different values: machines,
states and kinds.
"""

from __future__ import annotations

import logging
import operator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

ENDS = ("success", "failed", "cancelled")
TRANSFER_ENDS = ("done", "failed", "cancelled")
TRANSFER_KINDS = {
    "output": "up",
    "presigned": "up",
    "volume": "up",
    "download": "down",
    "copy": "down",
}
# Seconds: a cached run takes some milliseconds, a video an hour.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

Info("comfydeploy", "The version of comfydeploy-jupyter.").info({"version": __version__})
_RUNS = Counter(
    "comfydeploy_runs_total", "Runs that have ended, by how they ended.", ("machine", "status")
)
_DURATION = Histogram(
    "comfydeploy_run_duration_seconds",
    "How long ComfyUI executed the runs that have ended.",
    ("machine", "status"),
    buckets=_BUCKETS,
)
_WAIT = Histogram(
    "comfydeploy_run_wait_seconds",
    "How long runs have waited from the request until ComfyUI began to execute them.",
    ("machine",),
    buckets=_BUCKETS,
)
_POOL_DURATION = Histogram(
    "comfydeploy_pool_run_duration_seconds",
    "How long ComfyUI executed the runs of a pool, or of auto, that have ended.",
    ("pool", "status"),
    buckets=_BUCKETS,
)
_POOL_WAIT = Histogram(
    "comfydeploy_pool_run_wait_seconds",
    "How long runs of a pool, or of auto, have waited until a ComfyUI began to execute them.",
    ("pool",),
    buckets=_BUCKETS,
)
_DISCONNECTS = Counter(
    "comfydeploy_comfyui_disconnects_total",
    "How often the connection to a ComfyUI was lost.",
    ("machine",),
)
TRANSFERS = Counter(
    "comfydeploy_transfers_total",
    "Transfers that have ended: uploads of outputs and files, downloads and copies of models.",
    ("direction", "kind", "state"),
)
RETRIES = Counter(
    "comfydeploy_transfer_retries_total",
    "Failed attempts of transfers that are repeated.",
    ("direction",),
)
BYTES = Counter(
    "comfydeploy_transfer_bytes_total",
    "Bytes that transfers have sent or received, including failed attempts.",
    ("direction",),
)
_RECEIVED_FILES = Counter(
    "comfydeploy_received_files_total", "Files that were uploaded to ComfyUI's folders."
)
_RECEIVED_BYTES = Counter(
    "comfydeploy_received_bytes_total",
    "Bytes of the files that were uploaded to ComfyUI's folders.",
)
BACKGROUND_FAILURES = Counter(
    "comfydeploy_background_failures_total",
    "Exceptions of background work that no request waits for; the log has each of them.",
)


_machines: set[str] = set()  # those that have series


def _label(machine: str) -> str:
    """Return the label of a machine; one for all that do not exist any more."""
    return machine if machine in _machines else "removed"


def add_machine(machine: str) -> None:
    """Create the series of a machine at zero: a series that starts at 1 has no rate."""
    _machines.add(machine)
    for status in ENDS:
        _RUNS.labels(machine, status)
        _DURATION.labels(machine, status)
    _WAIT.labels(machine)
    _DISCONNECTS.labels(machine)


def remove_machine(machine: str) -> None:
    """Remove the series of a machine that does not exist any more."""
    _machines.discard(machine)
    with suppress(KeyError):  # another server in this process may have removed them
        for status in ENDS:
            _RUNS.remove(machine, status)
            _DURATION.remove(machine, status)
        _WAIT.remove(machine)
        _DISCONNECTS.remove(machine)


def remove_pool(pool: str) -> None:
    """Remove the series of a pool that does not exist any more."""
    with suppress(KeyError):
        _POOL_WAIT.remove(pool)
    for status in ENDS:
        with suppress(KeyError):
            _POOL_DURATION.remove(pool, status)


def run_began(machine: str, pool: str | None, waited: float) -> None:
    """Count the start of a run, which has waited for so many seconds."""
    _WAIT.labels(_label(machine)).observe(waited)
    if pool is not None:
        _POOL_WAIT.labels(pool).observe(waited)


def run_ended(machine: str, pool: str | None, status: str, seconds: float | None) -> None:
    """Count the end of a run and, if it was executed, the duration of its execution."""
    _RUNS.labels(_label(machine), status).inc()
    if seconds is not None:
        _DURATION.labels(_label(machine), status).observe(seconds)
        if pool is not None:
            _POOL_DURATION.labels(pool, status).observe(seconds)


def comfyui_lost(machine: str) -> None:
    """Count a lost connection to ComfyUI."""
    _DISCONNECTS.labels(_label(machine)).inc()


def file_received(size: int) -> None:
    """Count an uploaded file and its size in bytes."""
    _RECEIVED_FILES.inc()
    _RECEIVED_BYTES.inc(size)


class Reading(NamedTuple):
    """The present value of a gauge."""

    name: str
    labels: tuple[str, ...]
    value: float  # seconds since the epoch for timestamps; 1 or 0 for yes or no


class _Kind(NamedTuple):
    """The meaning of a gauge, and how the values of several servers in one process are combined."""

    text: str
    labels: tuple[str, ...]
    combine: Callable[[float, float], float] = operator.add
    family: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily


READINGS = {
    "comfydeploy_comfyui_up": _Kind(
        "Whether ComfyUI is connected, so that it can execute runs.", ("machine",), min
    ),
    "comfydeploy_machine_paused": _Kind(
        "Whether pools give the machine no runs, because runs fail there.", ("machine",), max
    ),
    "comfydeploy_comfyui_queue_length": _Kind(
        "Prompts that wait or run in ComfyUI's queue, including those of others, as it last"
        " reported.",
        ("machine",),
        max,
    ),
    "comfydeploy_comfyui_last_event_timestamp_seconds": _Kind(
        "When ComfyUI last sent an event.", ("machine",), max
    ),
    "comfydeploy_comfyui_restarts": _Kind(
        "How often a ComfyUI that this server started has ended and was started again.",
        ("machine",),
        family=CounterMetricFamily,
    ),
    "comfydeploy_open_runs": _Kind("Runs that have not ended.", ("machine", "status")),
    "comfydeploy_open_transfers": _Kind("Transfers that have not ended.", ("direction", "state")),
    "comfydeploy_waiting_callbacks": _Kind(
        "Messages to status endpoints that are not delivered yet.", ()
    ),
    "comfydeploy_tunnel_up": _Kind("Whether there is a tunnel to it.", ("target",), max),
    "comfydeploy_tunnel_restarts": _Kind(
        "How often the tunnel to it failed and was started again.",
        ("target",),
        family=CounterMetricFamily,
    ),
    "comfydeploy_websocket_clients": _Kind("Clients that are connected to our WebSocket.", ()),
}


class _Readings(Collector):
    """Reads the gauges when metrics are requested."""

    def __init__(self) -> None:
        self.sources: list[Callable[[], Iterable[Reading]]] = []

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without values, so that registering them reads nothing."""
        for name, kind in READINGS.items():
            yield kind.family(name, kind.text, labels=kind.labels)

    def collect(self) -> Iterator[Metric]:
        """Read the gauges of all servers of this process."""
        found: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in READINGS}
        for source in list(self.sources):
            try:
                for name, labels, value in source():
                    known = found[name]
                    combine = READINGS[name].combine
                    known[labels] = combine(known[labels], value) if labels in known else value
            except Exception:
                # An error here must not remove Jupyter's own metrics from the response.
                log.exception("The gauges could not be read for /metrics")
        for name, kind in READINGS.items():
            family = kind.family(name, kind.text, labels=kind.labels)
            for labels, value in found[name].items():
                family.add_metric(labels, value)
            yield family


_readings = _Readings()
REGISTRY.register(_readings)
for _kind, _direction in TRANSFER_KINDS.items():
    RETRIES.labels(_direction)
    BYTES.labels(_direction)
    for _state in TRANSFER_ENDS:
        TRANSFERS.labels(_direction, _kind, _state)


def watch(source: Callable[[], Iterable[Reading]]) -> Callable[[], None]:
    """Read a server's gauges whenever metrics are requested; return a function that stops this."""
    _readings.sources.append(source)
    return lambda: _readings.sources.remove(source)
