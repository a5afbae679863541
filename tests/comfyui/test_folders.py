"""Which folders a ComfyUI has, and which paths may be read or written."""

import itertools
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.comfyui.folders import (
    Folders,
    delete_file,
    is_folder_name,
    locate,
    size_of,
    state_of,
)
from comfydeploy_jupyter.errors import (
    ComfyDeployError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
)
from tests.helpers.selection import examples

Forbidden, Invalid, Missing = ForbiddenPathError, InvalidRequestError, NotFoundError


def write(path, content="content"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A ComfyUI, a Jupyter root, files outside both, and links between them."""
    top = tmp_path_factory.mktemp("world").resolve()
    write(top / "secret/passwd", "secret")
    write(top / "shared/s.safetensors")
    write(top / "cache/deep/l.safetensors")
    write(top / "comfy-evil/input/a.png")
    comfy = top / "comfy"
    for name in (
        *("main.py", "user/default/settings.json", "custom_nodes/pack/keys.json"),
        *("models/checkpoints/a.safetensors", "models/checkpoints/sub/b.safetensors"),
        *("models/checkpoints/モデル ü.safetensors", "models/checkpoints/a.safetensors .txt"),
        *("models/clip/c.safetensors", "models/ipadapter/i.bin", "temp/t.png", "output/o.png"),
        *("input/a.png", "input/in\\side.png", "input/..hidden/x.png", "input/%2e%2e"),
        "output/checkpoints/saved.safetensors",
    ):
        write(comfy / name)
    jupyter = top / "jupyter"
    write(jupyter / "notes.txt")
    write(jupyter / "deep/er/n.txt")
    write(jupyter / "..dots.txt")
    links = {
        "comfy/models/linked": top / "cache",
        "comfy/models/.hidden": top / "secret",
        "comfy/models/checkpoints/nested": top / "secret",
        "comfy/models/checkpoints/stolen.safetensors": top / "secret/passwd",
        "comfy/models/checkpoints/shared.safetensors": top / "shared/s.safetensors",
        "comfy/input/everything": "/",
        "jupyter/out": top / "secret/passwd",
        "jupyter/out-relative": "../secret/passwd",
        "jupyter/out-missing": top / "secret/none",
        "jupyter/in": "notes.txt",
        "jupyter/dangling": "nothing",
        "jupyter/loop": "loop",
        "jupyter/chain": comfy / "input/everything",
        "jupyter/null": "/dev/null",
        "jupyter/pipe-link": "pipe",
    }
    for name, target in links.items():
        (top / name).symlink_to(target)
    os.mkfifo(jupyter / "pipe")
    (jupyter / "locked").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        home = Path.cwd()
        os.chdir(jupyter)  # the path of a socket may have 107 bytes only
        listener.bind("socket")
        os.chdir(home)
    return top


@pytest.fixture(scope="module")
def folders(world):
    return Folders(world / "comfy", jupyter_root=world / "jupyter", extra_roots=[world / "shared"])


# Real paths, and the names that mean them.
OK = {
    "comfy/models/checkpoints/a.safetensors": [
        *("models/checkpoints/a.safetensors", "checkpoints/a.safetensors"),
        *("models\\checkpoints\\a.safetensors", "checkpoints//a.safetensors"),
        *("checkpoints/./a.safetensors", "checkpoints/sub/../a.safetensors"),
    ],
    "comfy/models/checkpoints/sub/b.safetensors": [
        *("checkpoints/sub/b.safetensors", "checkpoints\\sub\\b.safetensors"),
    ],
    "comfy/models/checkpoints/モデル ü.safetensors": ["checkpoints/モデル ü.safetensors"],
    "jupyter/notes.txt": [
        *("./checkpoints/../notes.txt", "notes.txt", "{top}/jupyter/notes.txt"),
        *("//{top}/jupyter/notes.txt", "{top}/secret/../jupyter/notes.txt"),
        *("/proc/self/root{top}/jupyter/notes.txt", "input/everything{top}/jupyter/notes.txt"),
    ],
    "comfy/input/a.png": [
        *("models/../input/a.png", "input/a.png", "a.png", "{top}/comfy/input/a.png"),
    ],
    "comfy/models/clip/c.safetensors": [
        *("text_encoders/c.safetensors", "clip/c.safetensors", "models/clip/c.safetensors"),
    ],
    "comfy/output/checkpoints/saved.safetensors": [
        *("checkpoints/saved.safetensors", "models/checkpoints/saved.safetensors"),
    ],
    "comfy/models/ipadapter/i.bin": ["ipadapter/i.bin"],
    "cache/deep/l.safetensors": [
        *("models/linked/deep/l.safetensors", "linked/deep/l.safetensors"),
        "{top}/cache/deep/l.safetensors",
    ],
    "shared/s.safetensors": ["checkpoints/shared.safetensors", "{top}/shared/s.safetensors"],
    "comfy/input/in\\side.png": ["input/in\\side.png"],
    "comfy/input/..hidden/x.png": ["input/..hidden/x.png"],
    "comfy/input/%2e%2e": ["input/%2e%2e"],
    "comfy/output/o.png": ["output/o.png"],
    "comfy/temp/t.png": ["temp/t.png"],
    "jupyter/deep/er/n.txt": ["deep/er/n.txt"],
    "jupyter/..dots.txt": ["..dots.txt"],
    "jupyter/in": ["in"],
}

REFUSED = {
    Forbidden: [
        # upwards
        *("../secret/passwd", "../secret/none", "..", "../", "../../../../../../../etc/passwd"),
        *("deep/../../secret/passwd", "input/../../secret/passwd", "models/../../secret/passwd"),
        *("models/checkpoints/../../../secret/passwd", "checkpoints/../../../secret/passwd"),
        *("models/../user/default/settings.json", "input/../main.py", "none/../../secret/passwd"),
        "notes.txt/../../secret/passwd",
        # backslashes
        *("..\\secret\\passwd", "..\\..\\..\\..\\..\\..\\etc\\passwd"),
        *("models\\..\\..\\secret\\passwd", "\\etc\\passwd", "\\\\server\\share\\x"),
        "..\\/secret/passwd",
        # absolute
        *("/", "/etc/passwd", "//etc/passwd", "///etc///passwd", "/etc/none"),
        *("{top}/secret/passwd", "{top}", "{top}/comfy", "{top}/comfy/main.py"),
        *("{top}/comfy/user/default/settings.json", "{top}/comfy/custom_nodes/pack/keys.json"),
        *("{top}/comfy-evil/input/a.png", "{top}/jupyter/../secret/passwd"),
        *("{top}/JUPYTER/notes.txt", "/proc/self/root/etc/passwd"),
        *("/proc/self/cwd/../../../../etc/passwd", "/proc/1/root/etc/passwd"),
        *("/proc/self/environ", "/proc/self/fd/0"),
        # links
        *("out", "out-relative", "out-missing", "chain/etc/passwd"),
        *("checkpoints/stolen.safetensors", "models/checkpoints/stolen.safetensors"),
        *("checkpoints/nested/passwd", "models/.hidden/passwd", "input/everything/etc/passwd"),
        *("input/everything", "linked/../secret/passwd"),
        # devices, and what would hang
        *("/dev/zero", "/dev/stdin", "/dev/fd/0", "/dev/tty", "null", "pipe", "pipe-link"),
        *("{top}/jupyter/pipe", "socket"),
    ],
    Missing: [
        # upwards
        "....//....//secret/passwd",
        # backslashes
        "C:\\Windows\\win.ini",
        # absolute
        "file:///etc/passwd",
        # encoded: names are never decoded again
        *("%2e%2e/secret/passwd", "%2e%2e%2fsecret%2fpasswd", "%252e%252e%252fsecret"),
        *("..%2fsecret%2fpasswd", "..%c0%afsecret", "input/%2e%2e/%2e%2e/secret/passwd"),
        "&#46;&#46;/secret/passwd",
        # look-alikes
        *("\u2024\u2024/secret/passwd", "\uff0e\uff0e/secret/passwd"),
        *("..\uff0fsecret\uff0fpasswd", "..\u2215secret\u2215passwd", "\u202e../secret/passwd"),
        "\uff0e\uff0e\\secret",
        # links
        *("dangling", "loop", "loop/x"),
        # nearly
        *("~/notes.txt", "~root/.bashrc", "$HOME/notes.txt", "notes.txt.", "notes.txt "),
        *(" notes.txt", "notes.txt/", "notes.txt/.", "notes.txt::$DATA", "NOTES.TXT"),
        *("none/none", "checkpoints/none.safetensors", "custom_nodes/pack/keys.json"),
        *("user/default/settings.json", "CON"),
    ],
    Invalid: [
        # text that is no name
        *("", "\0", "notes.txt\0", "notes.txt\0.png", "../secret/passwd\0.png", "\ud800.png"),
        *("a\udcff.png", "x" * 256, "é" * 128, "deep/" + "x" * 300 + "/n", "d/" * 2100),
        "../" * 1500 + "etc/passwd",
        # nearly
        *("deep", "deep/", ".", "models", "input", "checkpoints", "{top}/jupyter"),
    ],
}


@pytest.mark.timeout(20)
def test_names_inside_the_folders_are_resolved(folders, world):
    for real, names in OK.items():
        for name in names:
            found = folders.resolve(name.replace("{top}", str(world)))
            assert found == (world / real).resolve(), name
            with folders.open_for_read(found) as file:
                assert file.read() == b"content"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("error", REFUSED)
def test_names_outside_the_folders_are_refused(folders, world, error):
    for name in REFUSED[error]:
        with pytest.raises(ComfyDeployError) as caught:
            folders.resolve(name.replace("{top}", str(world)), field="file_path")
        assert type(caught.value) is error, name
        assert "secret" not in caught.value.message or "secret" in name
        if error is not Forbidden:
            assert caught.value.details["field"] == "file_path", name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(400))
@given(
    parts=st.lists(
        st.sampled_from(
            [
                *("..", ".", "", "/", "\\", "~", "\0", "secret", "etc", "passwd", "proc", "self"),
                *("root", "models", "checkpoints", "input", "everything", "out", "nested", "loop"),
                "linked",
            ]
        )
        | st.text(max_size=3),
        max_size=8,
    )
)
def test_no_spelling_finds_a_file_outside(folders, parts):
    try:
        found = folders.resolve("/".join(parts), kind="any")
    except ComfyDeployError:
        return
    assert found == found.resolve()
    assert any(found.is_relative_to(root) for root in folders.roots())


def test_a_refusal_says_what_would_be_allowed(folders, world):
    with pytest.raises(Forbidden, match="extra_roots") as caught:
        folders.resolve("/etc/passwd")
    assert str(world / "jupyter") in caught.value.details["roots"]
    assert str(world / "cache") in caught.value.details["roots"]
    assert caught.value.details["extra_roots"] == [str(world / "shared")]


def test_missing_and_existing_files_outside_are_refused_alike(folders, world):
    replies = []
    for name in ("passwd", "none"):
        with pytest.raises(Forbidden) as caught:
            folders.resolve(str(world / "secret" / name), must_exist=False)
        replies.append(caught.value.to_reply())
    assert replies[0] == replies[1]


def test_new_files_and_directories(folders, world):
    found = folders.resolve("input/new/x.png", must_exist=False)
    assert found == world / "comfy/input/new/x.png"
    assert folders.resolve("deep", kind="directory") == world / "jupyter/deep"
    assert folders.resolve("deep", kind="any") == world / "jupyter/deep"
    with pytest.raises(Invalid, match="not a directory"):
        folders.resolve("notes.txt", kind="directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_refused(folders, world):
    locked = world / "jupyter/locked"
    locked.chmod(0)
    try:
        with pytest.raises(Forbidden):
            folders.resolve("locked/x")
    finally:
        locked.chmod(0o700)


@pytest.fixture
def small(tmp_path):
    top = tmp_path.resolve()
    write(top / "secret/a", "secret")
    write(top / "root/d/a", "fine")
    return top, Folders(None, jupyter_root=top / "root")


@pytest.mark.timeout(5)
def test_what_is_swapped_in_after_the_check_leads_nowhere(small):
    top, folders = small
    path = folders.resolve("d/a")
    path.unlink()
    path.symlink_to(top / "secret/a")
    with pytest.raises(Forbidden):
        folders.open_for_read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Forbidden, match="pipe"):
        folders.open_for_read(path)
    (top / "root/d").rename(top / "root/e")
    (top / "root/d").symlink_to(top / "secret")
    with pytest.raises(Forbidden):
        folders.open_for_read(path)
    with pytest.raises(Forbidden):
        folders.open_directory(top / "root/d/new", create=True)
    assert [path.name for path in (top / "secret").iterdir()] == ["a"]


def test_swapping_all_the_time_never_escapes(small):
    top, folders = small
    stop = threading.Event()
    (top / "root/link").symlink_to(top / "secret/a")
    write(top / "root/plain", "fine")

    def swap():
        while not stop.is_set():
            for source in ("link", "plain"):
                os.link(top / "root" / source, top / "root/next", follow_symlinks=False)
                (top / "root/next").replace(top / "root/target")

    thread = threading.Thread(target=swap)
    thread.start()
    opened = refused = 0
    try:
        while opened < 100 or refused < 100:
            refused += 1
            with (
                suppress(Forbidden, Missing),
                folders.open_for_read(folders.resolve("target")) as file,
            ):
                assert file.read() == b"fine"
                opened, refused = opened + 1, refused - 1
    finally:
        stop.set()
        thread.join()


def test_only_checked_paths_can_be_opened(small):
    top, folders = small
    for path in (top / "secret/a", top / "root/../secret/a", top / "root/d/../../secret/a"):
        with pytest.raises(Forbidden):
            folders.open_for_read(path)
    with pytest.raises(Missing):
        folders.open_for_read(top / "root/none")
    with pytest.raises(Forbidden):
        folders.open_directory(top / "secret")
    with pytest.raises(ConflictError):
        folders.open_directory(top / "root/d/a/b", create=True)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(small):
    top, folders = small
    (top / "root/link").symlink_to(top / "secret/a")
    before = open_descriptors()
    for name in ("d/a", "link", "none", "d", "d/a/x"):
        with suppress(ComfyDeployError):
            folders.open_for_read(top / "root" / name).close()
    os.close(folders.open_directory(top / "root/p/q", create=True))
    assert (top / "root/p/q").is_dir()
    assert open_descriptors() == before


@pytest.fixture
def comfy(tmp_path):
    """The folder of a ComfyUI without the source that names its model folders."""
    return write(tmp_path.resolve() / "comfy/main.py").parent


def test_stock_folders(comfy):
    folders = Folders(comfy)
    found = folders.model_folders()
    assert len(found) == 21
    assert found["text_encoders"].paths == (
        comfy / "models/text_encoders",
        comfy / "models/clip",
        comfy / "output/clip",
    )
    assert found["custom_nodes"].paths == (comfy / "custom_nodes",)
    assert found["configs"].extensions == {".yaml"}
    assert ".safetensors" in found["checkpoints"].extensions
    assert ".md" not in found["checkpoints"].extensions
    assert found["classifiers"].extensions == {""}
    assert found["diffusers"].extensions == {"folder"}
    assert folders.model_folder("unet").name == "diffusion_models"
    with pytest.raises(Missing) as caught:
        folders.model_folder("nope")
    assert "checkpoints" in caught.value.details["folders"]


def test_directories_of_upload_types(comfy):
    write(comfy / "extra_model_paths.yaml", "x:\n  is_default: true\n  vae: /mnt/vae\n")
    folders = Folders(comfy)
    assert folders.directory("input") == comfy / "input"
    assert folders.directory("temp") == comfy / "temp"
    assert folders.directory("models/checkpoints") == comfy / "models/checkpoints"
    assert folders.directory("models/diffusion_models") == comfy / "models/diffusion_models"
    assert folders.directory("models/clip") == comfy / "models/clip"
    assert folders.directory("models/vae") == Path("/mnt/vae")
    for wrong in ("", "models", "models/", "models/nope", "models/custom_nodes", "/", "../input"):
        with pytest.raises(Invalid):
            folders.directory(wrong)
    with pytest.raises(Missing, match="comfyui_path"):
        Folders(None).directory("input")
    everywhere = folders.upload_directories()
    assert {Path("/mnt/vae"), comfy / "models/vae", comfy / "input"} < set(everywhere)
    assert comfy / "custom_nodes" not in everywhere
    assert len(everywhere) == len(set(everywhere))


def test_launch_arguments(comfy):
    folders = Folders(
        comfy,
        argv=[
            *("main.py", "--cpu", "--base-directory", "/base", "--port", "8199"),
            *("--output-directory=out", "--temp-dir", "/t", "--preview-method", "auto"),
        ],
    )
    assert folders.directory("input") == Path("/base/input")
    assert folders.directory("output") == comfy / "out"
    assert folders.directory("temp") == Path("/t/temp")
    checkpoints = folders.model_folders()["checkpoints"]
    assert checkpoints.paths == (Path("/base/models/checkpoints"), comfy / "out/checkpoints")
    assert folders.models_directory == Path("/base/models")
    elsewhere = Folders(comfy, argv=["--input-directory", "i"], cwd="/start")
    assert elsewhere.directory("input") == Path("/start/i")
    with pytest.raises(Invalid, match="launch_args"):
        Folders(comfy, argv=["--base-directory"])


def test_extra_model_paths(comfy, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE", "/storage")
    write(
        comfy / "extra_model_paths.yaml",
        """
        empty:
        a1111:
            base_path: $STORAGE/webui
            checkpoints: models/Stable-diffusion
            loras: |
                 models/Lora
                 models/LyCORIS/
            custom_nodes: nodes
            unet: models/unet
        known:
            checkpoints: models/checkpoints
        relative:
            base_path: ../near
            vae: v
        first:
            is_default: true
            checkpoints: /fast/ckpt
            brand_new: here
        """,
    )
    write(comfy / "more.yaml", f"own:\n  is_default: 1\n  loras: {comfy}/models/loras\n  vae: v2\n")
    folders = Folders(comfy, argv=["--extra-model-paths-config", "more.yaml", "none.yaml", "--cpu"])
    found = folders.model_folders()
    models, output = comfy / "models", comfy / "output"
    webui = Path("/storage/webui")
    assert found["checkpoints"].paths == (
        Path("/fast/ckpt"),
        models / "checkpoints",
        webui / "models/Stable-diffusion",
        output / "checkpoints",
    )
    assert found["loras"].paths == (
        models / "loras",
        webui / "models/Lora",
        webui / "models/LyCORIS",
        output / "loras",
    )
    assert webui / "models/unet" in found["diffusion_models"].paths
    assert found["vae"].paths == (
        comfy / "v2",
        models / "vae",
        tmp_path.resolve() / "near/v",
        output / "vae",
    )
    assert found["brand_new"].paths == (comfy / "here",)
    assert not found["brand_new"].extensions
    assert found["custom_nodes"].paths == (comfy / "custom_nodes", webui / "nodes")
    roots = folders.roots()
    assert webui / "models/Lora" in roots
    assert webui / "nodes" not in roots
    assert webui not in roots


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in itertools.pairwise("abcdefghijk")
)
BROKEN = (
    *("", "[1, 2]", "a: 1", "a: {checkpoints: [x]}", "a: {b: {", "\0", "a: " + "[" * 1000),
    *('a: {base_path: 2026-01-01, loras: "\\0"}', 'a: {base_path: "~\\0", loras: x}'),
    *("a: {base_path: ~nobody-of-this-name/x, loras: x}", f"{BOMB}z: {{base_path: *k, loras: x}}"),
)


@pytest.mark.timeout(20)
def test_a_broken_yaml_file_does_not_affect_other_folders(comfy):
    for text in BROKEN:
        write(comfy / "extra_model_paths.yaml", text)
        assert len(Folders(comfy).model_folders()) == 21, text


@pytest.mark.timeout(5)
def test_pipes_and_endless_files_in_place_of_configurations_are_not_read(comfy, caplog):
    write(comfy / "extra_model_paths.yaml", "# endless\n" * 200_000)
    os.mkfifo(comfy / "more.yaml")
    os.mkfifo(comfy / "folder_paths.py")
    folders = Folders(comfy, argv=["--extra-model-paths-config", "more.yaml"])
    assert len(folders.model_folders()) == 21
    assert "not a regular file" in caplog.text
    assert "is longer than" in caplog.text


def test_directories_that_custom_nodes_register(comfy, tmp_path):
    write(comfy / "models/ipadapter/i.safetensors")
    write(comfy / "models/clip/c.safetensors")
    write(comfy / "models/file.txt")
    (comfy / "models/.cache").mkdir()
    (comfy / "models/same").symlink_to("clip")
    found = Folders(comfy).model_folders()
    assert set(found) - set(Folders(tmp_path).model_folders()) == {"ipadapter"}


def test_names_in_several_directories_of_one_folder(comfy, tmp_path):
    top = tmp_path.resolve()
    write(comfy / "extra_model_paths.yaml", f"x:\n  checkpoints: {top}/big\n")
    write(top / "big/only.safetensors")
    write(top / "big/both.safetensors")
    write(comfy / "models/checkpoints/both.safetensors")
    folders = Folders(comfy, jupyter_root=top / "home")
    for prefix in ("", "models/"):
        only = folders.resolve(f"{prefix}checkpoints/only.safetensors")
        both = folders.resolve(f"{prefix}checkpoints/both.safetensors")
        assert only == top / "big/only.safetensors"
        assert both == comfy / "models/checkpoints/both.safetensors"


def test_folders_that_are_links_themselves(comfy, tmp_path):
    top = tmp_path.resolve()
    write(top / "disk/checkpoints/a.safetensors")
    write(top / "pictures/a.png")
    (comfy / "models").symlink_to(top / "disk")
    (comfy / "input").symlink_to(top / "pictures")
    folders = Folders(comfy)
    assert folders.resolve("checkpoints/a.safetensors") == top / "disk/checkpoints/a.safetensors"
    assert folders.resolve("input/a.png") == top / "pictures/a.png"
    (comfy / "output").mkdir()
    (comfy / "output/checkpoints").symlink_to(top)
    with pytest.raises(Forbidden):
        folders.resolve("output/checkpoints/comfy/main.py")


def test_models_directory(comfy):
    folders = Folders(comfy, argv=["--base-directory", "/base", "--models-directory", "/big"])
    assert folders.models_directory == Path("/big")
    found = folders.model_folders()
    assert found["vae"].paths == (Path("/big/vae"), Path("/base/output/vae"))
    assert found["custom_nodes"].paths == (Path("/base/custom_nodes"),)
    assert folders.directory("models/clip") == Path("/big/clip")
    assert folders.directory("output") == Path("/base/output")
    assert Path("/big") in folders.roots()
    assert Path("/base/models") not in folders.roots()
    assert folders.resolve("models/vae/a.pt", must_exist=False) == Path("/big/vae/a.pt")
    relative = Folders(comfy, argv=["--models-directory=m"], cwd="/start")
    assert relative.models_directory == Path("/start/m")


def test_folders_that_a_newer_comfyui_registers_itself(comfy):
    one, two = (f'os.path.join(models_dir, "{name}")' for name in ("one", "two"))
    registered = {
        "checkpoints": '([os.path.join(models_dir, "checkpoints")], supported_pt_extensions)',
        "datasets": '([os.path.join(base_path, "datasets")], set())',
        "two": f'([{one}, {two}], [".yaml", ".json"])',
        "odd": '(["/etc"], supported_pt_extensions)',
        "up": '([os.path.join(models_dir, "../..")], set())',
    }
    lines = [f'folder_names_and_paths["{name}"] = {value}' for name, value in registered.items()]
    write(comfy / "folder_paths.py", "\n".join(lines))
    found = Folders(comfy, argv=["--models-directory", "/big"]).model_folders()
    assert found["datasets"].paths == (comfy / "datasets",)
    assert found["datasets"].extensions == frozenset()
    assert found["two"].paths == (Path("/big/one"), Path("/big/two"))
    assert found["two"].extensions == {".yaml", ".json"}
    assert not {"odd", "up", "gligen"} & found.keys()
    write(comfy / "folder_paths.py", "import nothing")
    assert "gligen" in Folders(comfy).model_folders()


def test_folders_that_only_the_running_comfyui_lists(comfy):
    folders = Folders(comfy)
    roots = folders.roots()
    folders.reported = ("checkpoints", "ultralytics", "datasets", "unet")
    found = folders.model_folders()
    assert found["ultralytics"].paths == (comfy / "models/ultralytics",)
    assert found["datasets"].paths == (comfy / "datasets",)
    assert folders.directory("models/ultralytics") == comfy / "models/ultralytics"
    assert folders.is_reported("ultralytics")
    assert not folders.is_reported("checkpoints")
    assert "unet" not in found
    assert folders.roots() == roots


def test_names_of_folders_accepted_from_comfyui():
    assert all(map(is_folder_name, ("ultralytics_bbox", "Wan 2.1")))
    for wrong in ("..", "a/b", "/etc", "a\\b", "", ".hidden", "a\nb", "x" * 300):
        assert not is_folder_name(wrong)


def test_only_files_in_the_folders_of_outputs_can_be_deleted(comfy):
    directory = Folders(comfy).directory
    for place in (
        *(("input", "", "a.png"), ("output", "..", "a.png"), ("output", "", "../main.py")),
        *(("output", "", ".."), ("output", "\0", "a.png"), ("output", "", "\ud83d.png")),
    ):
        with pytest.raises(Forbidden):
            locate(directory, *place)
    file = locate(directory, "output", "sub", "a.png")
    assert state_of(*file) is None
    written = write(comfy / "output/sub/a.png")
    state = state_of(*file)
    assert state is not None
    assert size_of(state) == len("content")
    write(written, "other content")
    assert not delete_file(*file, state), "it was changed"
    assert delete_file(*file, state_of(*file) or "")
    assert not written.exists()
