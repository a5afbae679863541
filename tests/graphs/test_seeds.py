import copy
import random

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.seeds import MAX_SEED, SeedMode, apply_seeds, needs_definitions
from tests.helpers.graphs import combo, declared, node, saved

SAVED, AUTO, RANDOM = SeedMode.SAVED, SeedMode.AUTO, SeedMode.RANDOM
CONTROL = {"control_after_generate": True}
KSAMPLER = {
    "KSampler": declared(
        model=["MODEL"],
        seed=["INT", {"min": 0, "max": 2**64 - 1, **CONTROL}],
        steps=["INT", {"min": 1, "max": 10000}],
    ),
    "PrimitiveInt": declared(value=["INT", {**CONTROL, "min": -9}]),
}


def sampler(seed=5):
    return node("KSampler", seed=seed, steps=20)


def ui_sampler(control, seed=5, node_id=3):
    return saved(node_id, "KSampler", [seed, control, 20, 8, "euler"])


def run(graph, mode, **kwargs):
    kwargs.setdefault("rng", random.Random(1))
    before = copy.deepcopy((graph, kwargs.get("ui")))
    seeds = apply_seeds(graph, mode, **kwargs)
    assert (graph, kwargs.get("ui")) == before
    return seeds


def test_saved_names_every_literal_seed_and_changes_nothing():
    graph = {
        "3": sampler(),
        "4": node("RandomNoise", noise_seed=7),
        "5": sampler(["4", 0]),
        "6": node("EmptyImage", width=1),
        "7": {"class_type": "Broken"},
    }
    seeds = run(graph, SAVED)
    assert seeds.graph == graph
    assert seeds.seeds == {"3.seed": 5, "4.noise_seed": 7}
    assert seeds.next_seeds == {}


def test_random_redraws_all_but_given_and_linked_seeds():
    graph = {"3": sampler(), "4": sampler(6), "5": sampler(["3", 0]), "6": sampler("8")}
    seeds = run(graph, RANDOM, given={("4", "seed")}, ui={"nodes": [ui_sampler("fixed")]})
    assert seeds.seeds["4.seed"] == 6
    assert seeds.graph["5"] == graph["5"]
    assert seeds.seeds["3.seed"] != 5
    assert seeds.seeds["6.seed"] != 8
    assert seeds.graph["3"]["inputs"] == {"seed": seeds.seeds["3.seed"], "steps": 20}
    assert set(seeds.seeds) == {"3.seed", "4.seed", "6.seed"}


@pytest.mark.parametrize("dict_form", [False, True])
@pytest.mark.parametrize("definitions", [None, KSAMPLER])
@pytest.mark.parametrize(
    ("control", "following"),
    [("fixed", 5), ("increment", 6), ("decrement", 4), ("increment-wrap", 5), ("randomize", None)],
)
def test_auto_follows_the_control_of_the_editor(control, following, definitions, dict_form):
    drawn = ui_sampler(control)
    if dict_form:
        drawn["widgets_values"] = {"seed": 5, "control_after_generate": control, "steps": 20}
    seeds = run({"3": sampler()}, AUTO, ui={"nodes": [drawn]}, definitions=definitions)
    if following is None:
        assert seeds.seeds["3.seed"] != 5
        assert seeds.next_seeds == {}
    else:
        assert (seeds.seeds, seeds.next_seeds) == ({"3.seed": 5}, {"3.seed": following})


def test_auto_changes_nothing_without_a_matching_node_and_for_given_seeds():
    other = {**ui_sampler("randomize"), "type": "Other"}
    for ui, given in (
        *((None, ()), ({}, ()), ({"nodes": [other]}, ())),
        *(({"nodes": [ui_sampler(word)]}, {("3", "seed")}) for word in ("randomize", "increment")),
    ):
        seeds = run({"3": sampler()}, AUTO, ui=ui, given=given)
        assert (seeds.seeds, seeds.next_seeds) == ({"3.seed": 5}, {})


