import copy
import json
import random

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError, UnknownInputError
from comfydeploy_jupyter.graphs.external import (
    EXTERNAL_PREFIX,
    EXTERNAL_VALUE_FIELD,
    inline_external,
    place_files,
)
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.inputs import apply_inputs
from tests.helpers.graphs import declared, node

SAMPLER = {"seed": 1, "steps": 20, "model": ["4", 0], "positive": ["6", 0]}
GRAPH = {
    "3": node("KSampler", "Sampler v1.5", **SAMPLER),
    "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "8": node("PrimitiveInt", "Width", value=8),
    "9": node("PrimitiveInt", "Height", value=9),
    "6": node("CLIPTextEncode", "Prompt", text="a"),
    "12:7": node("CLIPTextEncode", "Prompt", text="b"),
}


def external(name, input_id="thing", **inputs):
    return node(EXTERNAL_PREFIX + name, f"External {name}", input_id=input_id, **inputs)


def apply(graph, inputs, **kwargs):
    before = copy.deepcopy((graph, inputs))
    applied = apply_inputs(graph, inputs, **kwargs)
    assert (graph, inputs) == before
    return applied


# ------------------------------------------------------------------------ apply_inputs


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("3.steps", ("3", "steps")),
        ("12:7.text", ("12:7", "text")),
        ("Sampler v1.5.steps", ("3", "steps")),
        ("ckpt_name", ("4", "ckpt_name")),
        ("3.model", ("3", "model")),
        ("Width", ("8", "value")),
    ],
)
def test_a_key_names_one_input(key, target):
    applied = apply(GRAPH, {key: "new"})
    node_id, name = target
    expected = copy.deepcopy(GRAPH)
    expected[node_id]["inputs"][name] = "new"
    assert applied.graph == expected
    assert applied.given == {target: key}
    assert applied.unknown == {}


def test_lookup_order():
    graph = {
        "a": external("Text", "x.y", default_value="0"),
        "x": node("A", **{"y": 0, "z": 0, "x.z": 0}),
        "t": node("A", "x", z=0, v=0),
        "w": node("A", **{"x.v": 0}),
    }
    assert set(apply(graph, {"x.y": 1}).given) == {("a", "input_id"), ("a", "default_value")}
    assert set(apply(graph, {"x.z": 1}).given) == {("x", "z")}
    assert set(apply(graph, {"x.v": 1}).given) == {("t", "v")}
    assert set(apply({"w": graph["w"]}, {"x.v": 1}).given) == {("w", "x.v")}


@pytest.mark.parametrize(
    ("key", "candidates"),
    [
        ("text", ["6.text", "12:7.text"]),
        ("Prompt.text", ["6.text", "12:7.text"]),
        ("3.step", ["Sampler v1.5.steps"]),
        ("Sampler v1.5.sed", ["Sampler v1.5.seed"]),
        ("Samplr v1.5.seed", ["Sampler v1.5.seed"]),
        ("Widht.value", ["Width.value"]),
        ("Widht", ["Width.value"]),
        ("Sampler v1.5", ["Sampler v1.5.seed", "Sampler v1.5.steps"]),
        ("Prompt", ["6.text", "12:7.text"]),
        ("Samplr v1.5", ["Sampler v1.5.seed", "Sampler v1.5.steps"]),
        ("4.nothing_like_it", ["4.ckpt_name"]),
        ("ckpt_nam", ["ckpt_name"]),
        ("99.seed", ["seed"]),
        ("99.txt", ["6.text", "12:7.text"]),
        ("", []),
    ],
)
def test_a_key_that_matches_no_or_several_inputs_is_refused_with_candidates(key, candidates):
    with pytest.raises(UnknownInputError) as caught:
        apply(GRAPH, {"steps": 3, key: 1})
    details = caught.value.details
    assert details["field"] == f"inputs.{key}"
    assert details["unknown"] == {key: candidates}
    assert f"inputs.{key}: " in caught.value.message
    loose = apply(GRAPH, {"steps": 3, key: 1}, strict=False)
    assert loose.unknown == {key: candidates}
    assert loose.given == {("3", "steps"): "steps"}


