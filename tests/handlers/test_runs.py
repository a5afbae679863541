"""The routes of runs, with a real ComfyUI."""

import asyncio
import io
import json
import uuid
from itertools import product

import pytest
import requests
from PIL import Image

from comfydeploy_jupyter.graphs.dependencies import MAX_CHAIN, MAX_DEPTH, structure_of
from tests.helpers.bodies import picture
from tests.helpers.comfyui import is_today
from tests.helpers.selection import few

IMAGE = picture("runs")


def seeded(**inputs):
    """Return a graph whose only node says its seed."""
    node = {"class_type": "TestSeed", "inputs": {"seed": 5, "token": uuid.uuid4().hex, **inputs}}
    return {"7": node}


async def test_run_answers_with_its_result(api, comfyui, jp_base_url):
    code, body = await api.post("run", {"workflow_api": IMAGE, "inputs": {"width": 48}})
    assert code == 200
    assert body["success"] is True
    assert body["status"] == "success"
    assert body["machine"] == "local"
    assert body["error"] is None
    assert body["node_errors"] == {}
    assert body["execution_time"] > 0
    assert set(body["node_times"]) <= {"1", "2"}
    assert body["created_at"] <= body["started_at"] <= body["finished_at"]
    (image,) = body["outputs"]["2"]["images"]
    assert image["type"] == "output"
    assert image["url"].startswith(f"{jp_base_url}comfyui-deploy/view?filename=runs")
    assert (comfyui.output_dir / image["filename"]).is_file()


def put(comfyui, name, colour):
    """Put a picture into ComfyUI's input folder; return its name."""
    Image.new("RGB", (24, 16), colour).save(comfyui.input_dir / name)
    return name


async def colours(api, body):
    """Return the colours of the pictures that a run has made."""
    found = []
    for image in body["outputs"]["2"]["images"]:
        content = (await api.raw("GET", "view", params={"filename": image["filename"]})).body
        found.append(Image.open(io.BytesIO(content)).convert("RGB").getpixel((3, 3)))
    return found


async def test_picture_that_is_given_to_an_input_is_loaded(api, comfyui):
    inputs = {"2.images": put(comfyui, "given.png", "red")}
    body = await api.run(IMAGE, inputs=inputs)
    assert await colours(api, body) == [(255, 0, 0)]
    assert body["inputs"] == inputs
    code, body = await api.post("run", {"workflow_api": IMAGE, "inputs": {"2.images": "no.png"}})
    assert (code, body["code"]) == (400, "prompt_invalid")
    assert set(body["node_errors"]) == {"2.images"}


async def test_pictures_that_are_added_to_a_group_are_loaded(api, comfyui):
    if not is_today():
        pytest.skip("this ComfyUI has no node with a group of pictures")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": put(comfyui, "one.png", "red")}},
        "5": {"class_type": "BatchImagesNode", "inputs": {"images.image0": ["1", 0]}},
        "2": {**IMAGE["2"], "inputs": {"images": ["5", 0], "filename_prefix": "group"}},
    }
    inputs = {"5.images.image1": put(comfyui, "two.png", "blue"), "5.images.image2": ""}
    body = await api.run(graph, inputs=inputs)
    assert await colours(api, body) == [(255, 0, 0), (0, 0, 255)]


async def test_second_run_of_the_same_graph_comes_from_the_cache(api, chain):
    graph = chain(("TestSleep", {"seconds": 0.01}))
    await api.run(graph)
    body = await api.run(graph)
    assert sorted(body["cached_nodes"]) == ["1", "2"]
    assert body["outputs"]["2"] == {"text": ["done"]}


async def test_the_reply_names_the_node_that_failed(api, chain):
    graph = chain(("TestFail", {"message": "no such sampler"}))
    where = {"node_id": "1", "node_type": "TestFail"}
    for prompt_id in (str(uuid.uuid4()), "a+b&c=d", "ü:1", "a;b,c"):
        code, body = await api.post("run", {"workflow_api": graph, "prompt_id": prompt_id})
        assert (code, body["success"], body["status"]) == (200, False, "failed")
        assert "raise ValueError" in body["error"].pop("traceback")
        assert body["error"] == {"type": "ValueError", "message": "no such sampler", **where}