def test_next_seeds_are_clamped_to_the_declared_range_and_the_editors():
    definitions = {"KSampler": declared(seed=["INT", {"min": 0, "max": 99}])}
    for seed, control, following, known in (
        (0, "decrement", 0, definitions),
        (99, "increment", 99, definitions),
        (2**60, "increment", 99, definitions),
        (2**50, "increment", 2**50, None),
    ):
        ui = {"nodes": [ui_sampler(control, seed)]}
        seeds = run({"3": sampler(seed)}, AUTO, ui=ui, definitions=known)
        assert seeds.next_seeds == {"3.seed": following}


def test_a_number_with_a_control_changes_but_only_a_random_one_counts_as_a_seed():
    graph = {"1": node("PrimitiveInt", value=512)}

    def auto(control):
        ui = {"nodes": [saved(1, "PrimitiveInt", [512, control])]}
        return run(graph, AUTO, ui=ui, definitions=KSAMPLER)

    assert auto("fixed").seeds == {}
    assert auto("increment").next_seeds == {"1.value": 513}
    drawn = auto("randomize")
    assert drawn.graph["1"]["inputs"]["value"] == drawn.seeds["1.value"] != 512
    ui = {"nodes": [saved(1, "PrimitiveInt", [512, "randomize"])]}
    given = {("1", "value")}
    assert run(graph, AUTO, ui=ui, given=given, definitions=KSAMPLER).seeds == {"1.value": 512}


def test_one_primitive_gives_its_samplers_the_same_new_seed():
    def ui(control):
        slot = {"name": "seed", "widget": {"name": "seed"}, "link": 9}
        samplers = [{**ui_sampler("fixed", node_id=i), "inputs": [slot]} for i in (3, 4)]
        primitive = saved(1, "PrimitiveNode", [5, control])
        return {"nodes": [*samplers, primitive], "links": [[9, 1, 0, 3, 0, "INT"]]}

    graph = {"3": sampler(), "4": sampler()}
    seeds = run(graph, AUTO, ui=ui("randomize")).seeds
    assert seeds["3.seed"] == seeds["4.seed"] != 5
    assert run(graph, AUTO, ui=ui("increment")).next_seeds == {"3.seed": 6, "4.seed": 6}


def subgraph(inner_control, **container):
    inner = {"nodes": [ui_sampler(inner_control)], "links": [], "inputs": [{"name": "seed"}]}
    host = {"id": 12, "type": "uuid", **container}
    definitions = {"subgraphs": [{"id": "uuid", **inner}]}
    return {"nodes": [host], "links": [], "definitions": definitions}


@pytest.mark.parametrize("malformed", [[], [5], [[3]]])
def test_a_control_promoted_to_the_subgraph_node_takes_precedence(malformed):
    proxies = [*malformed, ["3", "seed"], ["3", "control_after_generate"]]
    values = [*malformed, 5, "increment"]
    ui = subgraph("randomize", properties={"proxyWidgets": proxies}, widgets_values=values)
    seeds = run({"12:3": sampler()}, AUTO, ui=ui)
    assert (seeds.seeds, seeds.next_seeds) == ({"12:3.seed": 5}, {"12:3.seed": 6})