def test_every_bad_key_is_reported_at_once():
    with pytest.raises(UnknownInputError) as caught:
        apply(GRAPH, {"text": 1, "nope": 2})
    assert list(caught.value.details["unknown"]) == ["text", "nope"]
    assert "matches several inputs" in caught.value.message
    assert "no input of the workflow" in caught.value.message


def test_unknown_names_of_a_workflow_with_external_inputs_get_these_as_candidates():
    graph = {**GRAPH, "1": external("Text", "caption", default_value="")}
    assert apply(graph, {"zzzzz": 1}, strict=False).unknown == {"zzzzz": ["caption"]}


def test_inputs_can_be_added_only_if_definitions_declare_them():
    definitions = {"CLIPTextEncode": {"input": {"optional": {"weight": ["FLOAT", {}]}}}}
    applied = apply(GRAPH, {"6.weight": 2.0}, definitions=definitions)
    assert applied.graph["6"]["inputs"] == {"text": "a", "weight": 2.0}
    for key, known in (("6.weight", None), ("4.weight", definitions), ("weight", definitions)):
        assert key in apply(GRAPH, {key: 2.0}, definitions=known, strict=False).unknown


def test_nodes_without_inputs_cause_no_error():
    graph = {"1": {"class_type": "A"}, "2": {}, "3": {"class_type": "B", "inputs": None}}
    assert apply(graph, {"1.a": 1}, strict=False).graph == graph


def test_an_external_value_goes_to_its_field_and_to_input_id():
    for kind, field in EXTERNAL_VALUE_FIELD.items():
        name = kind.removeprefix(EXTERNAL_PREFIX)
        value = "https://x/y" if name != "ImageBatch" else '["https://x/y"]'
        applied = apply({"1": external(name, "in"), "2": external(name, "out")}, {"in": value})
        assert applied.graph["1"]["inputs"] == {"input_id": value, field: value}
        assert applied.graph["2"]["inputs"] == {"input_id": "out"}
        assert applied.given == {("1", "input_id"): "in", ("1", field): "in"}


def test_images_and_videos_read_their_input_id_and_some_a_name():
    for name in ("Image", "ImageAlpha", "Video", "Vid"):
        applied = apply({"1": external(name, "in")}, {"in": "https://x/y"})
        assert applied.graph["1"]["inputs"] == {"input_id": "https://x/y"}
    named = {"Video": "default_video", "Vid": "default_value"}
    for name, field in {**named, "FaceModel": "default_face_model_name"}.items():
        applied = apply({"1": external(name, "in")}, {"in": "a.mp4"})
        assert applied.graph["1"]["inputs"][field] == "a.mp4"


def test_all_external_nodes_of_one_input_id_are_set_and_values_are_no_names():
    graph = {"1": external("Text", "t"), "2": external("NumberInt", "t")}
    applied = apply(graph, {"t": 4})
    assert [each["inputs"]["default_value"] for each in applied.graph.values()] == [4, 4]
    graph = {"1": external("Text", "a"), "2": external("Text", "b")}
    applied = apply(graph, {"a": "b", "b": "c"})
    assert [each["inputs"]["default_value"] for each in applied.graph.values()] == ["b", "c"]


def test_batches_of_images_and_words_for_booleans():
    for value, stored in (
        *((["a", "b"], '["a", "b"]'), ("a", '["a"]'), ('["a"]', '["a"]')),
        *(([], "[]"), ("", "[]")),
    ):
        inputs = apply({"1": external("ImageBatch", "in")}, {"in": value}).graph["1"]["inputs"]
        assert inputs == {"input_id": stored, "images": stored}
    for value, stored in (("false", False), ("True", True), (False, False)):
        inputs = apply({"1": external("Boolean", "in")}, {"in": value}).graph["1"]["inputs"]
        assert inputs["default_value"] is stored


# ------------------------------------------------------------------------ inline_external


def inline(graph, known=(), **kwargs):
    before = copy.deepcopy(graph)
    inlined = inline_external(graph, known, **kwargs)
    assert graph == before
    return inlined


def reads(*links):
    return node("Out", **{f"i{n}": link for n, link in enumerate(links)})


