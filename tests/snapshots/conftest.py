"""The files of a ComfyUI with custom nodes of every kind, which is never started."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.comfyui import TEST_NODES
from tests.helpers.processes import git

if TYPE_CHECKING:
    from collections.abc import Iterator

PACK_URL = "https://github.com/someone/comfyui-pack.git"


def node(class_name: str) -> str:
    """Return the source of a pack with one node class."""
    return (
        f"class {class_name}:\n"
        "    RETURN_TYPES = ('INT',)\n"
        "    FUNCTION = 'work'\n"
        "    CATEGORY = 'tests'\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls):\n"
        "        return {'required': {}}\n"
        "    def work(self):\n"
        "        return (1,)\n"
        f"NODE_CLASS_MAPPINGS = {{'{class_name}': {class_name}}}\n"
    )


def text_of(path: str | Path) -> str:
    """Return the content of a file, or of all files of a folder."""
    found = Path(path)
    files = sorted(found.rglob("*")) if found.is_dir() else [found]
    return "".join(file.read_text() for file in files if file.is_file())


def names_in(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def write_registry_pack(folder: Path) -> None:
    folder.mkdir()
    (folder / "__init__.py").write_text(node("FromRegistry"))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nname = "no"\n\n[project]\nname = "Registered-Pack"\nversion = "1.2.3"\n'
        'dependencies = ["einops"]\n\n[tool.comfy]\nPublisherId = "someone"\n'
    )
    (folder / ".tracking").write_text("__init__.py\npyproject.toml")


@dataclass
class Home:
    """A base directory of ComfyUI.

    Attributes
    ----------
    path : pathlib.Path
        Its path.
    pack : pathlib.Path
        The checkout of ``PACK_URL``, at its first commit of two.
    commit : str
        The commit that is checked out in the pack.
    """

    path: Path
    pack: Path
    commit: str

    @property
    def nodes(self) -> Path:
        return self.path / "custom_nodes"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A base directory with a pack of each kind."""
    base = tmp_path / "home"
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True)
    pack = nodes / "comfyui-pack"
    pack.mkdir()
    git(pack, "init", "-q", "-b", "main")
    (pack / "__init__.py").write_text(node("FromGit"))
    (pack / "install.py").write_text("open('installed.txt', 'w').write('yes')\n")
    git(pack, "add", ".")
    git(pack, "commit", "-qm", "one")
    commit = git(pack, "rev-parse", "HEAD")
    (pack / "__init__.py").write_text("raise RuntimeError('not the commit that was there')\n")
    git(pack, "commit", "-qam", "two")
    git(pack, "checkout", "-q", "--detach", commit)
    git(pack, "remote", "add", "origin", PACK_URL.replace("://", "://ada:s3cret@"))
    write_registry_pack(nodes / "registered-pack")
    (nodes / "test_nodes").symlink_to(TEST_NODES / "comfydeploy_test_nodes")
    mine = nodes / "my nodes"
    mine.mkdir()
    (mine / "__init__.py").write_text(node("FromFiles"))
    (mine / ".env").write_text("HF_TOKEN=hf_secret")
    (mine / "notes.txt").write_text("sk-" + "a" * 40)
    (mine / "outside").symlink_to("/etc/hostname")
    (nodes / "single.py").write_text(node("FromSingle"))
    (nodes / "off.disabled").mkdir()
    return Home(base, pack, commit)


@pytest.fixture
def extension_config(
    home: Home, installed_comfyui: tuple[Path, Path], tmp_path: Path
) -> dict[str, Any]:
    path, python = installed_comfyui
    return {
        "comfyui_path": str(path),
        "comfyui_python": str(python),
        "launch_args": ["--base-directory", str(home.path), "--cpu", "--api-token", "s3cret"],
        "autostart": False,
        "data_dir": str(tmp_path / "data"),
    }


@dataclass
class Registry:
    """The Comfy registry with one version of one pack, which it sends to every client."""

    url: str
    requests: list[str]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    packed = io.BytesIO()
    write_registry_pack(tmp_path / "published")
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("__init__.py", "pyproject.toml"):
            archive.write(tmp_path / "published" / name, name)
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            body = packed.getvalue()
            if self.path.startswith("/nodes/"):
                answer = {"version": "1.2.3", "downloadUrl": f"{found.url}/node.zip"}
                body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Registry(f"http://127.0.0.1:{server.server_address[1]}", requests)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
