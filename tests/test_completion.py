"""Completions in real kernels, and errors without the frames of this package."""

import json
import re
import shutil

import pytest
from jupyter_client.manager import start_new_kernel

from comfydeploy_jupyter import __all__ as public
from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.magics import completions
from tests.client.conftest import small_server
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

pytestmark = pytest.mark.slow

__all__ = ["small_server"]

SETUP = """\
%load_ext comfydeploy_jupyter
import comfydeploy_jupyter as cj
from comfydeploy_jupyter.client import Comfy
comfy = Comfy("http://127.0.0.1:1/")
wf = comfy.load("sunset.json")
node = wf["Sky"]
other = {"x": {}}
"""
STRINGS = '# it\'s\nx = [\'it\\\'s (\', """a \' "(\\"""", \'[\']\n'
SKY = ["batch_size", "class_type", "color", "height", "id", "inputs", "title", "width"]


@pytest.fixture(scope="module", params=few([True, False]))
def kernel(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(REPOSITORY / "notebooks" / "sunset.json", folder)
    shutil.copy(REPOSITORY / "notebooks" / "sunset.json", folder / "my flow.json")
    (folder / "settings.json").write_text('{"a": 1}')
    (folder / "sub").mkdir()
    manager, client = start_new_kernel(
        extra_arguments=[f"--Completer.use_jedi={request.param}"], cwd=str(folder)
    )
    assert errors_of(client, SETUP) == []
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def errors_of(client, code):
    """Run a cell; return the lines of its error as they are shown, without colours."""
    found = []

    def take(message):
        if message["msg_type"] == "error":
            found.extend("\n".join(message["content"]["traceback"]).split("\n"))

    client.execute_interactive(code, timeout=60, output_hook=take)
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in found]


def complete(client, code):
    """Return the code with each of the completions at its end, or at the ``|`` in it."""
    before, _, after = code.partition("|")
    message_id = client.complete(before + after, len(before))
    while True:
        message = client.get_shell_msg(timeout=60)
        if message["parent_header"].get("msg_id") == message_id:
            content = message["content"]
            return [before[: content["cursor_start"]] + text for text in content["matches"]]


@pytest.mark.parametrize(
    ("code", "completed"),
    [
        ("cj.", [f"cj.{name}" for name in public if name != "__version__"]),
        ("node.", [f"node.{name}" for name in SKY]),
        ('wf["Sky"].', [f'wf["Sky"].{name}' for name in SKY]),
        ("x = [wf['Sky'].co|, 3]", ["x = [wf['Sky'].color"]),
        ("wf[3].co", ["wf[3].color"]),
        ('wf["Sky w', ['wf["Sky with clouds', 'wf["Sky with sun']),
        ('wf["Sky"]["c', ['wf["Sky"]["color']),
        ('wf.inputs["Wi', ['wf.inputs["Width.value']),
        ('wf.set({"wi', ['wf.set({"Width.value']),
        ('comfy.run("sunset.json", {"Wi', ['comfy.run("sunset.json", {"Width.value']),
        ('comfy.run("sunset.json", {"Wi|"})', ['comfy.run("sunset.json", {"Width.value']),
        (
            f"{STRINGS}comfy.submit(\n    wf,\n    inputs={{'Sky.color': 3, 'Clouds.s|': 3}},\n)",
            [
                f"{STRINGS}comfy.submit(\n    wf,\n    inputs={{'Sky.color': 3, 'Clouds.{name}"
                for name in ("seed", "strength")
            ],
        ),
        ('comfy.sweep(wf, {"Caption.v', ['comfy.sweep(wf, {"Caption.value']),
        (
            "%comfy ",
            [
                f"%comfy {name}"
                for name in ("status", "run", "panel", "runs", "batch", "back", "help")
            ],
        ),
        ("%comfy ru", ["%comfy run", "%comfy runs"]),
        ("%comfy run s", ["%comfy run sub/", "%comfy run sunset.json"]),
        ("%comfy panel m", ['%comfy panel "my flow.json']),
        ('%comfy panel "my f', ['%comfy panel "my flow.json']),
        ("%comfy run sunset.json Wi", ["%comfy run sunset.json Width.value="]),
        ('%comfy run "my flow.json" Blur', ['%comfy run "my flow.json" "Blur of the water.value=']),
        ("%comfy run sunset.json see", ["%comfy run sunset.json seed="]),
        ("%comfy batch re", ["%comfy batch resume", "%comfy batch retry"]),
        ("%comfy batch submit s", ["%comfy batch submit sub/", "%comfy batch submit sunset.json"]),
        (
            "%comfy batch submit sunset.json Wi",
            [f"%comfy batch submit sunset.json Width.value{end}" for end in ("=", "*=")],
        ),
    ],
)
def test_names_are_completed(kernel, code, completed):
    found = complete(kernel, code)
    assert sorted(found) == sorted(completed)