def value_of(inner):
    inlined = inline({"1": inner, "2": reads(["1", 0])})
    assert inlined.files == []
    assert list(inlined.graph) == ["2"]
    return inlined.graph["2"]["inputs"]["i0"]


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        (external("Text", default_value="a"), "a"),
        (external("TextAny", default_value=5), "5"),
        (external("Enum", default_value="b", options='["a","b"]'), "b"),
        (external("Number", "name", default_value=2), 2.0),
        (external("Number", "1.5", default_value=2), 1.5),
        (external("Number", "-1e3", default_value=2), -1000.0),
        (external("Number", "nan", default_value=2), 2.0),
        (external("NumberInt", "name", default_value=7), 7),
        (external("NumberInt", "12", default_value=7), 12),
        (external("NumberInt", 0, default_value=7), 0),
        (external("NumberInt", "-12", default_value=7), 7),
        (external("NumberInt", "1.5", default_value=7.9), 7),
        (external("NumberInt", str(2**63), default_value=7), 2**63),
        (external("NumberInt", default_value=2**60 + 1), 2**60 + 1),
        (external("NumberSlider", "0.25", default_value=0.5), 0.25),
        (external("NumberSlider", "3", default_value=0.5), 0.5),
        (external("NumberSlider", "3", default_value=0.5, min_value=2, max_value=4), 3.0),
        (external("NumberSliderInt", "9.6", default_value=1), 10),
        (external("NumberSliderInt", "10.6", default_value=1), 1),
        (external("NumberSliderInt", "x", default_value=1), 1),
        (external("NumberSliderInt", "0", default_value=7, min_value=0.5), 0),
        (external("Boolean", default_value=False), False),
        (external("Boolean", default_value=1), True),
        (external("Seed", default_value=9, min_value=1, max_value=10), 9),
        (external("Checkpoint", default_value="a.ckpt"), "a.ckpt"),
        (external("Lora", lora_url="", default_lora_name="a"), "a"),
        (external("Lora", lora_url="b", default_lora_name="a"), "b"),
        (external("FaceModel", face_model_url="b", default_face_model_name="a"), "b"),
        (external("FaceModel", default_face_model_name="a"), "a"),
        (external("Text", default_value=["8", 1]), ["8", 1]),
        (external("NumberInt", default_value=["8", 1]), ["8", 1]),
        (external("Seed", default_value=["8", 1]), ["8", 1]),
        (external("File", file_url=""), ""),
        (external("Image", default_value=["8", 1]), ["8", 1]),
        (external("ImageBatch", "x", images="[]", default_value=["8", 1]), ["8", 1]),
        (external("Audio", audio_file="", default_value=["8", 1]), ["8", 1]),
    ],
)
def test_a_link_is_replaced_by_the_value_that_the_node_would_return(inner, value):
    found = value_of(inner)
    assert found == value
    assert type(found) is type(value)


def test_a_drawn_seed_is_the_same_for_all_and_in_range():
    seed = external("Seed", default_value=-1, min_value=1, max_value=2**40)
    inlined = inline({"1": seed, "2": reads(["1", 0], ["1", 0]), "3": reads(["1", 0])})
    seeds = {v for n in inlined.graph.values() for v in n["inputs"].values()}
    assert len(seeds) == 1
    assert 1 <= seeds.pop() <= 2**40
    one, two = (inline({"1": seed, "2": reads(["1", 0])}, rng=random.Random(3)).graph for _ in "ab")
    assert one == two


def test_given_values_are_used_by_linked_nodes():
    graph = {"1": external("NumberInt", "steps", default_value=20), "2": reads(["1", 0])}
    applied = apply(graph, {"steps": -3})
    assert inline(applied.graph, given=applied.given).graph == {"2": reads(-3)}
    applied = apply(graph, {"steps": "many"})
    with pytest.raises(InvalidRequestError) as caught:
        inline(applied.graph, given=applied.given)
    assert caught.value.details["field"] == "inputs.steps"


def test_long_chains_of_external_nodes_are_resolved_and_cycles_refused():
    links = {str(i): external("Text", default_value=[str(i + 1), 0]) for i in range(3000)}
    graph = {**links, "3000": external("Text", default_value="end"), "out": reads(["0", 0])}
    assert inline(graph).graph == {"out": reads("end")}
    graph["3000"] = external("Text", default_value=["0", 0])
    with pytest.raises(InvalidRequestError, match="linked to itself"):
        inline(graph)


