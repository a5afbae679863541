import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.dispatch import OVERHEAD, simulate, sweep
from comfydeploy_jupyter.graphs.dependencies import fingerprint_of
from comfydeploy_jupyter.machines.placement import LOOKAHEAD, Dispatcher
from tests.helpers.selection import examples


@pytest.fixture
def dispatcher():
    return of("a", "b")


def of(*members, depth=2):
    made = Dispatcher()
    for member in members:
        made.add_member(member, depth=depth)
        made.set_connected(member, connected=True)
    made.set_pool("pool", members)
    return made


def decided(dispatcher, now=0.0):
    found = []
    while (decision := dispatcher.decide(now)) is not None:
        found.append(tuple(decision))
    return found


def execute(dispatcher, run, member, seconds, **facts):
    """Let a member execute a run that a user sent to it."""
    dispatcher.hand_over(run, member, **facts)
    dispatcher.begun(run, 0.0)
    dispatcher.ended(run, seconds)


def slow_and_fast():
    """One member needs 8 s for a run of the workflow ``s``, the other one 1 s."""
    dispatcher = of("slow", "fast")
    execute(dispatcher, "x", "slow", 8.0, structure="s")
    execute(dispatcher, "y", "fast", 1.0, structure="s")
    return dispatcher


def waits(dispatcher, runs, **facts):
    for run in runs:
        dispatcher.wait(run, "pool", **facts)


def drained(dispatcher, seconds=None):
    """Assign all waiting runs to one member, each after the end of the one before."""
    found = []
    while (decision := dispatcher.decide(0.0)) is not None:
        found.append(decision.run_id)
        dispatcher.ended(decision.run_id, seconds)
    return found


def test_runs_go_in_order_and_to_the_least_loaded(dispatcher):
    waits(dispatcher, "123456")
    assert decided(dispatcher) == [("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")]
    assert [dispatcher.position(run) for run in "156"] == [None, 1, 2]
    dispatcher.ended("2")
    assert decided(dispatcher) == [("5", "b")]


def test_a_run_with_front_precedes_all_waiting_runs(dispatcher):
    dispatcher.wait("1", "pool")
    dispatcher.wait("2", "pool", front=True)
    dispatcher.wait("3", "pool", front=True)
    assert [dispatcher.position(run) for run in "321"] == [1, 2, 3]
    assert [run for run, _ in decided(dispatcher)] == ["3", "2", "1"]


def test_withdrawn_runs_get_no_member(dispatcher):
    waits(dispatcher, "123")
    assert dispatcher.withdraw("2")
    assert not dispatcher.withdraw("2")
    assert dispatcher.position("3") == 2
    assert [run for run, _ in decided(dispatcher)] == ["1", "3"]


def test_a_run_that_is_queued_again_keeps_its_position(dispatcher):
    orders = {run: dispatcher.wait(run, "pool") for run in "123456"}
    decided(dispatcher)
    dispatcher.set_connected("a", connected=False)
    for run in ("1", "3"):
        dispatcher.ended(run)
    dispatcher.wait("3", "pool", order=orders["3"])
    assert dispatcher.position("3") == 1
    assert decided(dispatcher) == []
    dispatcher.ended("2")
    assert decided(dispatcher) == [("3", "b")]


def test_prompts_of_other_clients_use_places_of_the_queue(dispatcher):
    dispatcher.set_others("a", 2)
    waits(dispatcher, "123")
    assert decided(dispatcher) == [("1", "b"), ("2", "b")]
    dispatcher.set_others("a", 1)
    assert decided(dispatcher) == [("3", "a")]


def test_a_member_that_is_not_connected_gets_no_run(dispatcher):
    dispatcher.set_connected("a", connected=False)
    dispatcher.wait("1", "pool")
    assert decided(dispatcher) == [("1", "b")]
    dispatcher.set_connected("b", connected=False)
    dispatcher.wait("2", "pool")
    assert decided(dispatcher) == []
    dispatcher.set_connected("a", connected=True)
    assert decided(dispatcher) == [("2", "a")]