def test_a_primitive_outside_a_subgraph_controls_the_seed_inside():
    ui = subgraph("fixed", inputs=[{"name": "other"}, {"name": "seed", "link": 9}])
    ui["nodes"].append(saved(1, "PrimitiveNode", [5, "decrement"]))
    ui["links"] = [[9, 1, 0, 12, 1, "INT"]]
    (definition,) = ui["definitions"]["subgraphs"]
    definition["nodes"][0]["inputs"] = [{"name": "seed", "link": 2}]
    definition["links"] = [{"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 3}]
    assert run({"12:3": sampler()}, AUTO, ui=ui).next_seeds == {"12:3.seed": 4}


def test_auto_finds_controls_of_old_group_nodes_by_value():
    values = [513, 513, 2, 5, "decrement", 21, 7, "fixed"]
    ui = {"nodes": [saved(17, "workflow>sam", values)]}
    assert run({"17:1": sampler()}, AUTO, ui=ui).next_seeds == {"17:1.seed": 4}


def test_node_form_redraws_all_but_fixed_seeds():
    graph = {"3": sampler(), "4": sampler(), "5": sampler(), "6": sampler()}
    controls = {3: "fixed", 4: "increment", 5: "randomize"}
    ui = {"nodes": [ui_sampler(word, node_id=i) for i, word in controls.items()]}
    seeds = run(graph, RANDOM, ui=ui, node_form=True)
    assert {key for key, seed in seeds.seeds.items() if seed == 5} == {"3.seed"}
    assert seeds.next_seeds == {}


def external_seed(default, low=1, high=100):
    limits = {"min_value": low, "max_value": high}
    return {"1": node("ComfyUIDeployExternalSeed", input_id="s", default_value=default, **limits)}


@pytest.mark.parametrize("mode", list(SeedMode))
def test_external_seeds_are_drawn_only_when_the_node_would_draw_them(mode):
    assert run(external_seed(7), mode).seeds == {"1.default_value": 7}
    for graph in (external_seed(-1, 40, 42), external_seed(50, 42, 40)):
        seeds = run(graph, mode, given={("1", "default_value")})
        assert 40 <= seeds.seeds["1.default_value"] <= 42
        assert seeds.graph["1"]["inputs"]["default_value"] == seeds.seeds["1.default_value"]
    linked = external_seed(["2", 0])
    assert (run(linked, mode).graph, run(linked, mode).seeds) == (linked, {})


@for_all(
    bounds=st.none() | st.tuples(st.integers(-5, 2**64), st.integers(0, 2**64)),
    class_type=st.sampled_from(["KSampler", "SONICSampler", "PromptExpansion"]),
    rng=st.randoms(use_true_random=False),
)
def test_drawn_seeds_stay_in_range(bounds, class_type, rng):
    definitions = None
    low, high = 0, MAX_SEED
    if bounds is not None:
        low, high = bounds[0], bounds[0] + bounds[1]
        definitions = {class_type: declared(seed=["INT", {"min": low, "max": high}])}
    graph = {"1": node(class_type, seed=1)}
    seed = run(graph, RANDOM, definitions=definitions, rng=rng).seeds["1.seed"]
    limit = {"SONICSampler": 2**31 - 1, "PromptExpansion": 10**8 - 1}.get(class_type, MAX_SEED)
    assert low <= seed <= high
    if low <= limit and high >= 0:
        assert 0 <= seed <= limit


def test_a_seed_input_that_takes_no_integer_is_not_changed():
    definitions = {"A": declared(seed=["STRING", {}])}
    graph = {"1": node("A", seed="a word")}
    seeds = run(graph, RANDOM, definitions=definitions)
    assert (seeds.graph, seeds.seeds) == (graph, {})


@pytest.mark.parametrize(
    ("mode", "control", "given", "needed"),
    [
        (SAVED, "randomize", (), False),
        (AUTO, None, (), False),
        (AUTO, "fixed", (), False),
        (AUTO, "randomize", (), True),
        (AUTO, "increment", (), True),
        (RANDOM, "fixed", (), True),
        (RANDOM, None, [("3", "seed")], False),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_bounds_are_needed_where_a_seed_changes(mode, control, given, needed, inner):
    graph = {"3": node("KSampler", seed=5, noise_seed=["4", 0])}
    nodes = [saved(3, "KSampler", [5, control, 20])]
    ui = {"nodes": nodes}
    if inner:
        ui = {"nodes": [], "definitions": {"subgraphs": [{"id": "s", "nodes": nodes}]}}
    ui = None if control is None else ui
    assert needs_definitions(graph, mode, given=given, ui=ui) is needed


SEEDED = {"seed": ["INT", {"min": 5, "max": 9, **CONTROL}]}
BRANCHES = {"Partner": declared(model=combo(plain={}, seeded=SEEDED))}


def partner(seed):
    return {"1": node("Partner", model="seeded", **{"model.seed": seed})}


def test_a_seed_of_a_chosen_option_is_drawn_within_its_bounds():
    graph = partner(1000)
    drawn = run(graph, RANDOM, definitions=BRANCHES)
    assert drawn.seeds == {"1.model.seed": drawn.graph["1"]["inputs"]["model.seed"]}
    assert 5 <= drawn.seeds["1.model.seed"] <= 9
    kept = run(graph, RANDOM, given={("1", "model.seed")}, definitions=BRANCHES)
    assert kept.graph == graph
    assert needs_definitions(graph, RANDOM)