async def test_a_refused_graph_is_answered_with_comfyuis_errors(api):
    prompt_id = str(uuid.uuid4())
    graph = picture("runs", width="wide")
    code, body = await api.post("run", {"workflow_api": graph, "prompt_id": prompt_id})
    assert (code, body["code"]) == (400, "prompt_invalid")
    assert body["details"]["type"] == "prompt_outputs_failed_validation"
    assert body["node_errors"]["1"]["errors"][0]["type"] == "invalid_input_type"
    code, record = await api.get("check-status", prompt_id=prompt_id)
    assert (code, record["status"], record["error"]["node_id"]) == (200, "failed", "1")
    code, body = await api.post("run", {"workflow_api": {"1": {"class_type": "TestText"}}})
    assert (code, body["code"]) == (400, "prompt_invalid"), "ComfyUI cannot read it"


async def test_nodes_without_inputs_do_not_stop_comfyuis_worker(api, chain):
    graph = chain()
    graph["8"] = {"class_type": "TestSleep"}
    await api.run(graph)
    graph["8"]["inputs"] = True
    code, body = await api.post("run", {"workflow_api": graph})
    assert (code, body["details"]["node_id"]) == (400, "8")
    await api.run(chain())


def row_of(length):
    """Return nodes that wait for each other in a row."""
    row = {"r0": {"class_type": "TestText", "inputs": {"text": "first"}}}
    for step in range(1, length):
        link = [f"r{step - 1}", 0]
        row[f"r{step}"] = {"class_type": "TestSleep", "inputs": {"seconds": 0, "anything": link}}
    return row


def deep_text(body, depth):
    """Return a body as JSON, with lists within lists for each ``"DEEP"`` in it."""
    return json.dumps(body).replace('"DEEP"', "[" * depth + "]" * depth)


async def test_the_longest_chain_of_nodes_that_comfyui_executes(api, chain):
    lengths = few([(MAX_CHAIN + 1, 400), (MAX_CHAIN, 200)])  # executing it takes long
    for length, expected in lengths:
        code, body = await api.post("run", {"workflow_api": {**row_of(length), **chain()}})
        assert code == expected, body
        if code == 400:
            assert body["details"]["field"] == "workflow_api"
        await api.run(chain())


async def test_the_deepest_values_that_comfyui_accepts(api, chain):
    inputs = {"text": "", "more": "DEEP"}
    graph = {**chain(), "9": {"class_type": "TestText", "inputs": inputs}}
    picture = {"nodes": [{"id": 1, "type": "TestText"}], "extra": "DEEP"}
    for body, around, field in (
        ({"workflow_api": graph}, 2, "workflow_api"),
        ({"workflow_api": chain(), "workflow": picture}, 1, "workflow"),
    ):
        code, answer = await api.post("run", deep_text(body, MAX_DEPTH - around))
        assert (code, answer["status"]) == (200, "success"), answer
        assert await api.refusal("run", deep_text(body, MAX_DEPTH - around + 1)) == (400, field)
    await api.run(chain())


async def test_no_depth_of_values_is_an_internal_error(api, chain):
    graph = {**chain(), "9": {"class_type": "TestText", "inputs": {"text": "DEEP"}}}
    saved = {"nodes": [{"id": 1, "type": "TestText", "widgets_values": ["DEEP"]}]}
    routes = ("run", "workflow/validate", "workflow/convert", "workflow")
    for route, depth in product(routes, few([950, 5_000, 300, 700, 900, 980])):
        for body in (
            {"workflow_api": graph, "workflow_api_raw": graph},
            {"workflow_api": graph, "to": "python"},
            {"workflow_api": chain(), "inputs": {"1.text": "DEEP"}},
            {"workflow": saved, "to": "api"},
            {"workflow_api": {"1": {"class_type": "TestText"}}, "workflow": saved},
        ):
            code, answer = await api.post(route, deep_text({"name": "deep", **body}, depth))
            assert code in (200, 400), answer


