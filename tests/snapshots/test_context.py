"""The files of a build context, and the script that its Dockerfile calls."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from comfydeploy_jupyter.errors import ConflictError, NoSpaceError
from comfydeploy_jupyter.snapshots import docker
from comfydeploy_jupyter.snapshots.docker import Copier, write_context
from comfydeploy_jupyter.snapshots.environment import Environment
from comfydeploy_jupyter.snapshots.snapshot import ComfyUI, Package, Python, Snapshot
from tests.helpers.disks import files_limited_to
from tests.snapshots.conftest import git, names_in


def get(*arguments, **env):
    script = str(Path(docker.__file__).with_name("context_get.py"))
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env or None, timeout=60)


def context(folder, environment, name="x"):
    return write_context(folder, name, environment, models=False)


def test_local_packages_are_in_the_context(tmp_path):
    project = tmp_path / "project"
    (project / ".venv/lib").mkdir(parents=True)
    (project / "pyproject.toml").write_text("")
    wheel = tmp_path / "w-1-py3-none-any.whl"
    wheel.write_text("wheel")
    lines = ["./packages/project", f"./packages/{wheel.name}", "./packages/elsewhere"]
    packages = [Package(name=f"p{i}", requirement=line) for i, line in enumerate(lines)]
    sources = {lines[0]: project, lines[1]: wheel}
    environment = Environment(Snapshot(python=Python(packages=packages)), package_sources=sources)
    written = context(tmp_path / "contexts", environment)
    assert names_in(written.path / "packages") == {"project", wheel.name}
    assert names_in(written.path / "packages/project") == {"pyproject.toml"}
    assert (written.path / "requirements.txt").read_text().splitlines() == lines[:2]
    assert "COPY ./packages/ ./packages/" in written.dockerfile
    assert any("p2" in warning for warning in written.warnings)


def test_a_full_disk_leaves_the_earlier_context(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("")
    line = "./packages/project"
    snapshot = Snapshot(python=Python(packages=[Package(name="p", requirement=line)]))
    environment = Environment(snapshot, package_sources={line: project})
    before = context(tmp_path / "contexts", environment)
    (project / "large.py").write_bytes(b"#" * 300_000)
    with files_limited_to(200_000), pytest.raises(NoSpaceError, match="snapshot x"):
        context(tmp_path / "contexts", environment)
    assert names_in(before.path / "packages/project") == {"pyproject.toml"}
    assert names_in(tmp_path / "contexts") == {"x", "x~lock"}
    after = context(tmp_path / "contexts", environment)
    assert names_in(after.path / "packages/project") == {"pyproject.toml", "large.py"}


def test_a_snapshot_without_packages_installs_those_of_comfyui(tmp_path):
    written = context(tmp_path, Environment(Snapshot(comfyui=ComfyUI(version="0.3.75"))))
    assert "pip install -r /opt/comfyui/requirements.txt" in written.dockerfile
    assert "FROM python:3.12-slim-bookworm" in written.dockerfile


def test_launch_arguments_of_this_machine_are_left_out(tmp_path):
    given = ["--port", "9", "--listen", "--lowvram", "--output-directory=/x", "--reserve-vram", "2"]
    environment = Environment(Snapshot(comfyui=ComfyUI(launch_args=given)))
    written = context(tmp_path, environment)
    assert written.dockerfile.endswith(
        'CMD ["python", "main.py", "--listen", "0.0.0.0", "--port", "8188",'
        ' "--lowvram", "--reserve-vram", "2"]\n'
    )
    assert any("--output-directory" in warning for warning in written.warnings)


def test_a_build_context_is_written_by_one_process_at_a_time(tmp_path):
    with (tmp_path / "x~lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="is being written"):
            context(tmp_path, Environment(Snapshot()))
        context(tmp_path, Environment(Snapshot()), "another")
    context(tmp_path, Environment(Snapshot()))


def test_copies_are_bounded(tmp_path, monkeypatch):
    source = tmp_path / "pack"
    (source / "inner").mkdir(parents=True)
    (source / "a.py").write_text("a" * 60)
    (source / "b.py").write_text("b" * 60)
    (source / "inner/link").symlink_to("../a.py")
    (source / "inner/up").symlink_to("..")
    copier = Copier(bytes_left=130)
    copier.copy(source, tmp_path / "copy")
    assert names_in(tmp_path / "copy") == {"a.py", "b.py", "inner"}
    assert names_in(tmp_path / "copy/inner") == {"up"}
    assert (tmp_path / "copy/inner/up").readlink().as_posix() == ".."
    assert copier.warnings == [
        "pack/inner/link is left out: there are too many files, or too large ones"
    ]
    with (source / "model.bin").open("wb") as file:
        file.truncate(docker.MIB * 101)
    copier = Copier()
    copier.copy(source, tmp_path / "again")
    assert copier.warnings == ["pack/model.bin is left out: it is larger than the limit: 101 MiB"]


def test_a_commit_that_is_not_the_newest_of_a_branch(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    for number in ("1", "2"):
        (source / "file").write_text(number)
        git(source, "add", ".")
        git(source, "commit", "-qm", number)
    first = git(source, "rev-parse", "HEAD~")
    done = get("git", source.as_uri(), first, str(tmp_path / "target"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target/file").read_text() == "1"


def test_a_version_that_is_not_in_the_registry(tmp_path, registry):
    target = tmp_path / "target"
    done = get("node", "registered-pack", "9.9.9", str(target), COMFY_REGISTRY=registry.url)
    assert done.returncode != 0
    assert "no version 9.9.9 of registered-pack" in done.stderr
    assert not target.exists()


def test_models_are_checked(tmp_path):
    source = tmp_path / "m.safetensors"
    source.write_bytes(b"weights")
    target = tmp_path / "models/loras/m.safetensors"
    done = get("model", source.as_uri(), str(target), "0" * 64)
    assert done.returncode != 0
    assert "is not the file" in done.stderr
    assert not target.exists()
    done = get("model", source.as_uri(), str(target), hashlib.sha256(b"weights").hexdigest())
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == b"weights"
    assert names_in(target.parent) == {"m.safetensors"}


def test_install_scripts_that_fail_do_not_end_the_build(tmp_path):
    for name, code in (("bad", "raise SystemExit(3)"), ("good", "open('done', 'w')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "install.py").write_text(code)
    done = get("scripts", str(tmp_path))
    assert done.returncode == 0
    assert "bad/install.py failed" in done.stdout
    assert (tmp_path / "good/done").exists()
