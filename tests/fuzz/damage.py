"""Damaged bytes and JSON for the fuzz tests, and their number.

`make test` runs the same inputs each time. ``FUZZ_EXAMPLES=100000 make fuzz`` creates
that many new ones for each test.
"""

from __future__ import annotations

import copy
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.helpers.selection import examples

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LONGEST = 2.0
"""Time limit for one small input in seconds; it takes milliseconds, but the machine may be busy."""

fuzz = settings(
    max_examples=EXAMPLES or examples(160),
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_PIECES = (
    *(b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80", b"\xc0\x80"),
    *(b"\r\n", b"\n\n", b"--", b'"', b"{" * 50, b"[" * 5000, b"PK\5\6", b"PK\3\4", b": ", b"="),
    *(b";", "é".encode("latin-1"), "\ud800".encode("utf-8", "surrogatepass"), b"1e999", b"null"),
)

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**63, 10**400, float("nan"), float("inf"), "", "x", "\0"),
    *("\ud800", "é" * 300, [], {}, [[]], [None], {"": None}, ["1", 0], ["1", -1]),
    *({"__value__": []}, "a" * 100_000, "../../etc/passwd"),
    *("{" * 1000, "/*" * 1000, "%" * 1000),
)


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """Return bytes with a few parts changed, cut, repeated or replaced by unusual values."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 4, 8, 40, 400)))
        kind = chance.randrange(6)
        if kind == 0:
            data[at:end] = chance.choice(_PIECES)
        elif kind == 1:
            data[at:at] = chance.choice(_PIECES)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * chance.randint(1, 20)
        elif kind == 4:
            data[at:end] = chance.randbytes(end - at)
        elif chance.random() < 0.3:
            del data[at:]
    return bytes(data)


def files_like(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged copies of some files, and random bytes."""
    damaged_seeds = st.builds(damaged, st.sampled_from(seeds), st.randoms(use_true_random=False))
    return damaged_seeds | st.binary(max_size=300)


def json_like(seed: Any) -> st.SearchStrategy[Any]:
    """Copies of a JSON value in which some values are replaced, missing or repeated."""
    return st.builds(_spoilt, st.just(seed), st.randoms(use_true_random=False))


def _spoilt(seed: Any, chance: random.Random) -> Any:
    value = [copy.deepcopy(seed)]
    for _ in range(chance.randint(1, 5)):
        holder: Any = value
        while True:
            places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not places:
                break
            place = chance.choice(places)
            inner = holder[place]
            if isinstance(inner, (dict, list)) and inner and chance.random() < 0.85:
                holder = inner
                continue
            kind = chance.random()
            if kind < 0.2 and holder is not value:
                del holder[place]
            elif kind < 0.35 and isinstance(holder, list) and holder is not value:
                holder.append(copy.deepcopy(inner))
            elif kind < 0.45 and isinstance(holder, dict):
                holder[chance.choice(("", "x", "\0", "é", "class_type", "__value__"))] = inner
            else:
                holder[place] = copy.deepcopy(chance.choice(ODD))
            break
    return value[0]


@contextmanager
def within_time() -> Iterator[None]:
    """Fail if the block takes too much time, except for the time of other programs."""
    begun = time.thread_time()
    yield
    took = time.thread_time() - begun
    assert took < LONGEST, f"took {took:.1f} s"