async def test_only_nodes_that_comfyui_accepts_are_executed(api, chain):
    await api.run(chain(("TestBlock", {"message": "stop"})))  # a blocked branch is no failure
    wrong = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
    body = await api.run({**chain(), "8": wrong, "9": wrong})
    assert body["node_errors"]["9"]["errors"][0]["type"] == "required_input_missing"
    code, body = await api.post("run", {"workflow_api": {"8": wrong, "9": wrong}})
    assert (code, body["code"]) == (400, "prompt_invalid")
    assert "\n" in body["details"]["details"], "ComfyUI has a line for each error"
    assert "\n" not in body["error"] + body["message"]
    assert body["error"].count("Required input is missing") > 1


async def test_requests_with_one_prompt_id_give_one_run(api, chain):
    request = {"workflow_api": chain(), "prompt_id": str(uuid.uuid4())}
    answers = await asyncio.gather(*(api.post("run", request) for _ in range(4)))
    assert sorted(code for code, _ in answers) == [200, 409, 409, 409]
    assert await api.refusal("run", request) == (409, "prompt_id")


async def test_cancelled_runs(api, chain, comfyui):
    ended = await api.run(chain())
    other = {"name": "other", "comfyui_url": "http://127.0.0.1:9"}
    await api.post("machine/create", other)
    blocker = await api.start(chain(("TestSleep", {"seconds": 30})))
    queued, removed = await api.start(chain()), await api.start(chain())
    for body, expected in (
        ({"prompt_id": ended["prompt_id"]}, (409, "conflict")),
        ({"prompt_id": "never-was"}, (404, "prompt_id")),
        ({"prompt_id": queued, "machine": "moon"}, (404, "machine")),
        ({"prompt_id": queued, "machine": "other"}, (404, "prompt_id")),
    ):
        assert await api.refusal("interrupt", body) == expected, body
    code, body = await api.post("interrupt", {"prompt_id": queued, "machine": "local"})
    assert (code, body["success"], body["was"]) == (200, True, "queued")
    assert (await api.until(queued, "cancelled"))["success"] is False
    _, record = await api.get("check-status", prompt_id=blocker)
    assert record["status"] in ("queued", "running")
    # Another client removes all that waits.
    await asyncio.to_thread(requests.post, f"{comfyui.url}/queue", json={"clear": True}, timeout=9)
    await api.until(removed, "cancelled")
    await api.until(blocker, "running")
    code, body = await api.post("interrupt", {})
    assert (code, body["was"], body["prompt_id"]) == (200, "running", blocker)
    await api.until(blocker, "cancelled")
    assert (await api.post("interrupt", {}))[1]["code"] == "conflict"


async def test_a_run_with_front_precedes_queued_runs(api, chain):
    first = await api.start(chain(("TestSleep", {"seconds": 600})))
    await api.until(first, "running")
    second = await api.start(chain())
    short = {"workflow_api": chain(("TestSleep", {"seconds": 0.05})), "wait": False}
    _, front = await api.post("run", {**short, "front": True})
    assert front["number"] < 0
    await api.post("interrupt", {"prompt_id": first})
    second = await api.until(second, "success")
    front = await api.until(front["prompt_id"], "success")
    assert front["started_at"] < second["started_at"]
    await api.until(first, "cancelled")


async def test_runs_lists_newest_first(api, chain):
    replies = [await api.run(chain()) for _ in range(3)]
    ids = [reply["prompt_id"] for reply in replies]
    code, body = await api.get("runs")
    assert code == 200
    assert json.dumps(body) == json.dumps(replies[::-1])
    assert [run["prompt_id"] for run in body] == ids[::-1]
    _, page = await api.get("runs", limit="1", offset="1")
    assert [run["prompt_id"] for run in page] == [ids[1]]
    _, failed = await api.get("runs", status="failed")
    assert failed == []


