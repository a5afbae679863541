"""The progress of a run, from its events and from earlier runs."""

import itertools

import pytest

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.dependencies import workload
from comfydeploy_jupyter.runs.progress import NodeWork, Progress

SMALL = {"model": 0.3, "text": 0.1, "latent": 0.0, "decode": 0.4, "save": 0.1}


class Execution:
    """Executes nodes on a simulated clock, and records the reported progress."""

    def __init__(self, steps, past=None):
        self.now = 100.0
        self.progress = Progress(steps, lambda: self.now)
        self.progress.learn(past or [])
        self.reported = []
        self.work = {}

    def note(self, node):
        fraction, left = self.progress.fraction(), self.progress.seconds_left()
        self.reported.append((self.now, node, fraction, left))

    def wait(self, node, seconds):
        for _ in range(10):
            self.now += seconds / 10
            self.note(node)

    def execute(self, node, seconds, *phases):
        begun = self.now
        self.progress.begin(node)
        self.note(node)
        total = sum(phases)
        for steps in phases:
            for step in range(steps):
                self.wait(node, seconds / total)
                self.progress.reach(node, step + 1, steps)
                self.note(node)
        if not phases:
            self.wait(node, seconds)
        steps, count, predicted = self.progress.steps_of(node)
        self.work[node] = NodeWork(self.now - begun, steps, count, predicted)
        self.progress.finish(node)
        self.note(node)

    def fractions(self, node):
        return [fraction for _, which, fraction, _ in self.reported if which == node]

    def error(self):
        """Return the largest difference between the progress and the elapsed share of the time."""
        (begun, *_), (end, *_) = self.reported[0], self.reported[-1]
        elapsed = ((now - begun) / (end - begun) for now, *_ in self.reported)
        return max(abs(each[2] - share) for each, share in zip(self.reported, elapsed, strict=True))

    def error_of_time_left(self):
        end = self.reported[-1][0]
        return max(abs(end - now - left) for now, *_, left in self.reported if left is not None)

    def check(self):
        """Check that the progress never decreases, and that it ends at 1."""
        fractions = [fraction for *_, fraction, _ in self.reported]
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 1 for fraction in fractions)
        assert fractions[-1] == pytest.approx(1.0)


def picture(steps=20, pace=0.5, past=None):
    """Execute a sampler among small nodes."""
    run = Execution({**dict.fromkeys(SMALL, 0), "sampler": steps}, past)
    for node in ("model", "text", "latent"):
        run.execute(node, SMALL[node])
    run.execute("sampler", steps * pace, steps)
    for node in ("decode", "save"):
        run.execute(node, SMALL[node])
    run.check()
    return run


def test_without_earlier_runs_progress_follows_the_steps():
    """And the estimate of the time left converges."""
    run = picture()
    before = run.fractions("latent")[-1]
    assert before < 0.1
    sampler = run.fractions("sampler")
    at_18 = next(f for now, node, f, _ in run.reported if node == "sampler" and now >= 100.4 + 9.0)
    assert 0.8 < at_18 < 0.95
    assert sampler[-1] > 0.94
    assert run.error() < 0.1
    shares = [b - a for a, b in itertools.pairwise(sampler)]
    assert max(shares) < 0.06, "it grows with each step"
    assert run.error_of_time_left() < 1.2
    assert run.reported[5][3] is None, "unknown before steps were reported"


@pytest.mark.parametrize("steps", [20, 4, 100])
def test_with_earlier_runs_progress_follows_the_time(steps):
    """Also if they had other numbers of steps."""
    run = picture(steps=steps, past=[picture(steps=20).work])
    assert run.error() < 1 / steps
    assert all(left is not None for *_, left in run.reported)
    assert run.error_of_time_left() < 0.6


def test_the_newest_runs_count_most_and_one_outlier_does_not_count():
    usual, odd = picture(pace=0.2).work, picture(pace=9.0).work
    run = Execution(dict.fromkeys((*SMALL, "sampler"), 0), [usual, odd, usual])
    left = run.progress.seconds_left()
    assert left == pytest.approx(sum(SMALL.values()) + 4.0, rel=0.1)


def test_two_samplers():
    run = Execution({"model": 0, "first": 20, "second": 10, "save": 0})
    run.execute("model", 0.4)
    run.execute("first", 10.0, 20)
    run.execute("second", 5.0, 10)
    run.execute("save", 0.1)
    run.check()
    assert run.error() < 0.1
    assert run.error_of_time_left() < 1.0


def test_unexpected_steps_share_the_remaining_progress():
    run = Execution(dict.fromkeys(("a", "b", "surprise", "c"), 0))
    for node in ("a", "b"):
        run.execute(node, 0.1)
    run.execute("surprise", 10.0, 20)
    inside = run.fractions("surprise")
    assert inside[-1] - inside[0] > 0.4
    assert max(b - a for a, b in itertools.pairwise(inside)) < 0.06
    run.execute("c", 0.1)
    run.check()