@pytest.mark.parametrize(
    "code",
    ['other["', 'comfy.run(wf, {"Sky.color": "Wi', 'comfy.run("nowhere.json", {"Wi', "wf.cha"],
)
def test_other_completions_are_left_to_ipython(kernel, code):
    assert not any(text.endswith(".value") for text in complete(kernel, code))
    assert complete(kernel, 'other["') == ['other["x']
    assert complete(kernel, "wf.cha") == ["wf.changed"]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ('comfy.run(wf, {"Widht.value": 3}, imputs=4)', "TypeError: unknown option 'imputs'; {}"),
        (
            'wf.set({"Widht.value": 3})',
            "UnknownInputError: inputs.Widht.value: no input of the workflow has this name; {}",
        ),
        (
            'comfy.run("sunst.json")',
            "FileNotFoundError: [Errno 2] No such file or directory: 'sunst.json'",
        ),
        (
            "comfy.run(wf)",
            "ServerUnreachableError: the Jupyter server at http://127.0.0.1:1/ does not answer",
        ),
        ('wf["Skyy"]', "UnknownNameError: 'Skyy' is no node of this workflow; {}"),
        ("node.colour", "AttributeError: 'colour' is no input of node \"Sky\" (EmptyImage); {}"),
    ],
)
def test_a_typo_is_shown_as_one_line(kernel, code, line):
    (shown,) = errors_of(kernel, code)
    hint = re.search(r"did you mean '?(inputs|Width\.value|Sky|color)'?\?$", shown)
    assert shown == line.format(hint and hint[0])


def test_frames_of_the_user_are_shown(kernel):
    lines = errors_of(kernel, 'def mine():\n    wf["Skyy"]\nmine()')
    assert lines[-1].startswith("UnknownNameError: 'Skyy' is no node")
    assert any("mine()" in line for line in lines)
    assert not any("workflow.py" in line for line in lines)
    assert errors_of(kernel, "%xmode Verbose") == []
    lines = errors_of(kernel, 'wf["Skyy"]')
    assert errors_of(kernel, "%xmode Context") == []
    assert any("workflow.py" in line for line in lines), "all of them, if they are asked for"


def test_workflows_of_the_editor_and_stored_ones_are_completed(small_server, tmp_path):
    graph = json.loads((REPOSITORY / "notebooks" / "sunset.json").read_text())
    ui = {"nodes": [{"id": 1, "type": "PrimitiveInt"}], "links": []}
    (tmp_path / "ui.json").write_text(json.dumps(ui))

    def answer(request, reply):
        assert request.body in (None, {}, b"", {"workflow": ui, "to": "api"})
        reply.json({"workflow_api": graph, "warnings": ["not exact"]})

    server = small_server(answer)
    names = {"comfy": Comfy(server.url), "number": 3}
    for first in (f'r"{tmp_path}/ui.json", ', 'workflow_id="abc", inputs='):
        assert completions(f'comfy.run({first}{{"Wid', names) == ("Wid", ["Width.value"])
    assert completions(f'comfy.run(Path("{tmp_path}/ui.json"), {{"Wid', names)[1] == ["Width.value"]
    asked = len(server.requests)
    assert completions(f'comfy.run("{tmp_path}/ui.json", {{"Sky.c', names)[1] == ["Sky.color"]
    assert len(server.requests) == asked, "the file has not changed"
    assert completions('number.run("x", {"Wid', names) == ("Wid", [])