async def test_runs_of_one_workflow_are_found_with_their_values(api):
    for inputs in ({"width": 48}, {"1.color": 7, "filename_prefix": "x" * 30_000}):
        await api.start(IMAGE, inputs=inputs)
    other = {**IMAGE, "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    await api.run(other)
    code, body = await api.get("runs", structure=structure_of(IMAGE))
    assert (code, [run.get("inputs") for run in body]) == (200, [{"1.color": 7}, {"width": 48}])
    code, body = await api.get("runs", structure="all")
    assert (code, body["details"]["field"]) == (400, "structure")


async def test_runs_are_found_by_their_labels(api):
    labelled = [
        {"client": "acme", "shot": "1"},
        {"client": "acme", "shot": "2", "größe [x]": '"big" \\ 🙂'},
        {"client": "other", "shot": "1"},
    ]
    for labels in (*labelled, {}):
        body = await api.run(IMAGE, metadata=labels)
        _, record = await api.get("check-status", prompt_id=body["prompt_id"])
        assert body.get("metadata", {}) == record.get("metadata", {}) == labels
    for wanted, expected in (
        ({}, [{}, *labelled[::-1]]),
        ({"client": "acme"}, [labelled[1], labelled[0]]),
        ({"client": "acme", "shot": "1"}, [labelled[0]]),
        ({"größe [x]": '"big" \\ 🙂'}, [labelled[1]]),
        ({"client": "acm"}, []),
        ({"client": ""}, []),
    ):
        query = {f"metadata[{name}]": value for name, value in wanted.items()}
        code, runs = await api.get("runs", **query)
        assert (code, [run.get("metadata", {}) for run in runs]) == (200, expected), wanted
    for name in ("metadata", "metadata[]"):
        code, body = await api.get("runs", **{name: "acme"})
        assert (code, body["details"]["field"]) == (400, "metadata")


async def test_seed_mode(api):
    for mode, drawn in (("saved", False), ("auto", False), ("random", True)):
        body = await api.run(seeded(), seed_mode=mode)
        assert (body["seeds"]["7.seed"] != 5) == drawn, mode
        assert body["outputs"]["7"]["text"] == [str(body["seeds"]["7.seed"])]


async def test_external_inputs_run_on_a_stock_comfyui(api, comfyui, jp_root_dir):
    Image.new("RGB", (20, 10), "red").save(jp_root_dir / "mine.png")
    photo = {"input_id": "photo", "default_value_url": ""}
    size = {"width": ["2", 0], "height": 30, "upscale_method": "bilinear", "crop": "disabled"}
    graph = {
        "1": {"class_type": "ComfyUIDeployExternalImage", "inputs": photo},
        "2": {
            "class_type": "ComfyUIDeployExternalNumberInt",
            "inputs": {"input_id": "width", "default_value": 8},
        },
        "3": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], **size}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "ext"}},
    }
    request = {"workflow_api": graph, "inputs": {"photo": "mine.png", "width": 40}}
    code, body = await api.post("run", request)
    assert (code, body["status"]) == (200, "success"), body
    (image,) = body["outputs"]["4"]["images"]
    with Image.open(comfyui.output_dir / image["filename"]) as scaled:
        assert scaled.size == (40, 30)
        assert scaled.convert("RGB").getpixel((20, 15)) == (255, 0, 0)