def test_known_classes_and_other_nodes_of_the_pack_are_left_alone():
    graph = {
        "1": external("Text", default_value="a"),
        "2": node("ComfyUIDeployStringCombine", text_a=["1", 0]),
        "3": external("SomethingNew", default_value="a"),
        "4": reads(["3", 0]),
    }
    assert inline(graph, {EXTERNAL_PREFIX + "Text"}).graph == graph
    assert set(inline(graph).graph) == {"2", "3", "4"}


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        (external("Image"), "inputs.thing: no value"),
        (external("Text"), "inputs.thing: no value"),
        (external("NumberInt", default_value="x"), "inputs.thing: must be a number"),
        (external("Number", default_value=10**400), "inputs.thing: must be a number"),
        (external("Seed", default_value="x"), "inputs.thing: must be an integer"),
        (external("Checkpoint", default_value="https://x/y"), "volume/model"),
        (external("Lora", lora_url="https://x/y"), "volume/model"),
        (external("FaceModel", face_model_url="https://x/y"), "volume/model"),
        (external("EXR", exr_file="a.exr"), "EXR"),
        (external("EXR", exr_file=""), "no value"),
        (external("ImageBatch", images="{"), "list of images"),
        (external("ImageBatch", images="[1]"), "list of images"),
        (external("Video", "https://x/y.mp4", frame_load_cap=16), "frame_load_cap"),
    ],
)
def test_options_that_stock_nodes_lack_are_refused(inner, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        inline({"1": inner, "2": reads(["1", 0])})
    assert inline({"1": inner, "2": reads()}).graph == {"2": reads()}


@pytest.mark.parametrize("name", ["Image", "ImageAlpha", "Vid", "Video", "Audio", "File"])
def test_a_given_name_is_a_file_and_takes_precedence_over_defaults(name):
    inner = external(name, "pic", default_value=["9", 0], default_value_url="https://x/y")
    applied = apply({"1": inner, "2": reads(["1", 0])}, {"pic": "cat.png"})
    (need,) = inline(applied.graph, given=applied.given).files
    assert (need.input_id, need.sources) == ("pic", ("cat.png",))


# ------------------------------------------------------------------------ place_files


def place(inner, files, *slots):
    inlined = inline({"1": inner, "2": reads(*(["1", slot] for slot in slots))})
    before = copy.deepcopy(inlined.graph)
    placed = place_files(inlined.graph, {"1": files})
    assert inlined.graph == before
    assert not any(n["class_type"].startswith(EXTERNAL_PREFIX) for n in placed.values())
    return placed


def test_an_image_is_loaded_under_the_same_id():
    loader = node("LoadImage", "External Image", image="y.png")
    placed = place(external("Image", "https://x/y"), "y.png", 0)
    assert placed == {"2": reads(["1", 0]), "1": loader}
    placed = place(external("ImageAlpha", "https://x/y"), "y.png", 0)
    joined = node("JoinImageWithAlpha", "External ImageAlpha", image=["1:1", 0], alpha=["1:1", 1])
    assert placed["1"] == joined
    assert placed["1:1"] == node("LoadImage", image="y.png")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33])
def test_a_batch_keeps_the_order_of_its_images_in_a_flat_tree(count):
    files = [f"{n}.png" for n in range(count)]
    placed = place(external("ImageBatch", images=json.dumps(files)), files, 0)

    def leaves(node_id):
        inputs = placed[node_id]["inputs"]
        if placed[node_id]["class_type"] == "LoadImage":
            return [inputs["image"]], 1
        (left, a), (right, b) = leaves(inputs["image1"][0]), leaves(inputs["image2"][0])
        return left + right, 1 + max(a, b)

    order, depth = leaves("1")
    assert order == files
    assert depth <= 1 + (count - 1).bit_length()
    with pytest.raises(InvalidRequestError, match="no image"):
        place(external("ImageBatch", images='["https://x/a.zip"]'), [], 0)


