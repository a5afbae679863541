"""Reads Dask's cluster objects and certificates, in the server and in kernels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

MAX_LENGTH = 1024 * 1024  # characters of one file

_lock = threading.Lock()
_limits: WeakKeyDictionary[Any, dict[str, tuple[int, int]]] = WeakKeyDictionary()
"""The least and the largest number of workers of each pool of a cluster object."""


def adapt(cluster: Any, pool: str, least: int, most: int) -> None:
    """Have a cluster object start and end workers according to the leases of its pools."""
    with _lock:
        pools = {**_limits.get(cluster, {}), pool: (least, most)}
        _adapt(cluster, pools)
        _limits[cluster] = pools


def release(cluster: Any, pool: str) -> None:
    """Have a cluster object end the workers of a pool that does not use it any more."""
    with _lock:
        pools = dict(_limits.get(cluster, {}))
        if pool in pools:
            _, most = pools.pop(pool)
            _limits[cluster] = pools
            _adapt(cluster, pools or {pool: (0, most)})


def _adapt(cluster: Any, pools: dict[str, tuple[int, int]]) -> None:
    """Set the limits of a cluster object to the sums of those of its pools.

    The target duration is short, because Dask expects that an unknown task takes half a second.
    With a longer one it would start fewer workers than there are leases, and each lease needs one.
    Dask's cluster on Kubernetes takes only the two numbers: its scheduler has the duration.
    """
    least, most = map(sum, zip(*pools.values(), strict=True))
    try:
        cluster.adapt(minimum=least, maximum=most, target_duration="10ms", interval="1s")
    except TypeError:
        cluster.adapt(minimum=least, maximum=most)


def pem(given: str, name: str) -> str:
    """Return a PEM text: the given one, or that in the file of this name.

    ValueError if it has no line breaks or the file cannot be read. It names the field, and never
    contains ``given``, which may be a private key.
    """
    if not given or "\n" in given:
        return given
    if "-----BEGIN" in given:
        raise ValueError(f"{name} is a PEM text without line breaks")
    try:
        with Path(given).expanduser().open() as file:
            return file.read(MAX_LENGTH)
    except OSError as error:
        raise ValueError(f"the file of {name} cannot be read: {error.strerror}") from None