WRONG_LABELS = (
    *({f"label {n}": "" for n in range(10_000)}, {"": "nameless"}, {"n" * 65: "long name"}),
    *({"n": "v" * 513}, {"n": 7}, {"n": "\0"}, {"n": "\ud800"}, ["n"]),
)
IDS_THAT_NO_ADDRESS_CAN_HOLD = (".", "..", "%2E", "%41", "a%2Fb", "a/b", "a?b", "a#b")
WRONG_BODIES = [
    ("{", "invalid_json", None),
    ("[1]", "invalid_json", None),
    ('{"timeout": NaN}', "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    ({}, "invalid_request", "workflow_api"),
    ({"workflow_api": {"1": 5}}, "invalid_request", "workflow_api"),
    ({"workflow_api": {"nodes": [], "links": []}}, "invalid_request", "workflow_api"),
    ({"workflow": {"nodes": [], "links": []}}, "invalid_request", "workflow"),
    ({"workflow_id": "w1", "workflow_api": IMAGE}, "invalid_request", "workflow_api"),
    ({"workflow": IMAGE}, "invalid_request", "workflow"),
    ({"workflow_api": IMAGE, "inputs": {"nope": 1}}, "unknown_input", "inputs.nope"),
    (
        {"workflow_api": IMAGE, "workflow_api_raw": {"1": {"class_type": "X", "inputs": {}}}},
        "invalid_request",
        "workflow_api_raw",
    ),
    (
        {"workflow_api": IMAGE, "workflow": {"nodes": [{"id": 1, "type": "LoadImage"}]}},
        "invalid_request",
        "workflow",
    ),
    (
        {"is_native_run": True, "native_run_api_endpoint": "https://evil.example/x"},
        "forbidden_api_url",
        "native_run_api_endpoint",
    ),
    ({"workflow_api": IMAGE, "machine": "moon"}, "not_found", "machine"),
    ({"workflow_id": "never-was"}, "not_found", "workflow_id"),
    *(
        ({"workflow_api": IMAGE, field: value}, "invalid_request", field)
        for field, values in {
            "workflow_api": ([], {}),
            "wait": ("yes",),
            "timeout": (-1, True),
            "inputs": ([1],),
            "seed_mode": ("none",),
            "prompt_id": ("a b", 5, *IDS_THAT_NO_ADDRESS_CAN_HOLD),
            "metadata": WRONG_LABELS,
        }.items()
        for value in values
    ),
]


async def test_invalid_bodies_are_refused(api):
    statuses = {"forbidden_api_url": 403, "not_found": 404}
    for body, error, field in WRONG_BODIES:
        code, answer = await api.post("run", body)
        assert (code, answer["code"]) == (statuses.get(error, 400), error), ascii(body)[:100]
        assert (answer["success"], answer["message"]) == (False, answer["error"])
        assert field is None or answer["details"]["field"] == field, ascii(body)[:100]
    assert (await api.get("runs"))[1] == []
    assert (await api.get("run"))[1]["code"] == "method_not_allowed"


async def test_ui_format_is_converted_and_kept_in_the_picture(api, comfyui):
    _, converted = await api.post("workflow/convert", {"workflow_api": IMAGE})
    ui = converted["workflow"]
    body = await api.run(workflow=ui, inputs={"1.width": 24})
    (image,) = body["outputs"]["2"]["images"]
    seen = await api.raw("GET", "view", params={"filename": image["filename"]})
    with Image.open(io.BytesIO(seen.body)) as saved:
        assert saved.size == (24, 32)
        assert json.loads(saved.info["workflow"])["nodes"] == ui["nodes"]


async def test_a_ui_graph_with_other_links_than_the_api_graph_is_refused(api):
    graph = {**IMAGE, "3": IMAGE["1"]}
    saved = [
        {"id": 1, "type": "EmptyImage"},
        {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "link": 9}]},
        {"id": 3, "type": "EmptyImage"},
    ]
    for node, slot, code in ((1, 0, 200), (3, 0, 400), (1, 1, 400)):
        links = [[9, node, slot, 2, 0, "IMAGE"]]
        request = {"workflow_api": graph, "workflow": {"nodes": saved, "links": links}}
        status, body = await api.post("run", request)
        assert status == code, body
        if code == 400:
            details = body["details"]
            assert (details["field"], details["node_id"]) == ("workflow", "2")


