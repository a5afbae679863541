"""Malicious names and texts, where they are shown and where they become code."""

import logging
import re

import pytest

from comfydeploy_jupyter.client.account import AccountStatus, SignInLink
from comfydeploy_jupyter.client.files import Form, Model
from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.client.machines import Machine, Machines
from comfydeploy_jupyter.client.results import Result
from comfydeploy_jupyter.client.runs import Kept, Run, StoryEntry
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.client.tunnel import TunnelStatus
from comfydeploy_jupyter.client.workflow import Validation, Workflow, unknown_name
from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError
from comfydeploy_jupyter.extension import JupyterLog
from comfydeploy_jupyter.snapshots.snapshot import parse
from comfydeploy_jupyter.widgets.page import Record

MARKUP = "\"'><img src=x onerror=alert(1)><script>alert(1)</script>"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b2J\r\b"
NAMES = (MARKUP, f'data:video/x"><script>alert(1)<!--,{MARKUP}', f"data:image/{MARKUP},a")


def result(text):
    graph = {"1": {"class_type": text, "inputs": {text: text}, "_meta": {"title": text}}}
    files = [{"filename": f"{text}.png", "subfolder": text, "type": text}]
    reply = {
        "prompt_id": text,
        "status": "failed",
        "outputs": {"1": {"images": files, "text": [text]}},
        "node_times": {"1": 1.0},
        "seeds": {text: text},
        "error": {"type": text, "message": text, "node_id": "1", "node_type": text},
    }
    return Result(Server("http://127.0.0.1:9/", ""), reply, Source(graph))


@pytest.mark.parametrize("name", NAMES)
def test_texts_in_notebooks_are_escaped(name):
    page = result(name).to_html()
    assert "<script" not in page
    assert not re.search(r"<img(?! alt=)", page)


def test_control_characters_for_terminals_are_escaped():
    made = result(TERMINAL)
    error = NotFoundError(f"There is no {TERMINAL}")
    for text in (repr(made), repr(made.images), str(error), error.to_reply()["message"]):
        assert "owned" in text
        assert text.isprintable()


def test_control_characters_in_what_users_print_are_escaped():
    graph = {"1": {"class_type": TERMINAL, "inputs": {TERMINAL: 1}, "_meta": {"title": TERMINAL}}}
    faults = [{"type": TERMINAL, "message": TERMINAL, "details": TERMINAL}]
    node_errors = {"1": {"class_type": TERMINAL, "errors": faults}}
    missing_model = {"node_id": "1", "name": TERMINAL, "folder": TERMINAL, "url": TERMINAL}
    reply = {
        "error": faults[0],
        "node_errors": node_errors,
        "further_errors": {"2": node_errors["1"]},
        "missing_nodes": [{"class_type": TERMINAL, "needs": TERMINAL, "node_ids": ["1"]}],
        "missing_models": [missing_model],
        "warnings": [TERMINAL],
    }
    source, server = Source(graph), Server("http://127.0.0.1:9/", "")
    validation = Validation(reply, source)
    gpus = [{"name": TERMINAL, "memory": {"total": 1}}]
    machine = {"id": TERMINAL, "status": TERMINAL, "version": TERMINAL, "hardware": {"gpus": gpus}}
    tunnel = {"state": TERMINAL, "target": TERMINAL, "error": TERMINAL, "hint": TERMINAL}
    refused = Result(server, {"prompt_id": "a", "node_errors": node_errors}, source)
    printed = [
        repr(validation),
        *(validation.problems + validation.general),
        *(text for texts in validation.by_node.values() for text in texts),
        repr(Machine(Machines(server), machine)),
        repr(TunnelStatus(tunnel)),
        *refused.left_out,
        result(TERMINAL).failure,
        repr(Workflow(server, graph)["1"]),
        str(source.name("1")),
        repr(Run(server, {"prompt_id": TERMINAL, "status": "success"})),
        str(StoryEntry(TERMINAL, TERMINAL, TERMINAL, TERMINAL)),
        str(Kept(TERMINAL, None, TERMINAL)),
        str(AccountStatus("signed-in", TERMINAL, TERMINAL)),
        repr(Model(TERMINAL, TERMINAL)),
        repr(SignInLink(TERMINAL)),
        str(unknown_name("a", [TERMINAL], TERMINAL)),
    ]
    record = Record("RunPanel")
    record.set("", TERMINAL)
    for text in [*printed, record.plain_text]:
        assert "owned" in text
        assert text.replace("\n", "").isprintable()


def test_control_characters_in_the_log_are_escaped(caplog):
    log = logging.getLogger("jupyter-in-a-test")
    log.addHandler(caplog.handler)
    record = log.makeRecord("a", logging.WARNING, "", 0, "%s was saved", (TERMINAL,), None)
    JupyterLog(log).emit(record)
    log.removeHandler(caplog.handler)
    assert "owned" in caplog.messages[0]
    assert caplog.messages[0].isprintable()
    assert record.getMessage() == f"{TERMINAL} was saved"


def test_the_name_of_a_file_stays_in_its_field():
    name = 'a"\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n.png'
    head = next(iter(Form({}, name, 0, [])))
    assert head.count(b"\r\nContent-Disposition:") == 1


@pytest.mark.parametrize(
    "line",
    [
        "--index-url=http://evil.example",
        " --index-url=http://evil.example",
        *(f"a==1{end}--index-url=http://evil.example" for end in "\n\r\v\f\x1c\x85\u2028\u2029"),
    ],
)
def test_a_requirement_is_no_option_of_pip(line):
    packages = [{"name": "a", "requirement": line}]
    with pytest.raises(InvalidRequestError, match="not an option of pip"):
        parse({"comfyui": {}, "python": {"packages": packages}})
