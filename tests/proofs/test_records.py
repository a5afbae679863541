"""With what runs were made, with a real ComfyUI."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter import __version__
from comfydeploy_jupyter.comfyui.definitions import DefinitionSet, _bundle
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.proofs import handing_over, service
from comfydeploy_jupyter.proofs.facts import Named, named_in
from comfydeploy_jupyter.util.times import timestamp_of
from tests.helpers.bodies import picture
from tests.helpers.graphs import node
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def extension_config(config_with_folders) -> dict:
    return config_with_folders


async def recorded(api, prompt_id: str) -> dict:
    async def record() -> dict:
        code, body = await api.get(f"runs/{prompt_id}/record")
        assert code == 200, body
        return body

    found: dict = await until_async(record, lambda found: found["complete"])
    return found


async def test_a_record_names_what_the_run_was_made_with(api, comfyui, tmp_path):
    run = await api.run(workflow_api=picture("recorded", color=7), inputs={"1.width": 48})
    found = await recorded(api, run["prompt_id"])
    assert found["format"] == "comfydeploy-jupyter/record/1"
    assert found["prompt"]["1"]["inputs"]["width"] == 48
    assert found["environment"]["comfydeploy_jupyter"] == __version__
    assert found["environment"]["torch"]
    assert found["environment"]["comfyui"]["version"]
    packages = found["environment"]["packages"]
    assert packages["torch"] == found["environment"]["torch"]
    assert {"numpy", "safetensors", "torchaudio", "torchvision", "transformers"} <= packages.keys()
    assert "pip" not in packages  # nothing needs it
    assert "needs" not in found["environment"]
    assert found["environment"]["warnings"] == found["notes"] == []
    assert found["node_packs"] == []
    (output,) = found["outputs"]
    file = comfyui.output_dir / output["subfolder"] / output["filename"]
    assert output["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert output["content"]["about"] == "48 x 32 RGBA"
    again = await api.run(workflow_api=picture("other", color=7), inputs={"1.width": 48})
    (same,) = (await recorded(api, again["prompt_id"]))["outputs"]
    assert same["sha256"] != output["sha256"]  # the graph in its metadata differs
    assert same["content"] == output["content"]
    with closing(sqlite3.connect(tmp_path / "data/comfydeploy.db")) as store:
        sizes = store.execute("SELECT length(body) FROM provenance").fetchall()
        assert store.execute("SELECT count(*) FROM environments").fetchone() == (1,)
    assert max(sizes)[0] < 2048


def states(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "data/comfydeploy.db")) as store:
        return {state for (state,) in store.execute("SELECT state FROM provenance")}


@pytest.fixture
def never_quiet(monkeypatch):
    """Let no moment be long enough for a record, but the `LAG` of the test."""
    monkeypatch.setattr(service, "GATHER", 600.0)


@pytest.mark.thorough
async def test_a_record_is_made_once_runs_do_not_follow_each_other_or_it_is_read(
    never_quiet, monkeypatch, api, tmp_path
):
    monkeypatch.setattr(service, "LAG", 600.0)
    ids = [(await api.run(workflow_api=picture("soon")))["prompt_id"] for _ in range(3)]
    assert states(tmp_path) == {"wanted"}
    assert (await recorded(api, ids[0]))["outputs"]
    assert states(tmp_path) == {"complete"}


@pytest.mark.thorough
async def test_records_are_made_while_runs_follow_each_other(
    never_quiet, monkeypatch, api, tmp_path
):
    monkeypatch.setattr(service, "LAG", 0.5)

    async def run_and_look() -> set[str]:
        await api.run(workflow_api=picture("always"))
        return states(tmp_path)

    assert "complete" in await until_async(run_and_look, lambda found: "complete" in found)


@pytest.mark.thorough
async def test_an_output_that_was_replaced_before_it_was_noted_says_so(
    never_quiet, monkeypatch, api, comfyui
):
    monkeypatch.setattr(service, "LAG", 600.0)
    run = await api.run(workflow_api=picture("replaced"))
    (file,) = comfyui.output_dir.glob("replaced_*")
    os.utime(file, (time.time() + 1,) * 2)
    (output,) = (await recorded(api, run["prompt_id"]))["outputs"]
    assert output["note"] == "it was changed after the run had ended"
    assert output["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.thorough
async def test_an_output_that_was_deleted_before_it_was_noted_has_the_reason(
    never_quiet, monkeypatch, api, comfyui
):
    monkeypatch.setattr(service, "LAG", 600.0)
    run = await api.run(workflow_api=picture("removed"))
    for file in comfyui.output_dir.glob("removed_*"):
        file.unlink()
    (output,) = (await recorded(api, run["prompt_id"]))["outputs"]
    assert output["content"] is None
    assert output["reason"].startswith("removed_00001_.png is not in the output folder")


async def test_models_inputs_and_packs_are_named_by_their_content(api, comfyui):
    models = {"vae/broken.safetensors": b"not weights", "embeddings/cosy.pt": b"nothing"}
    for name, content in models.items():
        (comfyui.models_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (comfyui.models_dir / name).write_bytes(content)
    graph = {
        "1": node("VAELoader", vae_name="broken.safetensors"),
        "2": node("TestText", text="a fox, embedding:cosy, embedding:gone\ud800", token=""),
        "3": node("VAEDecode", samples=["4", 0], vae=["1", 0]),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("PreviewImage", images=["3", 0]),
    }
    _, run = await api.post("run", {"workflow_api": graph})
    found = await recorded(api, run["prompt_id"])
    assert found["status"] == "failed"
    assert {each["name"]: each.get("sha256") for each in found["models"]} == {
        "broken.safetensors": hashlib.sha256(b"not weights").hexdigest(),
        "cosy": hashlib.sha256(b"nothing").hexdigest(),
        "gone\ud800": None,
    }
    assert [each["folder"] for each in found["models"]] == ["vae", "embeddings", "embeddings"]
    (pack,) = found["node_packs"]
    assert (pack["name"], pack["classes"]) == ("comfydeploy_test_nodes", ["TestText"])
    assert len(pack["sha256"]) == 64


@pytest.mark.thorough
async def test_a_large_file_is_hashed_once_nothing_runs(api, chain, comfyui, monkeypatch):
    monkeypatch.setattr(service, "SMALL", 4)
    (comfyui.models_dir / "vae").mkdir(exist_ok=True)
    large = comfyui.models_dir / "vae/large.safetensors"
    large.write_bytes(b"not weights")
    graph = {
        "1": node("VAELoader", vae_name=large.name),
        "2": node("VAEDecode", samples=["3", 0], vae=["1", 0]),
        "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "4": node("PreviewImage", images=["2", 0]),
    }
    before = await api.start(chain(("TestSleep", {"seconds": 120.0})))
    run, nap = [await api.start(each) for each in (graph, chain(("TestSleep", {"seconds": 121.0})))]
    await api.post("interrupt", {"prompt_id": before})  # so it never happens that nothing runs

    async def noted() -> dict:
        return (await api.get(f"runs/{run}/record"))[1]

    found = await until_async(noted, lambda found: found.get("noted_at"))
    assert (found["complete"], found["pending"]) == (False, [large.name])
    large.write_bytes(b"other weights")
    await api.post("interrupt", {"prompt_id": nap})
    found = await recorded(api, run)
    (model,) = found["models"]
    assert "sha256" not in model
    assert model["reason"] == "it was changed or removed before it could be hashed"
    assert (await recorded(api, nap))["status"] == "cancelled"


async def test_a_run_that_has_not_ended_has_no_record(api, chain):
    nap = await api.start(chain(("TestSleep", {"seconds": 0.5})))
    code, error = await api.get(f"runs/{nap}/record")
    assert (code, error["code"]) == (409, "conflict")
    code, _ = await api.get("runs/none/record")
    assert code == 404


async def test_cancelled_and_cached_runs_have_records(api, chain):
    graph = picture("each", color=31)
    first = await api.run(workflow_api=graph)
    nap = await api.start(chain(("TestSleep", {"seconds": 60.0})))
    await api.until(nap, "running")
    await api.post("interrupt", {"prompt_id": nap})
    await api.until(nap, "cancelled")
    ids = [first["prompt_id"], nap, (await api.run(workflow_api=graph))["prompt_id"]]
    one, cancelled, other = [await recorded(api, each) for each in ids]
    assert cancelled["status"] == "cancelled"
    assert "TestSleep" in cancelled["node_packs"][0]["classes"]
    assert one["environment"] == other["environment"]
    assert cancelled["environment"]["packages"]["numpy"]
    assert [each["content"] for each in one["outputs"]] == [
        each["content"] for each in other["outputs"]
    ]


@pytest.mark.thorough
async def test_a_deleted_run_leaves_no_record(api, tmp_path):
    run = await api.run(workflow_api=picture("deleted"))
    await recorded(api, run["prompt_id"])
    code, _ = await api.post("runs/delete", {"prompt_ids": [run["prompt_id"]]})
    assert code == 200
    with closing(sqlite3.connect(tmp_path / "data/comfydeploy.db")) as store:
        for table in ("provenance", "environments"):
            assert store.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.thorough
async def test_a_run_that_cannot_be_noted_keeps_no_other_waiting(api, monkeypatch):
    whole = service.named_in

    def named(prompt: bytes, definitions: object) -> object:
        if b"TestText" in prompt:
            raise RuntimeError
        return whole(prompt, definitions)

    monkeypatch.setattr(service, "named_in", named)
    bad = await api.run(workflow_api={"1": node("TestText", text="odd")})
    good = await api.run(workflow_api=picture("fine"))
    assert (await recorded(api, good["prompt_id"]))["outputs"]
    found = await recorded(api, bad["prompt_id"])
    assert found["notes"] == ["the rest could not be found out: RuntimeError"]


@pytest.mark.thorough
async def test_a_run_from_before_there_were_records_has_one_that_says_so(api, tmp_path):
    run = await api.run(workflow_api=picture("old"))
    await recorded(api, run["prompt_id"])
    with closing(sqlite3.connect(tmp_path / "data/comfydeploy.db")) as store, store:
        store.execute("DELETE FROM provenance")
    found = await recorded(api, run["prompt_id"])
    assert found["notes"] == ["the run ended before this server kept records"]
    assert (found["environment"], found["outputs"]) == (None, [])
    assert list(found["prompt"]) == ["1", "2"]


async def test_a_receipt_that_is_too_large_is_refused(api, monkeypatch):
    run = await api.run(workflow_api=picture("large"))
    await recorded(api, run["prompt_id"])
    monkeypatch.setattr(handing_over, "MAX_SIZE", 10)
    code, error = await api.get(f"runs/{run['prompt_id']}/receipt")
    assert (code, error["code"]) == (413, "too_large")


def test_files_are_found_as_comfyui_and_its_packs_find_them(tmp_path):
    files = {
        "loras/nested.safetensors": b"1",
        "loras/sub/tagged.safetensors": b"2",
        "embeddings/sub/easy.v2.pt": b"3",
        "vae_approx/taesd_encoder.pth": b"4",
        "vae_approx/taesd_decoder.pth": b"5",
        "LLM/captioner/model.bin": b"6",
    }
    for name, content in files.items():
        (tmp_path / "ui/models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ui/models" / name).write_bytes(content)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far.safetensors").write_bytes(b"7")
    loras = tmp_path / "ui/models/loras"
    (loras / "near.safetensors").symlink_to(loras / "nested.safetensors")
    (loras / "far.safetensors").symlink_to(tmp_path / "elsewhere/far.safetensors")
    far = tmp_path / "elsewhere/far.safetensors"
    graph = {
        "5:1": node("PackLoader", lora_1={"on": True, "lora": "nested.safetensors"}, more=[["x"]]),
        "5:2": node(
            "PackText", text="<lora:sub/tagged:0.8:1> <lora:unknown:1> embedding:sub/easy.v2"
        ),
        "3": node("VAELoader", vae_name="taesd"),
        "4": node("LoraLoader", lora_name="near.safetensors"),
        "6": node("LoraLoader", lora_name="far.safetensors"),
        "7": node("LoraLoader", lora_name="gone.safetensors"),
    }
    named = named_in(json.dumps(graph).encode(), DefinitionSet.unpacked(_bundle(), "bundled"))
    run = service.Executed(b"", {"models": [], "inputs": []})
    for allowed, reason in (([], service.OUTSIDE), ([tmp_path / "elsewhere"], None)):
        run.body["models"] = []
        (tmp_path / "ui/main.py").write_text("")
        folders = Folders(tmp_path / "ui", extra_roots=allowed)
        service._look_at(folders, named, run)
        found = {each["name"]: each for each in run.body["models"]}
        assert {name: each.get("reason") for name, each in found.items()} == {
            "nested.safetensors": None,
            "sub/easy.v2": None,
            "taesd_encoder.pth": None,
            "taesd_decoder.pth": None,
            "near.safetensors": None,
            "far.safetensors": reason,
            "gone.safetensors": service.ABSENT,
            "sub/tagged": None,
        }
        states = {name: each.get("state", {}).get("path") for name, each in found.items()}
        assert states["near.safetensors"] == str(loras / "nested.safetensors")
        assert states["sub/tagged"] == str(loras / "sub/tagged.safetensors")
        assert states["far.safetensors"] == (str(far) if allowed else None)
    named = Named(models={("LLM", "captioner"): {"1"}})
    (tmp_path / "ui/models/LLM").mkdir(exist_ok=True)
    folders.reported = ("LLM",)
    run.body["models"] = []
    service._look_at(folders, named, run)
    (entry,) = run.body["models"]
    assert entry["reason"] == "it is a folder, whose files are not hashed"


def loaded(state: int, environment: service.Environment, *, cached: bool, **more: str) -> dict:
    """Return the entry of a model whose file was changed at a time, in the record of a run."""
    entry = {"name": "m", "state": {"ctime_ns": state * 10**9}, "sha256": f"of {state}", **more}
    run = service.Executed(b"", {}, environment=environment)
    return service._loaded(entry, ("vae", "m"), run, cached=cached)


def test_a_model_in_memory_has_the_content_that_was_loaded():
    environment = service.Environment({}, "1970-01-01T00:01:00.000Z", {})
    assert loaded(70, environment, cached=True)["note"] == service.UNCERTAIN
    assert "note" not in loaded(50, environment, cached=True)  # from before ComfyUI's start
    assert "note" not in loaded(70, environment, cached=False)
    assert "note" not in loaded(70, environment, cached=True)
    old = loaded(80, environment, cached=True)
    assert (old["sha256"], old["note"]) == ("of 70", service.REPLACED)
    assert loaded(80, environment, cached=False)["sha256"] == "of 80"
    assert loaded(80, environment, cached=True)["sha256"] == "of 80"
    loaded(90, environment, cached=False, note="it was changed after the run had begun")
    assert loaded(90, environment, cached=True)["note"] == service.UNCERTAIN


async def test_each_process_of_comfyui_has_its_own_environment(monkeypatch):
    class Snapshots:
        began: float | None = 100.0

        async def started(self, _machine: object) -> float | None:
            return self.began

    class Machine:
        id = "local"
        session = SimpleNamespace(system={})

    read = iter([{"n": 1}, {"n": 2}, {"n": 3}])

    async def read_environment(_machine: object) -> dict:
        return next(read)

    snapshots, machine = Snapshots(), Machine()
    provenance = service.Provenance(*[None] * 3, snapshots, *[None] * 5)
    monkeypatch.setattr(provenance, "_read_environment", read_environment)

    async def number(at: float) -> int | None:
        found = (await provenance._environment(machine)).at(timestamp_of(at))
        return None if found is None else found.body["n"]

    assert [await number(101), await number(99)] == [1, None]
    machine.session = SimpleNamespace(system={})  # the connection was lost
    assert await number(102) == 1
    machine.session = SimpleNamespace(system={})
    snapshots.began = 200.0
    assert [await number(201), await number(150), await number(99)] == [2, 1, None]
    machine.session = SimpleNamespace(system={})
    snapshots.began = None  # as of one on another computer
    assert await number(300) == 3