def test_a_video_gives_frames_their_number_and_sound():
    placed = place(external("Video", "https://x/y.mp4"), "y.mp4", 0, 1, 2)
    assert placed["1"] == node("GetVideoComponents", "External Video", video=["1:1", 0])
    assert placed["1:1"] == node("LoadVideo", file="y.mp4")
    assert placed["1:2"] == node("GetImageSize", image=["1", 0])
    assert placed["2"] == reads(["1", 0], ["1:2", 2], ["1", 1])
    assert "1:2" not in place(external("Video", "https://x/y.mp4"), "y.mp4", 2)


def test_errors_of_external_nodes_name_them_by_their_titles():
    clip = {**external("Video", "https://x/y.mp4", frame_load_cap=3), "_meta": {"title": "Clip"}}
    says = r'frame_load_cap of the External Video node "Clip" \(ComfyUIDeployExternalVideo\)'
    with pytest.raises(InvalidRequestError, match=says):
        inline({"1": clip, "2": reads(["1", 0])})
    twin = {**external("Video", "https://x/z.mp4"), "_meta": {"title": "Clip"}}
    with pytest.raises(InvalidRequestError, match=r"Video, id 1\)"):
        inline({"1": clip, "2": reads(["1", 0]), "3": twin, "4": reads(["3", 0])})
    for slot in (3, 4):
        with pytest.raises(InvalidRequestError, match="External Video"):
            place(external("Video", "https://x/y.mp4"), "y.mp4", slot)


def test_audio_and_paths():
    placed = place(external("Audio", audio_file="https://x/a.wav"), "a.wav", 0)
    assert placed["1"]["class_type"] == "LoadAudio"
    assert placed["1"]["inputs"] == {"audio": "a.wav"}
    for inner in (external("Vid", "https://x/a"), external("File", file_url="https://x/a")):
        assert place(inner, "/in/a", 0, 0) == {"2": reads("/in/a", "/in/a")}


def test_texts_equal_to_the_id_are_not_taken_for_links():
    for name, given, file in (("Video", "https://x/y", "a.mp4"), ("Vid", "x", "/a")):
        graph = {"1": external(name, given), "2": reads(["1", 0], "1", "1.5")}
        applied = apply(graph, {given: file})
        inlined = inline(applied.graph, given=applied.given)
        placed = place_files(inlined.graph, {"1": file})
        assert list(placed["2"]["inputs"].values())[1:] == ["1", "1.5"]


# ------------------------------------------------------------------------ workflow_form

