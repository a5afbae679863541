"""A few rounds of `tests.helpers.kill_rounds`, with each kind of kill at least once."""

import secrets
from random import Random

import pytest

from tests.helpers.kill_rounds import BrokenInvariantError, World, interrupted_migration
from tests.helpers.pool_kill_rounds import (
    CLUSTER_VICTIMS,
    BatchWorld,
    ChainWorld,
    ClusterWorld,
    PoolWorld,
)
from tests.helpers.selection import few

ROUNDS = few(("both", *("records",) * 2, "jupyter", "comfyui"))
POOL_ROUNDS = ("first", "jupyter", "second", "first and jupyter", "both", "all")


@pytest.fixture
def seed():
    return secrets.randbits(32)


def run_rounds(world, victims, seed):
    """Run a round for each victim; fail with the seed if an invariant is violated."""
    random = Random(seed)
    try:
        world.start()
        for victim in victims:
            world.round(random, victim)
    except BrokenInvariantError as fault:
        pytest.fail(f"seed {seed}:\n{fault}\n{world.jupyter.log()[-6000:]}", pytrace=False)
    finally:
        world.close()


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed_comfyui")
def test_kills_at_random_times_leave_a_consistent_state(tmp_path, bare_service, seed):
    bare_service.to_store = True
    run_rounds(World(tmp_path, bare_service), ROUNDS, seed)


@pytest.mark.thorough
@pytest.mark.timeout(800)
@pytest.mark.usefixtures("installed_comfyui")
@pytest.mark.parametrize("world", [PoolWorld, ChainWorld, BatchWorld])
def test_kills_in_a_pool_lose_no_run_and_execute_none_twice(tmp_path, seed, world):
    run_rounds(world(tmp_path), POOL_ROUNDS, seed)


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("installed_comfyui")
def test_kills_in_a_cluster_lose_no_run(tmp_path, seed):
    """Its scheduler, workers and ComfyUIs, and Jupyter."""
    run_rounds(ClusterWorld(tmp_path), CLUSTER_VICTIMS, seed)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("number", few(range(4)))
def test_kills_during_an_upgrade_leave_a_consistent_database(tmp_path, seed, number):
    try:
        interrupted_migration(tmp_path, Random(seed + number))
    except BrokenInvariantError as fault:
        pytest.fail(f"seed {seed + number}:\n{fault}", pytrace=False)