def test_a_pool_may_be_empty_and_grow():
    dispatcher = of()
    dispatcher.wait("1", "pool")
    assert decided(dispatcher) == []
    dispatcher.add_member("new")
    dispatcher.set_connected("new", connected=True)
    dispatcher.set_pool("pool", ["new"])
    assert decided(dispatcher) == [("1", "new")]
    dispatcher.remove_member("new")
    assert dispatcher.member_of("1") is None
    dispatcher.wait("2", "pool")
    dispatcher.remove_pool("pool")
    assert dispatcher.position("2") is None


def test_runs_of_pools_that_share_a_member_are_one_queue_in_order_of_age():
    dispatcher = of("a", "b")
    dispatcher.add_member("c")
    dispatcher.set_pool("only a", ["a"])
    dispatcher.set_pool("only c", ["c"])
    for member in "ab":
        dispatcher.set_others(member, 2)
    for run, pool in (("1", "pool"), ("2", "only c"), ("3", "only a"), ("4", "pool")):
        dispatcher.wait(run, pool)
    assert [dispatcher.position(run) for run in "1234"] == [1, 1, 2, 3]
    for member in "ab":
        dispatcher.set_others(member, 0)
    assert decided(dispatcher) == [("1", "a"), ("3", "a"), ("4", "b")]


@pytest.mark.parametrize(("restarts", "member"), [(False, "b"), (True, "a")])
def test_loaded_models_decide_among_idle_members(dispatcher, restarts, member):
    facts = {"structure": "s", "models": ["big.safetensors"]}
    execute(dispatcher, "x", "b", 3.0, **facts)
    dispatcher.set_connected("b", connected=not restarts)
    dispatcher.set_connected("b", connected=True)
    dispatcher.wait("1", "pool", **facts)
    assert decided(dispatcher) == [("1", member)]


def nodes(*values):
    """The fingerprint of a chain of nodes with these values."""
    graph = {}
    for number, value in enumerate(values):
        source = {"source": [str(number - 1), 0]} if number else {}
        graph[str(number)] = {"class_type": "Node", "inputs": {"value": value, **source}}
    return fingerprint_of(graph)


def test_a_run_goes_to_the_member_whose_last_run_has_the_most_nodes_in_common(dispatcher):
    dispatcher.wait("1", "pool", fingerprint=nodes(1, 1, 1))
    dispatcher.wait("2", "pool", fingerprint=nodes(2, 1, 1))
    assert decided(dispatcher) == [("1", "a"), ("2", "b")]
    dispatcher.wait("3", "pool", fingerprint=nodes(2, 1, 2))
    dispatcher.wait("4", "pool", fingerprint=nodes(1, 2, 1))
    assert decided(dispatcher) == [("3", "b"), ("4", "a")]


def test_an_idle_member_gets_a_run_although_it_has_nothing_in_common(dispatcher):
    waits(dispatcher, "12", fingerprint=nodes(1, 1, 1))
    assert decided(dispatcher) == [("1", "a"), ("2", "b")]


@pytest.mark.parametrize("by", ["models", "nodes"])
def test_a_run_that_is_less_work_is_preferred_a_limited_number_of_times(by):
    def facts(first, number):
        if by == "models":
            return {"structure": str(first), "models": [str(first)]}
        return {"fingerprint": nodes(first, number)}

    dispatcher = of("a", depth=1)
    execute(dispatcher, "x", "a", 3.0, **facts(1, 1))
    dispatcher.wait("other", "pool", **facts(2, 1))
    runs = [f"run {number}" for number in range(3 * LOOKAHEAD)]
    for number, run in enumerate(runs):
        dispatcher.wait(run, "pool", **facts(1, number + 2))
    assert drained(dispatcher, 3.0) == [*runs[:LOOKAHEAD], "other", *runs[LOOKAHEAD:]]


