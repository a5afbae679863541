"""The record of a run and its repetition in Python."""

import hashlib
import json
import random
import shutil
import uuid

import pytest
from PIL import Image

from comfydeploy_jupyter.cli import main
from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError
from comfydeploy_jupyter.receipts import Receipt, ReceiptError, read
from tests.handlers.test_node_packs import NODE, git, repository, with_manager
from tests.helpers.bodies import picture
from tests.helpers.comfyui_proxies import FaultyComfyUI
from tests.helpers.graphs import node
from tests.machines.conftest import managed  # noqa: F401 - a fixture


@pytest.fixture
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


def test_a_run_says_what_it_was_made_with_and_is_made_again(comfy):
    run = comfy.submit(picture("proved", color=5))
    record = run.record()
    assert record["complete"]
    assert run.record["status"] == "success"
    assert record["environment"]["comfyui"]["version"]
    found = run.verify(timeout=60)
    assert found
    assert str(found) == "identical"
    assert found.prompt_id != run.prompt_id
    only = run.verify(execute=False)
    assert (only.verdict, only.differences, bool(only)) == (None, [], False)


def test_a_receipt_is_checked_and_made_again_elsewhere(comfy, jupyter, tmp_path, capsys):
    run = comfy.submit(picture("handed over", color=6))
    path = run.receipt(tmp_path / "receipt.zip", sign=True)
    receipt = read(path.read_bytes())
    assert [name for name in receipt.files if name.startswith("outputs/")]
    command = ["verify", str(path), "--url", jupyter.url, "--token", jupyter.token]
    assert main(command[:2]) == 0
    assert "signed with the key" in capsys.readouterr().out
    assert main([*command[:2], "--key", "another"]) == 1
    assert comfy.verify(path, execute=False).differences == []
    assert main([*command, "--run"]) == 0
    assert "identical" in capsys.readouterr().out
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ReceiptError):
        comfy.verify(path)
    assert main([*command, "--run"]) == 1


def test_a_receipt_that_cannot_be_made_here_says_why(comfy):
    record = comfy.submit(picture("elsewhere", color=8)).record()
    record["prompt"]["1"]["class_type"] = "OfAnotherPack"
    record["node_packs"] = [{"name": "another", "classes": ["OfAnotherPack"], "commit": "a" * 40}]
    record["models"] = [{"folder": "vae", "name": "there.pt", "sha256": "1"}]
    found = comfy.verify(Receipt(record, {}))
    assert found.verdict == "cannot"
    assert "the node class OfAnotherPack is not there" in found.differences
    assert "the model there.pt is not there" in found.differences
    record["format"] = "comfydeploy-jupyter/record/99"
    with pytest.raises(InvalidRequestError, match="record/99"):
        comfy.verify(Receipt(record, {}))


@pytest.fixture
def embedding(comfyui):
    """A model of ComfyUI that a text names, with its content."""
    file = comfyui.models_dir / "embeddings/cosy.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(random.randbytes(2000))
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.thorough
def test_what_a_receipt_needs_is_listed_and_fetched(
    serve, comfyui, embedding, bare_service, tmp_path, capsys
):
    jupyter = serve(
        comfyui_url=comfyui.url,
        comfyui_path=str(comfyui.path),
        civitai_url=bare_service.url,
        huggingface_url=bare_service.url,
    )
    comfy, content = Comfy(jupyter.url, jupyter.token), embedding.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    run = comfy.submit({"1": node("TestText", text="a fox, embedding:cosy")})
    path = run.receipt(tmp_path / "receipt.zip")
    assert comfy.verify(path).missing == []
    embedding.unlink()
    command = ["verify", str(path), "--url", jupyter.url, "--token", jupyter.token]
    main([*command, "--run"])
    said = capsys.readouterr().out
    assert f"embeddings/cosy.safetensors: no address is known, SHA-256 {sha256}" in said
    link = f"{bare_service.url}/files/cosy"
    bare_service.pages[f"api/v1/model-versions/by-hash/{sha256}"] = {
        "files": [
            {"hashes": {"SHA256": "0" * 64}, "downloadUrl": f"{link}-fp8"},
            {"hashes": {"SHA256": sha256.upper()}, "downloadUrl": f"{link}?token=secret"},
        ]
    }
    bare_service.files["cosy"] = b"something else"
    (missing,) = comfy.verify(path, fetch=True, timeout=60).missing
    assert "the SHA-256 of the file is" in missing["problem"]
    assert not embedding.exists()
    bare_service.files["cosy"] = content
    assert main([*command, "--fetch"]) == 0
    assert embedding.read_bytes() == content
    record = comfy.submit({"1": node("TestText", text="a cat, embedding:cosy")}).record()
    assert [model["url"] for model in record["models"]] == [link]  # from where it came
    embedding.write_bytes(b"mine")
    found = comfy.verify(path, fetch=True, timeout=60)
    assert found.differences == ["the model cosy has another content"]
    assert embedding.read_bytes() == b"mine"