DEFINITIONS = {
    "KSampler": declared(
        "KSampler",
        seed=["INT", {"default": 0, "min": 0, "max": 2**64 - 1}],
        steps=["INT", {"default": 20, "min": 1, "max": 10000, "tooltip": "How many."}],
        cfg=["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}],
        sampler_name=[["euler", "ddim"], {}],
        denoise=["FLOAT", {"default": 1.0, "advanced": True}],
    ),
    "CLIPTextEncode": declared(
        "CLIP Text Encode (Prompt)", text=["STRING", {"multiline": True}], clip=["CLIP"]
    ),
    "LoadImage": declared(image=[["a.png"], {"image_upload": True}]),
    "SaveImage": declared(filename_prefix=["STRING", {"default": "ComfyUI"}]),
    "Blend": declared(on=["BOOLEAN", {}], mode=["COMBO", {"options": [1]}]),
}
MAIN = {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler", "denoise": 1.0}
CONDITIONING = {"positive": ["6", 0], "negative": ["7", 0], "strength": 1.0}
FORM_GRAPH = {
    "9": node("SaveImage", filename_prefix="x", images=["3", 0]),
    "8": node("Blend", on=True, mode=1, amount=0.5),
    "3": node("KSampler", "Main sampler", **MAIN, positive=["11", 0], negative=["11", 1]),
    "11": node("ControlNetApplyAdvanced", **CONDITIONING),
    "7": node("CLIPTextEncode", text="bad", clip=["4", 1]),
    "6": node("CLIPTextEncode", text="good", clip=["4", 1]),
    "5": node("EmptyLatentImage", width=64, height=32, batch_size=1),
    "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "2": node("LoadImage", image="a.png"),
    "1": external("NumberInt", "count", default_value=4, display_name="How many?"),
}


@pytest.mark.parametrize("definitions", [None, DEFINITIONS])
def test_the_form_shows_important_inputs_first(definitions):
    before = copy.deepcopy(FORM_GRAPH)
    fields = workflow_form(FORM_GRAPH, definitions).fields
    assert before == FORM_GRAPH
    keys = [field.key for field in fields]
    first = ["count", "6.text", "7.text", "2.image", "5.width", "5.height", "5.batch_size"]
    assert keys[: len(first)] == first
    order = ["3.steps", "3.cfg", "3.seed", "3.sampler_name"]
    assert [key for key in keys if key.startswith("3.")][:4] == order
    found = {field.key: (field.kind, field.label) for field in fields}
    assert (
        found.items()
        >= {
            "count": ("int", "How many?"),
            "6.text": ("multiline", "Positive prompt"),
            "7.text": ("multiline", "Negative prompt"),
            "3.sampler_name": ("combo", "Main sampler: sampler name"),
            "3.seed": ("seed", "Main sampler: seed"),
            "2.image": ("image", "LoadImage: image"),
            "8.on": ("bool", "Blend: on"),
            "8.amount": ("float", "Blend: amount"),
        }.items()
    )
    assert {field.key for field in fields if field.advanced} >= {"9.filename_prefix"}
    assert keys[-1] in {"9.filename_prefix", "4.ckpt_name", "8.amount", "3.denoise"}


def test_uploadable_inputs_have_their_kind_of_file():
    definitions = {
        "LoadImageOutput": declared(image=[["a"], {"image_upload": True}]),
        "LoadFilm": declared(file=["COMBO", {"options": [], "video_upload": True}]),
        "LoadAudio": declared(audio=[["a"], {"audio_upload": True}]),
        "VHS_LoadVideo": declared(video=[["a"], {}]),
        "VHS_LoadAudioUpload": declared(audio=[["a"], {}]),
        "Other": declared(video=[["a"], {"video_upload": False}]),
    }
    graph = {
        name: node(name, **dict.fromkeys(entry["input"]["required"], "a"))
        for name, entry in definitions.items()
    }
    graph |= {
        "in": external("Video", "film"),
        "path": external("Vid", "path"),
        "song": external("Audio", "song", audio_file="a.mp3"),
    }
    kinds = {f.node_id: (f.kind, f.options) for f in workflow_form(graph, definitions).fields}
    assert kinds == {
        "in": ("video", None),
        "path": ("video", None),
        "song": ("audio", None),
        "LoadImageOutput": ("image", ["a"]),
        "LoadFilm": ("video", []),
        "LoadAudio": ("audio", ["a"]),
        "VHS_LoadVideo": ("video", ["a"]),
        "VHS_LoadAudioUpload": ("audio", ["a"]),
        "Other": ("combo", ["a"]),
    }


def test_external_fields_carry_ranges_choices_and_appear_once():
    graph = {
        "1": external("Enum", "style", default_value="a", options='["a", "b"]', description="Look"),
        "2": external("Enum", "style", default_value="b"),
        "3": external("NumberSlider", "w", default_value=0.5, min_value=0, max_value=2),
        "4": external("Lora", "lora", default_lora_name="x", lora_url=""),
        "5": external("Image", "pic", default_value_url="https://x/y.png", display_name="Photo"),
        "6": external("Enum", "free", default_value="b", options="a\nb"),
        "7": external("ImageAlpha", "linked", default_value=["9", 0]),
        "8": external("Text", ["1", 0], default_value="hi"),
        "9": node("LoadImage", input_id="no"),
    }
    lora = {"input": {"optional": {"default_lora_name": [["x", "y"]], "lora_url": ["STRING", {}]}}}
    found = {f.key: f for f in workflow_form(graph, {EXTERNAL_PREFIX + "Lora": lora}).fields}
    fields = [found[key] for key in ("style", "w", "lora", "pic", "free", "linked")]
    assert [(f.kind, f.options, f.value) for f in fields] == [
        ("combo", ["a", "b"], "a"),
        ("float", None, 0.5),
        ("combo", ["x", "y"], "x"),
        ("image", None, "https://x/y.png"),
        ("text", None, "b"),
        ("image", None, None),
    ]
    style, slider, _, photo, *_ = fields
    assert (style.label, style.tooltip, style.input_name) == ("style", "Look", "default_value")
    assert (slider.min, slider.max, photo.label, photo.input_name) == (0, 2, "Photo", "input_id")
    assert "no" not in found