async def test_seed_control_of_the_ui_format_is_followed(api):
    values = [5, "increment", uuid.uuid4().hex]
    ui = {"nodes": [{"id": 7, "type": "TestSeed", "widgets_values": values}], "links": []}
    body = await api.run(workflow=ui)
    assert (body["seeds"], body["next_seeds"]) == ({"7.seed": 5}, {"7.seed": 6})


async def test_stored_version_runs_and_the_run_remembers_it(api):
    _, saved = await api.post("workflow", {"name": "image", "workflow_api": IMAGE})
    stored = {"workflow_id": saved["workflow_id"]}
    await api.post("workflow", {**stored, "workflow_api": picture("runs", color=7)})
    for version, number in ((1, 1), ("latest", 2), (None, 2)):
        body = await api.run(**stored, version=version)
        assert (body["workflow_id"], body["version"]) == (saved["workflow_id"], number)
        _, record = await api.get("check-status", prompt_id=body["prompt_id"])
        assert record["version"] == number


async def test_old_classes_run_without_the_editors_extra_inputs(api):
    """ComfyUI 0.33 replaces this class, and fails if such a node has no ``_meta``."""
    scaled = {"image": ["1", 0], "upscale_method": "nearest-exact", "scale_by": 2.0}
    graph = {
        "1": picture(width=8, height=8)["1"],
        "2": {"class_type": "ImageScaleBy", "inputs": scaled},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    body = await api.run(graph)
    assert len(body["outputs"]["3"]["images"]) == 1


async def test_inputs_choose_options_and_set_the_options_inputs(api):
    inputs = {"mode": "small", "mode.size": 100, "values.a": "first"}
    graph = {"5": {"class_type": "TestOptions", "inputs": inputs}}
    for given, expected in (
        ({"5.mode": "large", "5.mode.note": "mine"}, {"mode.size": 1024, "mode.note": "mine"}),
        ({"mode.note": "x", "mode": "large"}, {"mode.size": 1024, "mode.note": "x"}),
        ({"5.mode": "small", "5.values.b": "more"}, {"mode.size": 100, "values.b": "more"}),
    ):
        code, body = await api.post(
            "run", {"workflow_api": graph, "inputs": given, "seed_mode": "random"}
        )
        assert code == 200, body
        sent = json.loads(body["outputs"]["5"]["text"][0])
        seed = sent.pop("mode.seed", None)
        assert body["seeds"] == ({} if seed is None else {"5.mode.seed": seed})
        chosen = given.get("5.mode") or given["mode"]
        assert sent == {"mode": chosen, "values.a": "first", **expected}
    code, body = await api.post("run", {"workflow_api": graph, "inputs": {"5.mode.note": "x"}})
    assert (code, body["code"]) == (400, "unknown_input")


async def test_story_of_a_run(api, chain):
    secret = {"api_key_comfy_org": "comfyui-secret"}
    graph = chain(("TestFail", {"message": "comfyui-secret"}))
    code, run = await api.post("run", {"workflow_api": graph, "extra_data": secret})
    assert (code, run["status"]) == (200, "failed")
    code, reply = await api.get("runs", story=run["prompt_id"])
    assert code == 200
    causes = [entry["cause"] for entry in reply]
    assert causes[:2] == ["received", "stored and handed to ComfyUI"]
    # the first event may arrive before the reply that ComfyUI has accepted the prompt
    assert set(causes[2:4]) == {"accepted by ComfyUI", "execution started"}
    assert (reply[-1]["cause"], reply[-1]["state"]) == ("found in the history", "failed")
    assert reply[-1]["detail"] == run["error"]["type"]
    assert "secret" not in json.dumps(reply), "neither keys nor texts of nodes"
    code, body = await api.get("runs", story="no-such-run")
    assert (code, body["details"]["field"]) == (404, "prompt_id")