def test_the_input_files_of_a_receipt_are_put_in_place(comfy, comfyui, tmp_path):
    name = f"{uuid.uuid4().hex}.png"
    file = comfyui.input_dir / name
    Image.new("RGB", (8, 8), "red").save(file)
    content = file.read_bytes()
    graph = {"1": node("LoadImage", image=name), "2": node("PreviewImage", images=["1", 0])}
    path = comfy.submit(graph).receipt(tmp_path / "receipt.zip", inputs=True)
    file.unlink()
    assert comfy.verify(path, timeout=60).verdict == "cannot"
    assert comfy.verify(path, fetch=True, timeout=60)
    assert file.read_bytes() == content
    Image.new("RGB", (8, 8), "blue").save(file)
    found = comfy.verify(path, fetch=True, timeout=60)
    assert found.verdict == "differs"
    assert found.differences == [f"the input file {name} has another content"]


@pytest.mark.thorough
def test_a_sweep_is_made_again(comfy):
    sweep = comfy.sweep(picture(color=9), {"1.width": [16, 24, 40]}, save=False)
    found = sweep.verify(timeout=120)
    assert found, found
    assert found.counts == {"identical": 3, "differs": 0, "cannot": 0}
    assert str(found) == "identical: 3 identical"
    assert [point["point"] for point in sweep.verify([sweep[1], 2], timeout=60).points] == [1, 2]
    with pytest.raises(NotFoundError):
        sweep.verify([7])