def test_nodes_without_steps_and_earlier_runs_count_equally():
    run = Execution(dict.fromkeys("abcde", 0))
    for node in "abcde":
        run.execute(node, 1.0)
    run.check()
    ends = [run.fractions(node)[-1] for node in "abcde"]
    assert ends == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert {left for *_, left in run.reported} == {None}


def test_nodes_without_steps_progress_with_time_after_earlier_runs():
    past = [{"slow": NodeWork(30.0), "quick": NodeWork(1.0)}]
    run = Execution({"slow": 0, "quick": 0}, past)
    run.execute("slow", 30.0)
    run.execute("quick", 1.0)
    run.check()
    assert run.error() < 0.12
    late = Execution({"slow": 0, "quick": 0}, past)
    late.execute("slow", 90.0)
    assert late.reported[-2][2] < 0.99
    assert late.reported[-2][3] is None, "no estimate after three times the usual duration"
    late.execute("quick", 1.0)
    late.check()


def test_a_node_in_several_phases():
    tiles = [20] * 9
    first = Execution({"load": 0, "tiles": 0, "save": 0})
    first.execute("load", 0.2)
    first.execute("tiles", 18.0, *tiles)
    first.execute("save", 0.2)
    first.check()
    assert first.work["tiles"] == NodeWork(pytest.approx(18.0), 20, 9, 0)
    assert {left for now, _, _, left in first.reported if now > 103} == {None}
    again = Execution({"load": 0, "tiles": 0, "save": 0}, [first.work])
    again.execute("load", 0.2)
    again.execute("tiles", 18.0, *tiles)
    again.execute("save", 0.2)
    again.check()
    assert again.error() < 0.12


def test_a_maximum_that_changes_during_a_node():
    run = Execution({"node": 0, "save": 0})
    run.progress.begin("node")
    seen = []
    for value, most in [(1, 10), (5, 10), (6, 20), (3, 20), (20, 20), (1, 1), (0, 0), (7, 5)]:
        run.now += 1
        run.progress.reach("node", value, most)
        seen.append(run.progress.fraction())
    assert seen == sorted(seen)
    assert seen[1] < seen[2] < seen[4] < 1


def test_cached_nodes_have_no_share_of_the_progress():
    run = Execution({"model": 0, "sampler": 20, "hires": 20, "decode": 0})
    run.progress.skip(["model", "sampler"])
    assert run.progress.fraction() == 0.0
    run.execute("hires", 10.0, 20)
    run.execute("decode", 0.5)
    run.check()
    assert run.error() < 0.15
    cached = Progress({"a": 0})
    cached.skip(["a"])
    assert cached.fraction() == 1.0


def test_progress_never_decreases_with_late_data_or_a_second_attempt():
    past = picture().work
    run = Execution({**dict.fromkeys(SMALL, 0), "sampler": 20})
    run.execute("model", 0.3)
    before = run.progress.fraction()
    run.progress.learn([past])
    assert run.progress.fraction() == pytest.approx(before)
    run.execute("sampler", 10.0, 20)
    reached = run.progress.fraction()
    assert reached > 0.9
    run.progress.reset()
    assert run.progress.fraction() == reached


def test_nodes_that_run_at_the_same_time():
    run = Execution({"a": 10, "b": 10, "end": 0})
    run.progress.begin("a")
    run.progress.begin("b")
    for step in range(1, 11):
        run.now += 0.5
        run.progress.reach("a", step, 10)
        run.progress.reach("b", step, 10)
        run.note("a")
    run.progress.finish("a")
    run.progress.finish("b")
    run.execute("end", 0.1)
    run.check()
    assert run.error() < 0.15


GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"steps": 20, "latent": ["2", 0]}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 8}},
    "3": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {"sigmas": ["4", 0], "latent": ["1", 0]},
    },
    "4": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["5", 0], "step": 3}},
    "5": {"class_type": "BasicScheduler", "inputs": {"steps": ["6", 0]}},
    "6": {"class_type": "PrimitiveInt", "inputs": {"value": 12}},
    "7": {
        "class_type": "KSamplerAdvanced",
        "inputs": {"steps": 20, "start_at_step": 12, "end_at_step": 10000, "x": ["3", 0]},
    },
    "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    "9": {"class_type": "KSampler", "inputs": {"steps": 50}},
    "10": {"class_type": "Odd", "inputs": {"steps": "many", "sigmas": ["10", 0]}},
}


def test_numbers_of_steps_read_from_a_graph():
    found = workload(GRAPH)
    steps = {node: steps for node, steps in found.steps.items() if steps}
    assert steps == {"1": 20, "3": 12, "7": 8, "9": 50}
    assert found.only_needed(None, None).steps.keys() == set(GRAPH)
    targets = found.only_needed(None, ["3", "nowhere"])
    assert targets.steps.keys() == {"1", "2", "3", "4", "5", "6"}
    classes = {node["class_type"]: {"input": {}, "output_node": False} for node in GRAPH.values()}
    classes["SaveImage"]["output_node"] = True
    needed = found.only_needed(NodeDefinitions(classes), None).steps.keys()
    assert needed == set(GRAPH) - {"9", "10"}, "no output depends on these"