def test_no_run_that_is_less_work_precedes_one_with_front():
    dispatcher = of("a", depth=1)
    execute(dispatcher, "x", "a", 3.0, models=["one"], fingerprint=nodes(1, 1))
    for number in range(3):
        dispatcher.wait(f"run {number}", "pool", models=["one"], fingerprint=nodes(1, number + 2))
    dispatcher.wait("first", "pool", models=["two"], fingerprint=nodes(2, 1), front=True)
    assert decided(dispatcher) == [("first", "a")]


def test_a_member_without_common_nodes_takes_runs_that_no_other_member_has_cached():
    dispatcher = of("a", "b", depth=1)
    for run, values in (("1", (1, 1)), ("2", (1, 2)), ("3", (2, 1)), ("4", (2, 2))):
        dispatcher.wait(run, "pool", fingerprint=nodes(*values))
    assert decided(dispatcher) == [("1", "a"), ("3", "b")]
    dispatcher.set_connected("a", connected=False)
    dispatcher.ended("1")
    dispatcher.set_connected("a", connected=True)
    dispatcher.ended("3")
    assert decided(dispatcher) == [("2", "a"), ("4", "b")], "a restart empties the cache"


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("sizes", [(5, 5, 8), (8, 5, 5), (2, 10, 10)])
def test_each_different_node_of_a_sweep_is_executed_once(sizes, members):
    """200 points whose inputs are at three depths, on equally fast members."""
    executed, distinct, took = sweep(sizes, members, at_once=4 * members, by_user=False)
    assert executed <= 1.1 * distinct
    assert took <= 1.05 * (distinct + 200 * OVERHEAD) / members
    in_user_order, _, _ = sweep(sizes, members, at_once=2 * members, by_user=True)
    assert in_user_order >= 2 * executed
    if sizes == (5, 5, 8):
        assert in_user_order >= 3 * executed


def test_a_run_goes_to_the_member_that_would_end_it_first():
    """The fast one, although it is busy and the slow one is idle."""
    dispatcher = slow_and_fast()
    waits(dispatcher, "12", structure="s")
    assert decided(dispatcher) == [("1", "fast"), ("2", "fast")]


def test_speeds_are_estimated_for_workflows_that_a_member_has_not_executed():
    dispatcher = slow_and_fast()
    execute(dispatcher, "z", "slow", 80.0, structure="t")
    waits(dispatcher, "1", structure="t")
    assert decided(dispatcher) == [("1", "fast")]


