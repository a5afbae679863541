"""Whether runs can be made again, with a real ComfyUI."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from comfydeploy_jupyter.proofs.verify import differences
from tests.helpers.bodies import picture
from tests.helpers.graphs import node, shown
from tests.helpers.waiting import until_async


@pytest.fixture
def extension_config(config_with_folders) -> dict:
    return config_with_folders


async def complete(api, prompt_id: str) -> dict:
    async def record() -> dict:
        return (await api.get(f"runs/{prompt_id}/record"))[1]

    found: dict = await until_async(record, lambda found: found["complete"])
    return found


async def verified(api, prompt_id: str, **fields) -> dict:
    await complete(api, prompt_id)
    code, begun = await api.post(f"runs/{prompt_id}/verify", fields)
    assert code == 200, begun

    async def result() -> dict:
        code, found = await api.get(f"runs/{prompt_id}/verify")
        assert code == 200, found
        return found

    found: dict = await until_async(result, lambda found: found["state"] == "done")
    assert found["prompt_id"] == begun["prompt_id"]
    return {**found, "begun": begun}


async def test_a_picture_that_repeats_itself_is_identical(api):
    run = await api.run(workflow_api=picture("same"), inputs={"1.color": 77})
    found = await verified(api, run["prompt_id"])
    assert found["verdict"] == "identical", found
    assert found["differences"] == found["begun"]["differences"] == []
    (output,) = found["outputs"]
    assert (output["node_id"], output["verdict"]) == ("2", "identical")
    again = await complete(api, found["prompt_id"])
    assert again["cached_nodes"] == []  # it was really executed
    assert again["prompt"] == (await complete(api, run["prompt_id"]))["prompt"]


@pytest.mark.thorough
async def test_what_does_not_repeat_itself_is_measured_and_named(api):
    graph = {
        "1": node("TestUnstable", height=20),
        "2": node("ImageInvert", "Turned", image=["1", 0]),
        "3": node("SaveImage", images=["2", 0], filename_prefix="unstable"),
        "4": node("TestText", text="always the same"),
    }
    run = await api.run(workflow_api=graph)
    found = await verified(api, run["prompt_id"], nodes=True)
    assert found["verdict"] == "differs"
    verdicts = {output["node_id"]: output for output in found["outputs"]}
    assert verdicts["4"]["verdict"] == "identical"
    assert verdicts["3"]["share"] == pytest.approx(0.5, abs=0.05)
    assert verdicts["3"]["largest"] > verdicts["3"]["mean"] > 0
    assert found["first_different"] == {"node_id": "1", "name": "TestUnstable (id 1)"}
    assert found["second_id"] is not None
    place = [output["node_id"] for output in found["outputs"]].index("3")
    path = f"runs/{run['prompt_id']}/verify/difference"
    response = await api.raw("GET", path, params={"output": str(place)})
    with Image.open(io.BytesIO(response.body)) as image:
        grey = image.convert("L")
    assert grey.size == (16, 20)
    assert any(grey.crop((0, 0, 16, 10)).tobytes())
    assert not any(grey.crop((0, 10, 16, 20)).tobytes())


@pytest.mark.thorough
async def test_a_picture_that_was_deleted_is_not_compared_with_the_next_one_of_its_name(
    api, comfyui
):
    graph = {
        "1": node("TestUnstable", height=20),
        "2": node("SaveImage", images=["1", 0], filename_prefix="deleted"),
    }
    run = await api.run(workflow_api=graph)
    (output,) = (await complete(api, run["prompt_id"]))["outputs"]
    (comfyui.output_dir / output["filename"]).unlink()
    found = await verified(api, run["prompt_id"])
    (result,) = found["outputs"]
    (again,) = (await complete(api, found["prompt_id"]))["outputs"]
    assert again["filename"] == output["filename"]
    assert (result["verdict"], result["share"], result["before"]) == ("differs", None, None)
    assert result["reason"] == "the file itself is not here, so it is not known how far"
    response = await api.raw("GET", f"runs/{run['prompt_id']}/verify/difference")
    assert response.code == 404


@pytest.mark.thorough
async def test_a_model_with_another_content_is_told_in_words(api, comfyui):
    embedding = comfyui.models_dir / "embeddings/cosy.pt"
    embedding.parent.mkdir(parents=True, exist_ok=True)
    embedding.write_bytes(b"nothing")
    run = await api.run(workflow_api={"1": node("TestText", text="a fox, embedding:cosy")})
    await complete(api, run["prompt_id"])
    embedding.write_bytes(b"something")
    code, found = await api.post(f"runs/{run['prompt_id']}/verify", {"execute": False})
    assert (code, found["prompt_id"]) == (200, None)
    assert found["differences"] == ["the model cosy has another content"]
    embedding.unlink()
    found = await verified(api, run["prompt_id"])
    assert found["differences"] == ["the model cosy is not there"]
    assert found["verdict"] == "identical"  # of the text


@pytest.mark.thorough
async def test_a_run_whose_input_is_gone_cannot_be_repeated(api, comfyui):
    file = comfyui.input_dir / "gone.png"
    Image.new("RGB", (8, 8)).save(file)
    graph = {"1": node("LoadImage", image=file.name), "2": shown("1")}
    run = await api.run(workflow_api=graph)
    await complete(api, run["prompt_id"])
    file.unlink()
    found = await verified(api, run["prompt_id"])
    assert found["verdict"] == "cannot"
    assert "the input file gone.png is not there" in found["differences"]
    assert "gone.png" in found["outputs"][0]["reason"]


@pytest.mark.thorough
async def test_a_machine_that_works_is_left_alone(api, chain):
    run = await api.run(workflow_api=picture("early"))
    await complete(api, run["prompt_id"])
    await api.start(chain(("TestSleep", {"seconds": 1.0})))
    code, error = await api.post(f"runs/{run['prompt_id']}/verify", {})
    assert (code, error["code"]) == (409, "conflict")
    assert error["error"].startswith("Not now")
    code, _ = await api.get(f"runs/{run['prompt_id']}/verify")
    assert code == 404


def made(**changes) -> dict:
    comfyui = {"version": "0.33.0", "commit": "a" * 40, "launch_args": ["--cpu"]}
    environment = {"comfyui": comfyui, "python": "3.12.3", "torch": "2.12.0", "devices": []}
    found = {"environment": environment, "node_packs": [], "models": [], "inputs": []}
    return {**found, **changes}


def test_each_difference_is_a_sentence():
    now = made()
    now["environment"] = {
        **now["environment"],
        "torch": "2.13.0",
        "comfyui": {**now["environment"]["comfyui"], "launch_args": ["--cpu", "--fast"]},
        "devices": [{"name": "cuda:0 NVIDIA H100"}],
    }
    before = made(
        node_packs=[
            {"name": "W", "repository": "https://h/ada/W", "commit": "d" * 40},
            {"name": "Y", "commit": "b" * 40},
            {"name": "Z", "version": "1.0"},
        ],
        models=[
            {"folder": "vae", "name": "a.pt", "sha256": "1"},
            {"folder": "vae", "name": "b.pt", "sha256": "2"},
            {"folder": "vae", "name": "c.pt", "reason": "it was changed"},
        ],
        inputs=[{"folder": "input", "name": "cat.png", "sha256": "3"}],
    )
    now["node_packs"] = [
        {"name": "Y", "commit": "c" * 40},
        {"name": "in-another-folder", "repository": "https://h/ada/W", "commit": "d" * 40},
    ]
    now["models"] = [
        {"folder": "vae", "name": "a.pt", "sha256": "0"},
        {"folder": "vae", "name": "b.pt", "reason": "it is not there"},
        {"folder": "vae", "name": "c.pt", "sha256": "9"},
    ]
    assert list(differences(before, now)) == [
        "torch 2.13.0 instead of 2.12.0",
        "launch arguments --cpu --fast instead of --cpu",
        "device cuda:0 NVIDIA H100 instead of unknown",
        f"the node pack Y has another commit ({'c' * 40} instead of {'b' * 40})",
        "the node pack Z is not there",
        "the model a.pt has another content",
        "the model b.pt is not there",
        "the content of the model c.pt was not known",
        "the input file cat.png is not there",
    ]
    packages = {"numpy": "2.2.0", "torch": "2.12.0", "transformers": "4.57", "Xformers": "0.0.3"}
    one = made(environment={"packages": packages})
    two = made(
        environment={"packages": {"accelerate": "1.0", "numpy": "2.3.0", "Xformers": "0.0.3"}}
    )
    assert list(differences(one, one)) == []
    assert list(differences(one, two)) == [
        "the Python package accelerate 1.0 was not there",
        "numpy 2.3.0 instead of 2.2.0",
        "the Python package transformers is not there",
    ]
    assert list(differences(one, made(environment={"python": None, "packages": None}))) == [
        "the Python packages of one of the two runs are not known"
    ]
    assert list(differences(made(), made(environment=None))) == [
        "the environment of one of the two runs is not known"
    ]