def placed(folder, ver, *, cnr_id=None, aux_id=None, clone=None, code=""):
    """Put a pack in place as ComfyUI-Manager does, in a version or at a commit."""
    if clone is None:
        folder.mkdir()
        (folder / "__init__.py").write_text(code)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{cnr_id}"\nversion = "{ver}"\n')
        (folder / ".tracking").write_text("__init__.py\npyproject.toml\n")
    else:
        git(folder.parent, "clone", "-q", str(clone), str(folder))
        git(folder, "remote", "set-url", "origin", f"https://github.com/{aux_id}")
        git(folder, "checkout", "-q", "--detach", ver)
    (folder / "pack.json").write_text(json.dumps({"ver": ver, "cnr_id": cnr_id, "aux_id": aux_id}))


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_the_packs_of_a_receipt_are_fetched_in_their_versions(
    serve,
    managed,  # noqa: F811 - the fixture
    bare_service,
    tmp_path,
):
    code = NODE.replace("return (1,)", 'return {"ui": {"text": ["grain"]}, "result": (1,)}')
    lost, sharper, blurred = (code.replace("Grain+", name) for name in ("Lost", "Sharpen", "Blur"))
    first = repository(tmp_path / "sharpen", sharper, sharper + "# newer\n")[0]
    (gone,) = repository(tmp_path / "blur", blurred)
    sharpen, blur = "https://github.com/ada/Sharpen", "https://github.com/ada/Blur"
    packs = {
        "film-grain": {
            "classes": ["Grain+"],
            "code": code,
            "versions": {"1.0.0": code, "1.2": code},
        },
        "lost-grain": {"classes": ["Lost"], "code": lost, "versions": {"1.2": lost}},
        sharpen: {"classes": ["Sharpen"], "clone": str(tmp_path / "sharpen")},
        blur: {"classes": ["Blur"], "clone": str(tmp_path / "blur")},
    }
    link = f"{bare_service.url}/files/cosy"
    models = [{"filename": "cosy.safetensors", "url": link}]
    with_manager(tmp_path, version="3", packs=packs, models=models)
    nodes = tmp_path / "base/custom_nodes"
    placed(nodes / "film-grain", "1.0.0", cnr_id="film-grain", code=code)
    placed(nodes / "lost-grain", "0.9", cnr_id="lost-grain", code=lost)
    placed(nodes / "sharper", first, aux_id="ada/Sharpen", clone=tmp_path / "sharpen")
    placed(nodes / "Blur", gone, aux_id="ada/Blur", clone=tmp_path / "blur")
    embedding = tmp_path / "base/models/embeddings/cosy.safetensors"
    embedding.parent.mkdir(parents=True, exist_ok=True)
    embedding.write_bytes(b"cosy")
    sites = {"civitai_url": bare_service.url, "huggingface_url": bare_service.url}
    jupyter = serve(**managed, **sites)
    comfy = Comfy(jupyter.url, jupyter.token)
    graph = {name: node(name) for name in ("Grain+", "Lost", "Sharpen", "Blur")}
    graph["1"] = node("TestText", text="a fox, embedding:cosy")
    run = comfy.submit(graph)
    recorded = {pack["name"]: pack for pack in run.record()["node_packs"]}
    assert recorded["film-grain"]["version"] == "1.0.0"
    assert recorded["sharper"]["commit"] == first
    path = run.receipt(tmp_path / "receipt.zip")

    # The same ComfyUI, as another computer sees it: Manager tells its commits and versions.
    proxy = FaultyComfyUI(comfy.machines.get().software["comfyui"]["url"])
    proxy.start()
    try:
        far = serve(comfyui_url=proxy.url)
        elsewhere = Comfy(far.url, far.token).submit(graph).record()
    finally:
        proxy.close()
    assert {pack["name"]: pack for pack in elsewhere["node_packs"]}["sharper"]["commit"] == first
    assert elsewhere["environment"]["comfyui"]["commit"] == "c" * 40
    assert elsewhere["environment"]["packages"] == {"numpy": "2.2.0", "torch": "2.9.0+cpu"}
    assert "/home/ada/mine" in elsewhere["environment"]["warnings"][0]

    for name in ("film-grain", "lost-grain", "sharper", "Blur"):
        shutil.rmtree(nodes / name)
    shutil.rmtree(tmp_path / "blur")
    (newest,) = repository(tmp_path / "blur", blurred + "# newer\n")
    embedding.unlink()
    comfy.machines.update(restart=True)
    lacking = {each["name"]: each for each in comfy.verify(path, execute=False).missing}
    assert lacking["film-grain"]["version"] == "1.0.0"
    assert (lacking[sharpen]["commit"], lacking[sharpen]["url"]) == (first, sharpen)
    assert lacking["embeddings/cosy.safetensors"]["url"] == link
    bare_service.files["cosy"] = b"cosy"
    found = comfy.verify(path, fetch=True, timeout=120)
    assert found, found
    assert embedding.read_bytes() == b"cosy"
    assert git(nodes / "Sharpen", "rev-parse", "HEAD") == first
    problems = {each["name"]: each["problem"] for each in found.missing}
    assert problems.keys() == {"lost-grain", blur}
    assert problems["lost-grain"].startswith("1.2 is installed instead of 0.9")
    assert problems[blur].startswith(f"{newest} is installed instead of {gone}")
    assert [each.partition(" (")[0] for each in found.differences] == [
        "the node pack lost-grain has another version",
        "the node pack Blur has another commit",
    ]