@pytest.mark.parametrize("used", [["a"], ["a", "b"]], ids=["one", "two"])
def test_runs_that_do_not_all_take_equally_long_show_no_difference_between_members(used):
    """After 2,000 runs of one workflow, a member that has executed none of them is used, too."""
    dispatcher = of("a", "b", "c", depth=1)
    for number in range(2000):
        seconds = 8.0 if number % 10 == 0 else 2.0
        execute(dispatcher, str(number), used[number // 5 % len(used)], seconds, structure="s")
    waits(dispatcher, "123", structure="s")
    assert sorted(member for _, member in decided(dispatcher)) == ["a", "b", "c"]


def test_a_slow_member_takes_the_last_run_of_a_queue_only_if_the_fast_one_hangs():
    dispatcher = slow_and_fast()
    waits(dispatcher, "123", structure="s")
    assert decided(dispatcher) == [("1", "fast"), ("2", "fast")]
    dispatcher.begun("1", 0.0)
    assert decided(dispatcher, 0.5) == []
    dispatcher.ended("1", 1.0, now=1.0)
    assert decided(dispatcher, 1.0) == [("3", "fast")]
    dispatcher.begun("2", 1.0)
    waits(dispatcher, "4", structure="s")
    assert decided(dispatcher, 3.0) == []
    assert decided(dispatcher, 20.0) == [("4", "slow")]


def test_a_run_does_not_wait_for_a_member_that_would_have_to_load_its_models():
    dispatcher = of("slow", "fast", "gone")
    dispatcher.set_connected("gone", connected=False)
    other = {"structure": "other", "models": ["n"]}
    wanted = {"structure": "s", "models": ["m"]}
    execute(dispatcher, "1", "slow", 10.0, **wanted)
    execute(dispatcher, "2", "fast", 5.0, **wanted)
    execute(dispatcher, "3", "fast", 1.0, **other)
    execute(dispatcher, "4", "fast", 25.0, **wanted)  # 20 s to load the model
    execute(dispatcher, "5", "fast", 1.0, **other)
    dispatcher.wait("run", "pool", **wanted)
    assert decided(dispatcher) == [("run", "slow")]


def test_a_run_does_not_wait_while_a_faster_member_is_idle():
    dispatcher = of("slow", "fast", "gone")
    dispatcher.set_connected("gone", connected=False)
    execute(dispatcher, "1", "fast", 5.0, structure="s")
    execute(dispatcher, "2", "slow", 10.0, structure="s", fingerprint=nodes(1, 1))
    dispatcher.wait("run", "pool", structure="s", fingerprint=nodes(1, 2))
    assert [run for run, _ in decided(dispatcher)] == ["run"]


def test_a_run_does_not_wait_for_prompts_of_other_clients():
    dispatcher = slow_and_fast()
    dispatcher.set_others("fast", 2)
    waits(dispatcher, "1", structure="s")
    assert decided(dispatcher) == [("1", "slow")]


@pytest.mark.parametrize(("count", "limit"), [(4, 1.05), (40, 1.15)])
def test_unequal_members_are_all_used_well(count, limit):
    speeds = [1.0, 2.0, 4.0, 8.0] * (count // 4)
    runs = 100 * count
    outcome = simulate(speeds, [1.0] * runs, ["s"] * runs, deaths=0, seed=1)
    assert outcome.makespan <= limit * outcome.bound


@given(
    speeds=st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    runs=st.lists(st.tuples(st.floats(0.1, 10), st.sampled_from("stuv")), max_size=40),
    deaths=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=examples(60))
def test_every_run_is_executed_once_even_if_members_end(speeds, runs, deaths, seed):
    works, structures = [run[0] for run in runs], [run[1] for run in runs]
    outcome = simulate(speeds, works, structures, deaths=deaths, seed=seed)
    assert set(outcome.ends.values()) <= {1}


@pytest.mark.parametrize("known", [True, False])
@given(
    fast=st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=4),
    times_slower=st.sampled_from([2, 4, 8, 50]),
    place=st.integers(0, 4),
    runs=st.integers(1, 40),
    work=st.sampled_from([0.25, 1.0, 30.0]),
    latency=st.sampled_from([0.0, 0.02, 0.05]),
    between=st.sampled_from([0.0, 0.002, 0.05]),
)
@settings(max_examples=examples(80))
def test_a_slow_member_makes_no_pool_slower(
    known, fast, times_slower, place, runs, work, latency, between
):
    """While it is not known that it is slow, it costs at most one of its runs."""
    slow = min(fast) / times_slower
    facts = {"deaths": 0, "seed": 1, "latency": latency, "known": known, "between": between}
    with_it, without = (
        simulate(speeds, [work] * runs, ["s"] * runs, **facts).makespan
        for speeds in ([*fast[:place], slow, *fast[place:]], fast)
    )
    limit = 1.05 * without if known else without + work / slow
    assert with_it <= limit + 2 * latency


def test_runs_of_different_durations_do_not_go_to_a_slow_member_at_the_end():
    works = [30.0 if number % 4 == 1 else 0.5 for number in range(40)]
    names = [str(work) for work in works]
    facts = {"deaths": 0, "seed": 1, "latency": 0.02, "known": True}
    with_it, without = (
        simulate(speeds, works, names, **facts).makespan for speeds in ([2, 1, 0.125], [2, 1])
    )
    assert with_it <= 1.05 * without


def test_waiting_behind_a_run_is_no_part_of_the_execution(dispatcher):
    """The start of a run is reported a little later than the end of the one before it."""
    for structure, seconds in (("long", 30.0), ("s", 1.0)):
        execute(dispatcher, "old", "a", seconds, structure=structure)
        execute(dispatcher, "older", "b", 8 * seconds, structure=structure)
    dispatcher.hand_over("1", "a", structure="long", now=100.0)
    dispatcher.hand_over("2", "a", structure="s", now=100.0)
    dispatcher.begun("1", 100.0)
    dispatcher.ended("1", 30.0, now=130.0)
    dispatcher.wait("3", "pool", structure="s")
    assert decided(dispatcher, 130.01) == [("3", "a")]


def test_no_run_waits_on_a_member_that_may_be_slow(dispatcher):
    waits(dispatcher, "12345", structure="s")
    assert decided(dispatcher) == [("1", "a"), ("2", "b")]
    dispatcher.ended("1", 1.0, now=1.0)
    assert decided(dispatcher, 1.0) == [("3", "a"), ("4", "a")]
    dispatcher.ended("2", 1.0, now=1.0)
    assert decided(dispatcher, 1.0) == [("5", "b")]


def test_a_run_waits_a_limited_time_for_a_fast_machine_that_begins_nothing(dispatcher):
    execute(dispatcher, "old", "a", 10.0, structure="w")
    execute(dispatcher, "older", "b", 0.5, structure="w")
    waits(dispatcher, "123", structure="w")
    assert decided(dispatcher, 100.0) == [("1", "b"), ("2", "b")]
    assert decided(dispatcher, 101.0) == [], "it should have time for all"
    assert decided(dispatcher, 130.0) == [("3", "a")]


def fail(dispatcher, run, at, seconds=0.1):
    dispatcher.begun(run, at - seconds)
    dispatcher.ended(run, failed=True, now=at)


@pytest.mark.parametrize(("seconds", "failures"), [(0.1, 2), (30.0, 3)])
def test_a_member_that_fails_runs_is_paused_and_tried_again(dispatcher, seconds, failures):
    """The failure of the run with which it is tried does not count."""
    for number in range(20):
        dispatcher.wait(str(number), "pool", structure="s")
    (on_a, _) = decided(dispatcher)
    broken = on_a[1]
    failed, at = [], 0.0
    while dispatcher.member(broken).pause is None:
        at += 1.0
        (run,) = dispatcher.member(broken).handed
        assert not dispatcher.is_excused(run)
        fail(dispatcher, run, at, seconds)
        failed.append(run)
        decided(dispatcher, at)
    assert len(failed) == failures
    assert decided(dispatcher, at + 9.9) == []
    run, member = decided(dispatcher, at + 10.0)[0]
    assert (member, dispatcher.member(broken).pause.holds) == (broken, False)
    assert decided(dispatcher, at + 11.0) == [], "it is tried with one run"
    assert dispatcher.is_excused(run)
    fail(dispatcher, run, at + 12.0)
    dispatcher.wait(run, "pool", structure="s", order=0, avoid=broken)
    assert decided(dispatcher, at + 31.9) == [], "the next pause is longer"
    (again,) = decided(dispatcher, at + 32.0)
    assert again[1] == broken
    assert again[0] != run, "it goes to another member"
    dispatcher.ended(again[0], 1.0, now=at + 33.0)
    assert dispatcher.member(broken).pause is None


def test_a_workflow_that_fails_on_all_members_pauses_none(dispatcher):
    at = 0.0
    for number in range(20):
        dispatcher.wait(str(number), "pool", structure="s")
        for run, _ in decided(dispatcher, at):
            at += 1.0
            fail(dispatcher, run, at)
    assert dispatcher.paused == set()


def test_a_member_is_not_paused_for_a_workflow_that_then_fails_elsewhere(dispatcher):
    for run in "123":
        dispatcher.hand_over(run, "b" if run == "3" else "a", structure="s", pool="pool")
    fail(dispatcher, "1", 1.0)
    fail(dispatcher, "2", 2.0)
    assert dispatcher.paused == {"a"}
    fail(dispatcher, "3", 3.0)
    assert dispatcher.paused == set()


def test_a_member_is_not_paused_while_the_others_fail_too(dispatcher):
    for number in range(3):
        dispatcher.hand_over(
            str(number), "b" if number else "a", structure=str(number), pool="pool"
        )
    fail(dispatcher, "1", 1.0)
    fail(dispatcher, "2", 2.0)
    assert dispatcher.paused == {"b"}
    fail(dispatcher, "0", 3.0)
    assert dispatcher.paused == set()


@pytest.mark.parametrize("pool", ["pool", None], ids=["of the last member", "sent there by name"])
def test_failures_that_pause_no_member(dispatcher, pool):
    dispatcher.set_connected("b", connected=pool is None)
    for number in range(9):
        dispatcher.hand_over(str(number), "a", structure=str(number), pool=pool)
        fail(dispatcher, str(number), float(number))
    assert dispatcher.paused == set()


def test_a_paused_member_is_tried_when_it_is_connected_again(dispatcher):
    for run in "12":
        dispatcher.hand_over(run, "a", structure=run, pool="pool")
        fail(dispatcher, run, 1.0)
    dispatcher.set_others("b", 2)
    dispatcher.wait("3", "pool")
    assert decided(dispatcher, 2.0) == []
    dispatcher.set_connected("a", connected=False)
    dispatcher.set_connected("a", connected=True)
    assert decided(dispatcher, 3.0) == [("3", "a")]


def test_a_pool_takes_turns_between_clients():
    dispatcher = of("a", depth=1)
    for number in range(24):
        dispatcher.wait(f"many-{number}", "pool", client="many")
    first = dispatcher.decide(0.0)
    assert first is not None
    for number in range(2):
        dispatcher.wait(f"few-{number}", "pool", client="few")
    dispatcher.wait("other", "pool")
    dispatcher.wait("front", "pool", client="many", front=True)
    expected = ["front", "few-0", "other", "many-1", "few-1"]
    assert [dispatcher.position(run) for run in expected] == [1, 2, 3, 4, 5]
    dispatcher.ended(first.run_id)
    assert drained(dispatcher) == [*expected, *(f"many-{number}" for number in range(2, 24))]


def test_single_runs_come_before_the_points_of_batches_which_take_turns():
    dispatcher = of("a", depth=1)
    for run in "123":
        dispatcher.wait(run, "pool", client="first", later=True)
    for run in "456":
        dispatcher.wait(run, "pool", client="second", later=True)
    assert [dispatcher.position(run) for run in "1425"] == [1, 2, 3, 4]
    assert [run for run, _ in decided(dispatcher)] == ["1"]
    dispatcher.wait("x", "pool", client="ada")
    dispatcher.wait("y", "pool", client="ada")
    dispatcher.wait("z", "pool", front=True)
    assert [dispatcher.position(run) for run in "zxy4"] == [1, 2, 3, 4]
    dispatcher.ended("1")
    assert drained(dispatcher) == [*"zxy4253", "6"]
    dispatcher.wait("7", "pool", client="first", later=True)
    dispatcher.wait("w", "pool", client="ada")
    assert drained(dispatcher) == ["w", "7"]


def test_runs_that_were_withdrawn_cost_a_client_no_turn():
    dispatcher = of("a", depth=1)
    dispatcher.set_others("a", 1)
    for number in range(10):
        dispatcher.wait(f"one-{number}", "pool", client="one")
    for number in range(9):
        dispatcher.withdraw(f"one-{number}")
    waits(dispatcher, "123", client="two")
    dispatcher.set_others("a", 0)
    assert drained(dispatcher) == ["one-9", "1", "2", "3"]


def test_clients_take_turns_on_the_machines_that_two_pools_share():
    dispatcher = of("a", depth=1)
    dispatcher.set_pool("auto", ["a"])
    for number in range(20):
        dispatcher.wait(f"many-{number}", "pool", client="many")
    for _ in range(10):
        decision = dispatcher.decide(0.0)
        dispatcher.ended(decision.run_id)
    for number in range(2):
        dispatcher.wait(f"few-{number}", "auto", client="few")
    assert [dispatcher.position(run) for run in ("few-0", "many-10", "few-1")] == [1, 2, 3]
    assert drained(dispatcher)[:4] == ["few-0", "many-10", "few-1", "many-11"]


def test_a_run_that_returns_gets_the_turn_of_its_client_back():
    dispatcher = of("a", depth=1)
    orders = {
        run: dispatcher.wait(run, "pool", client=run[0]) for run in ("a1", "a2", "b1", "b2", "c1")
    }
    decided(dispatcher)
    dispatcher.ended("a1")
    dispatcher.wait("a1", "pool", client="a", order=orders["a1"])
    assert drained(dispatcher) == ["a1", "b1", "c1", "a2", "b2"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["wait", "wait", "wait", "front", "withdraw", "decide", "return"]),
            st.sampled_from(["", "one", "two", "three"]),
            st.sampled_from(["pool", "pool", "auto"]),
            st.integers(0, 50),
        ),
        max_size=60,
    )
)
@settings(max_examples=examples(200))
def test_positions_are_the_order_in_which_runs_are_assigned(steps):
    dispatcher = of("a", depth=1)
    dispatcher.set_pool("auto", ["a"])
    known = {}
    waiting = []
    gone = []
    for number, (what, client, pool, which) in enumerate(steps):
        run = str(number)
        if what in ("wait", "front"):
            order = dispatcher.wait(run, pool, client=client, front=what == "front")
            known[run] = client, pool, order
            waiting.append(run)
        elif what == "withdraw" and waiting:
            dispatcher.withdraw(waiting.pop(which % len(waiting)))
        elif what == "decide" and (decision := dispatcher.decide(0.0)) is not None:
            dispatcher.ended(decision.run_id)
            waiting.remove(decision.run_id)
            gone.append(decision.run_id)
        elif what == "return" and gone:
            run = gone.pop(which % len(gone))
            client, pool, order = known[run]
            dispatcher.wait(run, pool, client=client, order=order)
            waiting.append(run)
    positions = {run: dispatcher.position(run) for run in waiting}
    assert sorted(positions.values()) == [*range(1, len(waiting) + 1)]
    assert drained(dispatcher) == sorted(waiting, key=positions.__getitem__)
    for one, (client, pool, order) in known.items():
        for other in known:
            if known[other][:2] == (client, pool) and order < known[other][2] and order > 0:
                same = positions.get(one), positions.get(other)
                assert None in same or same[0] < same[1], "a client's runs keep their order"


