"""The packages of an interpreter: the origin of each decides how pip installs it."""

import json
import subprocess
import sys

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.snapshots import environment
from comfydeploy_jupyter.snapshots.environment import Environment, read_packages
from tests.snapshots.conftest import git


@pytest.fixture
def python(tmp_path):
    """An interpreter without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv/bin/python"


def add(python, name, version, direct_url=None):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))


def read(python):
    found = Environment()
    read_packages(python, found)
    return found


def requirements(found):
    return [package.requirement for package in found.snapshot.python.packages]


def test_pins_and_builds_of_torch(python):
    add(python, "pip", "25.0")
    add(python, "numpy", "1.26.4")
    add(python, "torch", "2.5.1+cu124")
    add(python, "flash_attn", "2.7.0+built.here")
    found = read(python)
    assert requirements(found) == ["flash_attn==2.7.0", "numpy==1.26.4", "torch==2.5.1+cu124"]
    assert found.snapshot.python.indexes == ["https://download.pytorch.org/whl/cu124"]
    assert found.snapshot.python.version == ".".join(map(str, sys.version_info[:3]))
    assert any("flash_attn" in warning for warning in found.warnings)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip's own torch is for CPUs")
def test_torch_without_a_gpu_whose_version_does_not_say_so(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "torch").mkdir()
    (site / "torch/__init__.py").write_text("raise ImportError('it is not imported')")
    (site / "torch/version.py").write_text("__version__ = '2.5.1'\ncuda = None\n")
    add(python, "torch", "2.5.1")
    assert read(python).snapshot.python.indexes == ["https://download.pytorch.org/whl/cpu"]
    (site / "torch/version.py").write_text("__version__ = '2.5.1'\ncuda = '12.4'\n")
    assert read(python).snapshot.python.indexes == []


def test_repositories_and_archives(python):
    vcs = {"vcs": "git", "commit_id": "a" * 40}
    url = "https://ada:s3cret@github.com/x/sam2"
    add(python, "sam2", "1.0", {"url": url, "vcs_info": vcs, "subdirectory": "lib"})
    archive = {"url": "https://x.org/w-1-py3-none-any.whl?token=s3cret", "archive_info": {}}
    add(python, "wheeled", "1.0", archive)
    hashed = {"url": "https://x.org/h.whl", "archive_info": {"hashes": {"sha256": "b" * 64}}}
    add(python, "hashed", "1.0", hashed)
    assert requirements(read(python)) == [
        f"hashed @ https://x.org/h.whl#sha256={'b' * 64}",
        f"sam2 @ git+https://github.com/x/sam2@{'a' * 40}#subdirectory=lib",
        "wheeled @ https://x.org/w-1-py3-none-any.whl",
    ]


def test_local_projects(python, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text("")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    git(checkout, "remote", "add", "origin", "git@github.com:x/mine.git")
    commit = git(checkout, "rev-parse", "HEAD")
    folder = tmp_path / "folder"
    folder.mkdir()
    wheel = tmp_path / "built-1.0-py3-none-any.whl"
    wheel.write_text("")
    editable = {"dir_info": {"editable": True}}
    add(python, "mine", "1.0", {"url": checkout.as_uri(), **editable})
    add(python, "unshared", "1.0", {"url": folder.as_uri(), **editable})
    add(python, "built", "1.0", {"url": wheel.as_uri(), "archive_info": {}})
    add(python, "gone", "1.0", {"url": "file:///no/such/file.whl", "archive_info": {}})
    found = read(python)
    assert requirements(found) == [
        f"./packages/{wheel.name}",
        "gone==1.0",
        f"mine @ git+https://github.com/x/mine.git@{commit}",
        "./packages/unshared",
    ]
    assert found.package_sources == {
        f"./packages/{wheel.name}": wheel,
        "./packages/unshared": folder,
    }
    assert len(found.warnings) == 1


def test_a_project_file_in_site_packages_is_ignored(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "pyproject.toml").write_text("what a careless package left")
    add(python, "good", "1.0")
    assert requirements(read(python)) == ["good==1.0"]


def test_broken_metadata_hides_no_other_package(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "broken-1.dist-info").mkdir()
    (site / "odd-1.dist-info").mkdir()
    (site / "odd-1.dist-info/METADATA").write_text("Name: -r /etc/passwd\nVersion: 1\n")
    add(python, "good", "1.0", None)
    assert requirements(read(python)) == ["good==1.0"]


def test_an_interpreter_that_does_not_run(tmp_path):
    with pytest.raises(ComfyUIUnavailableError, match="does not list"):
        read(tmp_path / "no-python")


def installed(name, *requires, modules=(), changed=0):
    facts = {"direct_url": None, "location": "/site-packages", "changed": changed}
    listed = list(modules or [name.replace("-", "_")])
    return {**facts, "name": name, "version": "1", "requires": list(requires), "modules": listed}


def test_needed_are_the_packages_that_code_imports_and_requirements_name(tmp_path):
    packages = [
        installed("NumPy", modules=("numpy",)),
        installed("torch", "networkx; platform_system == 'Linux'", "opt-einsum ; extra == 'fast'"),
        *(installed("networkx"), installed("opt_einsum"), installed("Pillow", modules=("PIL",))),
        installed("sageattention", "triton>=3"),
        *(installed("triton"), installed("diffusers", "accelerate"), installed("accelerate")),
        *(installed("scikit.image", modules=("skimage",)), installed("unused"), installed("gone")),
    ]
    tree, pack, single = tmp_path / "tree", tmp_path / "pack", tmp_path / "single.py"
    for folder in ("comfy/ldm", "custom_nodes/pack", "venv/lib", "models"):
        (tree / folder).mkdir(parents=True)
    (tree / "requirements.txt").write_text("torch[fast]>=2  # a note\n# numpy\n-r other.txt\n\n")
    (tree / "comfy/ldm/attention.py").write_text("try:\n    from sageattention import sageattn\n")
    for unrelated in ("custom_nodes/pack/a.py", "venv/lib/a.py", "models/a.py"):
        (tree / unrelated).write_text("import unused\n")
    (pack / "models").mkdir(parents=True)
    (pack / "models/net.py").write_text("import os\n\nfrom PIL.Image import Image\n")
    (pack / "pyproject.toml").write_text(
        '[project]\nname = "pack"\ndependencies = [\n  "diffusers[torch]>=0.30",\n'
        '  "scikit_image",\n]\n[tool.comfy]\nx = ["gone"]\n'
    )
    single.write_text("import numpy as np\n")
    found = Environment(node_sources={"pack": pack, "single.py": single})
    environment._read_needs(tree, packages, found)
    assert found.needs == {
        "": ["networkx", "opt_einsum", "sageattention", "torch", "triton"],
        "pack": ["accelerate", "diffusers", "Pillow", "scikit.image"],
        "single.py": ["NumPy"],
    }
    assert found.warnings == []


def test_what_was_changed_after_the_start_is_told(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "a.py").write_text("")
    (tmp_path / "tree").mkdir()
    now = (pack / "a.py").stat().st_mtime
    for started, told in ((now + 60, 0), (now - 60, 2)):
        found = Environment(node_sources={"pack": pack}, started=started)
        packages = [installed("new", changed=now), installed("old", changed=now - 3600)]
        environment._read_needs(tmp_path / "tree", packages, found)
        assert (
            found.warnings
            == [
                "the node pack pack was changed after ComfyUI had been started",
                "installed after ComfyUI had been started: new",
            ][:told]
        )


def test_an_interpreter_tells_what_its_packages_require(python):
    add(python, "one", "1")
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    info = site / "one-1.dist-info"
    with (info / "METADATA").open("a") as file:
        file.write("Requires-Dist: two>=2; extra == 'x'\n")
    (info / "RECORD").write_text("one/__init__.py,,\nsingle.py,,\none-1.dist-info/RECORD,,\n")
    (package,) = read_packages(python, Environment())
    assert package["modules"] == ["one", "single"]
    (line,) = package["requires"]
    assert line.startswith("two>=2")
    assert package["changed"] == info.stat().st_ctime
