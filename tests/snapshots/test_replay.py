"""The steps of a build context, executed in a new environment, install a working ComfyUI.

Two things differ from a build by Docker: repositories are local ones, and of the packages all but
one are linked into the fresh environment beforehand, so that pip finds its pins satisfied.
"""

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.proofs.environment import environment_of
from comfydeploy_jupyter.proofs.service import python_packages
from comfydeploy_jupyter.snapshots.environment import Place, read_versions
from comfydeploy_jupyter.snapshots.snapshot import COMFYUI_REPOSITORY
from comfydeploy_jupyter.util.reaper import reaped_command
from tests.helpers.comfyui import comfyui_version, free_port
from tests.helpers.waiting import until
from tests.snapshots.conftest import PACK_URL, git
from tests.snapshots.dockerfile import Replay

INSTALLED = "einops"  # the package that pip really installs; ComfyUI does not start without it


@pytest.fixture(scope="module")
def comfyui_repository(installed_comfyui, tmp_path_factory):
    """A repository with the tree of the tests as its tag."""
    tree, _ = installed_comfyui
    repository = tmp_path_factory.mktemp("comfyui.git")
    git(repository, "init", "-q", "--bare")
    kept_out = ("/venv", "/models", "/input", "/output", "/temp", "/user", "__pycache__")
    (repository / "info/exclude").write_text("\n".join(kept_out))
    work = (f"--git-dir={repository}", f"--work-tree={tree}")
    git(tree, *work, "add", "--all")
    git(tree, *work, "commit", "-qm", "tree")
    git(tree, *work, "tag", f"v{comfyui_version()}")
    return repository


@pytest.fixture
def fresh_python(installed_comfyui, tmp_path):
    """The ``bin`` of a fresh environment, with all packages of ComfyUI's but one in reach."""
    _, python = installed_comfyui
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    printed = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True)
    site = Path(printed.stdout.strip())
    links = tmp_path / "links"
    links.mkdir()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for entry in site.iterdir():
        if entry.name.partition("-")[0] != INSTALLED:
            (links / entry.name).symlink_to(entry)
        elif entry.suffix == ".dist-info":
            wheel = wheels / f"{entry.stem}-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                for line in (entry / "RECORD").read_text().splitlines():
                    name = line.partition(",")[0]
                    if not name.endswith((".pyc", "INSTALLER", "REQUESTED")):
                        archive.write(site / name, name)
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "fresh"], check=True)
    inner = next((tmp_path / "fresh").glob("lib/python*/site-packages"))
    (inner / "reused.pth").write_text(f"{links}\n")
    return tmp_path / "fresh/bin"


@pytest.fixture
def environment(tmp_path, fresh_python, home, comfyui_repository, registry):
    """The environment of the Dockerfile's commands."""
    repositories = {COMFYUI_REPOSITORY: comfyui_repository, PACK_URL: home.pack}
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "GIT_"))}
    env |= {
        "PATH": f"{fresh_python}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "COMFY_REGISTRY": registry.url,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_COUNT": str(len(repositories)),
    }
    for number, (url, path) in enumerate(repositories.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = f"url.file://{path}.insteadOf"
        env[f"GIT_CONFIG_VALUE_{number}"] = url
    return env


@pytest.fixture
def start(tmp_path):
    """A function that starts the command of an image and returns its address."""
    guards = []

    def run(command, folder, env):
        port = free_port()
        command = [str(port) if word == "8188" else word for word in command]
        log = tmp_path / "image.log"
        program = next(
            path for path in (Path(p, command[0]) for p in env["PATH"].split(":")) if path.exists()
        )
        guarded = reaped_command([str(program), *command[1:]], log=log, cwd=folder)
        guards.append(
            subprocess.Popen(guarded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        )
        url = f"http://127.0.0.1:{port}"
        until(
            lambda: _answers(url) or guards[-1].poll() is not None,
            timeout=150,
            what=lambda: log.read_text()[-5000:],
        )
        assert guards[-1].poll() is None, log.read_text()[-5000:]
        return url

    yield run
    for guard in guards:
        guard.communicate(timeout=30)


def _answers(url):
    try:
        request(f"{url}/system_stats")
    except OSError:
        return False
    return True


def request(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.load(reply)


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="links of packages are made as on Linux")
async def test_the_steps_of_a_context_give_a_running_comfyui(
    api, tmp_path, home, environment, start, registry
):
    code, body = await api.post("snapshot-to-docker", {"name": "replayed"})
    assert code == 200, body
    replay = Replay(Path(body["path"]), tmp_path / "opt", environment)
    replay.run()
    assert f"Successfully installed {INSTALLED}" in replay.output
    comfyui = tmp_path / "opt/comfyui"
    nodes = comfyui / "custom_nodes"
    assert git(nodes / "comfyui-pack", "rev-parse", "HEAD") == home.commit
    assert (nodes / "comfyui-pack/installed.txt").read_text() == "yes"
    assert (nodes / "registered-pack/.tracking").is_file()
    assert registry.requests == ["/nodes/registered-pack/install?version=1.2.3", "/node.zip"]
    assert "--cpu" in replay.command

    url = start(replay.command, replay.folder, replay.env)
    system = request(f"{url}/system_stats")["system"]
    assert system["comfyui_version"] == comfyui_version()
    assert system["pytorch_version"] == next(
        package["version"]
        for package in body["snapshot"]["python"]["packages"]
        if package["name"] == "torch"
    )
    known = request(f"{url}/object_info")
    assert {"FromGit", "FromRegistry", "FromFiles", "FromSingle", "TestText"} <= known.keys()
    assert "KSampler" in known


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="links of packages are made as on Linux")
def test_the_dockerfile_of_a_run_makes_what_the_run_used(
    installed_comfyui, tmp_path, home, environment, registry
):
    tree, python = installed_comfyui
    folders = SimpleNamespace(model_folder=lambda _: SimpleNamespace(paths=[home.nodes]))
    read = read_versions(Place(tree, python, ["--cpu"], folders, started=None))
    names = ("comfyui-pack", "my nodes", "registered-pack")
    packs = {node.name: node for node in read.snapshot.custom_nodes}
    model = tmp_path / "tiny.safetensors"
    model.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    facts = {"folder": "vae", "name": "a b/tiny.safetensors", "sha256": sha256}
    record = {
        "prompt_id": "replayed",
        "environment": {
            "comfyui": read.snapshot.comfyui.model_dump(),
            "python": "3.12.1 (main)",
            **python_packages(read, {}),
        },
        "node_packs": [packs[name].model_dump() for name in names[:2]],
        "models": [facts, {**facts, "name": "local.safetensors"}],
        "inputs": [{"folder": "input", "name": "cat.png", "sha256": sha256}],
    }
    found = environment_of(record)
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(found["dockerfile"])
    assert [line for line in found["warnings"] if "my nodes" in line or "model" in line] == [
        "the node pack my nodes is left out: it has neither a commit nor a version in the registry",
        "the source of the model a b/tiny.safetensors is not known",
        "the source of the model local.safetensors is not known",
        "2 of 2 models have no known source; comments name them",
    ]
    replay = Replay(dockerfile, tmp_path / "opt", environment)
    replay.run()
    assert f"Successfully installed {INSTALLED}" in replay.output
    nodes = tmp_path / "opt/comfyui/custom_nodes"
    assert git(nodes / "comfyui-pack", "rev-parse", "HEAD") == home.commit
    assert not (nodes / "registered-pack").exists()  # the run did not use it
    assert (tmp_path / "opt/comfyui/main.py").is_file()
    assert replay.command[-1] == "--cpu"