def test_a_run_goes_to_the_member_that_has_what_it_needs(dispatcher):
    dispatcher.set_lacks("a", ["rare"], 0.0)
    for run in ("1", "2", "3"):
        dispatcher.wait(run, "pool", needs=["rare"])
    dispatcher.wait("4", "pool", needs=["usual"])
    assert decided(dispatcher) == [("1", "b"), ("2", "b"), ("4", "a")]
    assert decided(dispatcher, 59.0) == []
    assert decided(dispatcher, 60.0) == [("3", "a")], "it may have it now"


def test_a_run_does_not_wait_for_a_faster_member_that_lacks_what_it_needs(dispatcher):
    execute(dispatcher, "x", "a", 1.0, structure="s")
    execute(dispatcher, "y", "b", 8.0, structure="s")
    dispatcher.set_lacks("a", ["rare"], 0.0)
    dispatcher.hand_over("z", "a", structure="s", now=0.0)
    dispatcher.wait("1", "pool", structure="s", needs=["rare"])
    assert decided(dispatcher) == [("1", "b")]


def test_a_run_that_no_member_can_execute_is_refused_by_one(dispatcher):
    for member in "ab":
        dispatcher.set_lacks(member, ["rare"], 0.0)
    dispatcher.wait("1", "pool", needs=["rare"])
    assert decided(dispatcher) == [("1", "a")]
