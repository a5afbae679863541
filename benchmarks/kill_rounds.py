"""Kill servers at random times in many rounds, and check that no data is lost or damaged.

This script looks for errors and does not measure speed; `tests/test_kill_rounds.py` runs ten rounds
of it. It prints one line for each round. After the first broken invariant it prints the command
that repeats the same work and times, and ends with exit code 1.

    COMFYUI_TEST_PATH=.comfyui python -m benchmarks.kill_rounds --rounds 100 --seed 7

With ``--pool`` the servers are a Jupyter and the two ComfyUIs of a pool; with ``--chains`` and
``--batches``, too: then their work is chains, or batches with batches over their pictures. With
``--cluster`` they are a Jupyter, and the scheduler, the workers and the ComfyUIs of a Dask cluster.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from requests import RequestException

from tests.helpers.kill_rounds import VICTIMS, BrokenInvariantError, World, interrupted_migration
from tests.helpers.pool_kill_rounds import (
    CLUSTER_VICTIMS,
    BatchWorld,
    ChainWorld,
    ClusterWorld,
    PoolWorld,
)
from tests.helpers.pool_kill_rounds import VICTIMS as POOL_VICTIMS
from tests.helpers.transfer_service import running

WORLD = 15  # rounds with the same pair of servers
POOLS = {"pool": PoolWorld, "chains": ChainWorld, "batches": BatchWorld, "cluster": ClusterWorld}
KINDS = (*("jupyter",) * 4, *("records",) * 2, *VICTIMS, "migration", "migration")


def main() -> int:
    """Run the rounds; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--pool", action="store_true", help="kill the servers of a pool")
    kinds.add_argument("--chains", action="store_true", help="the same with chains")
    kinds.add_argument("--batches", action="store_true", help="the same with batches")
    kinds.add_argument("--cluster", action="store_true", help="kill those of a Dask cluster")
    parser.add_argument("--keep", type=Path, help="a folder for all files, which are left there")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="comfydeploy-kill-") as temporary:
        folder = options.keep or Path(temporary)
        kind = next((kind for kind in POOLS if getattr(options, kind)), None)
        if kind is not None:
            return pool_rounds(folder, options.rounds, options.seed, kind)
        return rounds(folder, options.rounds, options.seed)


def pool_rounds(folder: Path, count: int, seed: int, kind: str) -> int:
    """Run some rounds with a pool; the other arguments and the result are those of `rounds`."""
    random = Random(seed)
    world = POOLS[kind](folder)
    victims = CLUSTER_VICTIMS if kind == "cluster" else POOL_VICTIMS
    begin = time.monotonic()
    try:
        world.start()
        for number in range(count):
            since = time.monotonic()
            outcome = world.round(random, random.choice(victims))
            seconds = time.monotonic() - since
            print(f"{number + 1:4} {kind:8}{seconds:5.1f} s  {outcome}", flush=True)
    except (BrokenInvariantError, RequestException) as fault:
        print(f"\nBROKEN:\n{fault}\n", flush=True)
        print(f"Jupyter's log ends:\n{world.jupyter.log()[-6000:]}")
        print(f"again: python -m benchmarks.kill_rounds --{kind} --seed {seed} --rounds {count}")
        return 1
    finally:
        world.close()
    print(f"{count} rounds in {time.monotonic() - begin:.0f} s, none broken")
    return 0


def rounds(folder: Path, count: int, seed: int) -> int:
    """Run some rounds and print the result of each.

    Parameters
    ----------
    folder : pathlib.Path
        The folder for all files.
    count : int
        The number of rounds.
    seed : int
        The seed of all random choices.

    Returns
    -------
    int
        0, or 1 if an invariant was broken.
    """
    done: Counter[str] = Counter()
    begin = time.monotonic()
    for first in range(0, count, WORLD):
        world_seed = seed + first
        random = Random(world_seed)
        managed = first // WORLD % 2 == 1
        with running() as service:
            service.to_store = True
            place = folder / f"world-{first}"
            world = World(place, service, managed=managed)
            try:
                world.start()
                for number in range(first, min(first + WORLD, count)):
                    kind = random.choice(KINDS)
                    since = time.monotonic()
                    if kind == "migration":
                        store = place / f"store-{number}"
                        store.mkdir()
                        outcome = interrupted_migration(store, random)
                    else:
                        outcome = world.round(random, kind)
                    where = "managed" if managed else "apart"
                    seconds = time.monotonic() - since
                    print(f"{number + 1:4} {where:7} {seconds:5.1f} s  {outcome}", flush=True)
                    done[kind] += 1
            except (BrokenInvariantError, RequestException) as fault:
                print(f"\nBROKEN:\n{fault}\n", flush=True)
                print(f"Jupyter's log ends:\n{world.jupyter.log()[-6000:]}")
                print(f"again: python -m benchmarks.kill_rounds --seed {seed} --rounds {count}")
                return 1
            finally:
                world.close()
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(done.items()))
    print(f"{sum(done.values())} rounds in {time.monotonic() - begin:.0f} s, none broken: {kinds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
