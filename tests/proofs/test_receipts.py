"""Receipts: one file that is found to be changed if any byte of it is."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfydeploy_jupyter import receipts
from comfydeploy_jupyter.cli import _described, main
from comfydeploy_jupyter.client.proofs import needs
from comfydeploy_jupyter.proofs.verify import checked, differences, first_different_node, pairs
from comfydeploy_jupyter.receipts import (
    RECORD_FORMAT,
    ReceiptError,
    make,
    read,
    redacted,
)
from tests.fuzz.damage import fuzz, json_like
from tests.proofs.test_environment import COMMIT
from tests.proofs.test_environment import RECORD as MADE

RECORD = {
    "format": "comfydeploy-jupyter/record/1",
    "prompt_id": "p",
    "started_at": "2026-01-01T00:00:00.000Z",
    "finished_at": "2026-01-01T00:00:01.000Z",
    "environment": {
        "comfyui": {
            "version": "0.33.0",
            "launch_args": ["--cpu", "--base-directory", "/data/anna/comfy"],
            "paths": ["D:\\my anna\\comfy", "\\\\nas\\anna\\x", "https://h/a/b", "a/b c/d"],
        },
        "warnings": ["/opt/comfy/custom_nodes/x exists twice", "/my own/anna is a/b"],
    },
    "prompt": {"1": {"class_type": "A", "inputs": {"path": "/home/anna/cat.png", "n": 1 / 2}}},
    "workflow": None,
    "notes": [],
}


OUTPUT, INPUT = {"node_id": "1"}, {"folder": "input", "name": "x"}


def made(record, outputs, inputs, *more) -> bytes:
    """Return a receipt of a record that has these files."""
    listed = {
        folder: [
            {**about, "sha256": hashlib.sha256(each).hexdigest()} for each in contents.values()
        ]
        for folder, contents, about in (("outputs", outputs, OUTPUT), ("inputs", inputs, INPUT))
    }
    return make({**record, **listed}, outputs, inputs, *more)


def repacked(content: bytes, **changes: bytes | None) -> bytes:
    """Return a receipt whose files were changed, packed in the proper way."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, body in changes.items():
        path = name.replace("__", ".")
        files.pop(path, None)
        if body is not None:
            files[path] = body
    return receipts._packed(files)


def test_a_receipt_says_what_it_holds():
    content = made(RECORD, {"a.png": b"pixels"}, {"cat.png": b"cat"}, os.urandom(32))
    found = read(content)
    assert found.files["outputs/a.png"] == b"pixels"
    assert found.record["prompt"]["1"]["inputs"]["n"] == 0.5
    assert found.public_key
    crate = json.loads(found.files["ro-crate-metadata.json"])
    kinds = {entity["@id"]: entity["@type"] for entity in crate["@graph"]}
    assert kinds["./"] == "Dataset"
    assert kinds["outputs/a.png"] == "File"
    assert made(RECORD, {}, {}) == made(RECORD, {}, {})
    assert read(made(RECORD, {}, {})).public_key is None


def test_a_flip_of_any_bit_is_found():
    content = made(RECORD, {"a.png": b"pixels"}, {}, os.urandom(32))
    rng = random.Random(5)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises(ReceiptError):
            read(bytes(changed))
    for end in (b"\0", b"PK"):
        with pytest.raises(ReceiptError):
            read(content + end)
    for cut in (1, len(content) // 2, len(content) - 1):
        with pytest.raises(ReceiptError):
            read(content[:cut])


def test_a_home_folder_that_is_the_root_hides_nothing(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    found = read(made(graph(text="a / b", path="x/"), {"a.png": b"/"}, {})).record
    assert found["prompt"]["1"]["inputs"] == {"text": "a / b", "path": "x/"}
    assert found["receipt"]["left_out"] == []


def test_paths_and_secrets_are_hidden_and_marked(monkeypatch, tmp_path):
    home = tmp_path / "otto"
    monkeypatch.setattr(Path, "home", lambda: home)
    secret = {**RECORD, "prompt": {"1": {"inputs": {"text": "comfyui-" + "a1" * 32}}}}
    secret["notes"] = [f"it was in {home}/x"]
    content = made(secret, {"a.png": b"\0prompt" + bytes(home) + b"/y", "b.png": b"x"}, {})
    found = read(content)
    for hidden in (b"anna", b"otto", b"/opt/comfy", b"a1a1"):
        assert hidden not in content
    about = found.record["receipt"]
    assert about["left_out"] == ["outputs/a.png"]
    assert set(about["redacted"]) == {
        "/environment/comfyui/launch_args/2",
        "/environment/comfyui/paths/0",
        "/environment/comfyui/paths/1",
        "/environment/warnings/0",
        "/environment/warnings/1",
        "/notes/0",
        "/prompt/1/inputs/text",
    }
    assert "outputs/b.png" in found.files


def graph(**inputs):
    return {**RECORD, "prompt": {"1": {"class_type": "A", "inputs": inputs}}}


HF = "hf_" + "a1B2" * 10
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n\nMIIE\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        ({"text": f"a fox {HF}, sunset"}, "a fox [redacted], sunset"),
        ({"text": "Authorization: Bearer abcDEF123456"}, "Authorization: Bearer [redacted]"),
        ({"url": "https://h/a.png?token=abc&w=64"}, "https://h/a.png?w=64"),
        ({"url": "see https://anna:pw@h/a.png, please"}, "see https://h/a.png, please"),
        ({"url": "https://h/a?X-Amz-Signature=ab&sig=c"}, "https://h/a"),
        ({"url": "https://h/a#access_token=ab"}, "https://h/a"),
        ({"api_key": "mine"}, "[redacted]"),
        ({"apiKey": "mine and yours"}, "[redacted]"),
        ({"password": {"__value__": "opensesame"}}, {"__value__": "[redacted]"}),
        ({"token": "abcdefgh"}, "[redacted]"),
        ({"key": "0123456789abcdef"}, "[redacted]"),
        ({"auth": "hunter2"}, "[redacted]"),
        ({"cookie": "id=1; theme=dark"}, "[redacted]"),
        ({"text": "Authorization: Basic dXNlcjpwYXNz"}, "Authorization: Basic [redacted]"),
        ({"text": "-H 'X-API-Key: a1b2c3d4'"}, "-H 'X-API-Key: [redacted]'"),
        ({"json": '{"password": "open sesame", "n": 1}'}, '{"password": "[redacted]", "n": 1}'),
        ({"json": '"{\\"api_key\\": \\"sesame\\"}"'}, '"{\\"api_key\\": \\"[redacted]\\"}"'),
        ({"text": f"jwt {JWT} end"}, "jwt [redacted] end"),
        ({"text": "HF_TOKEN=abc123def python x"}, "HF_TOKEN=[redacted] python x"),
        ({"text": "REPLICATE_API_TOKEN='abc123def' x"}, "REPLICATE_API_TOKEN='[redacted]' x"),
        ({"text": "x --hf-token abc123def -o y"}, "x --hf-token [redacted] -o y"),
        ({"text": 'token = "abc123def"'}, 'token = "[redacted]"'),
        ({"text": "curl -u anna:abc123def a"}, "curl -u anna:[redacted] a"),
        ({"text": "AccountName=a;AccountKey=abc123=="}, "AccountName=a;AccountKey=[redacted]"),
        ({"text": f"a {PEM} z"}, "a [redacted] z"),
        ({"text": PEM[:60]}, "[redacted]"),
        ({"text": f"nvapi-{'a1B2' * 12}"}, "[redacted]"),
        (
            {"url": "https://hooks.slack.com/services/T0/B0/x1y2"},
            "https://[redacted]",
        ),
        (
            {"url": f"https://api.telegram.org/bot123456789:AA{'b' * 33}/x"},
            "https://api.telegram.org/[redacted]/x",
        ),
        # what only looks like one
        ({"token_normalization": "length+mean"}, "length+mean"),
        (
            {"text": "the golden KEY = hope, a token = luck"},
            "the golden KEY = hope, a token = luck",
        ),
        ({"key": "filename"}, "filename"),
        ({"pass": "depth"}, "depth"),
        (
            {"text": "a standard bearer marching, basic lighting"},
            "a standard bearer marching, basic lighting",
        ),
        ({"text": "a sign with the password: swordfish"}, "a sign with the password: swordfish"),
        (
            {"text": "sk-top-container-of-the-page-with-many-words"},
            "sk-top-container-of-the-page-with-many-words",
        ),
        ({"keyframes": "0:(1.0), 30:(2.0)"}, "0:(1.0), 30:(2.0)"),
        ({"api_key": ["2", 0]}, ["2", 0]),
        ({"image": "/home/anna/cat.png"}, "[redacted]/cat.png"),
        ({"image": "C:\\Users\\anna\\cat.png"}, "[redacted]\\cat.png"),
        ({"image": "c:\\users\\anna\\cat.png"}, "[redacted]\\cat.png"),
        ({"image": "c:/users/anna/cat.png"}, "[redacted]/cat.png"),
        ({"image": "C:\\Users\\Anna Maria\\cat.png"}, "[redacted]\\cat.png"),
        ({"image": "/home/anna maria lang/cat.png"}, "[redacted]/cat.png"),
        ({"text": "in /home/anna and /tmp/x"}, "in [redacted] and /tmp/x"),
        ({"image": "\\\\nas\\Users\\anna\\cat.png"}, "\\\\nas[redacted]\\cat.png"),
        ({"image": "/media/anna/disk/cat.png"}, "[redacted]/disk/cat.png"),
        ({"image": "/run/media/anna/disk"}, "[redacted]/disk"),
        ({"image": "/homes/anna/cat.png"}, "[redacted]/cat.png"),
        ({"json": '{"image": "\\/home\\/anna\\/a.png"}'}, '{"image": "[redacted]\\/a.png"}'),
        ({"json": '{"image": "C:\\\\Users\\\\anna\\\\a"}'}, '{"image": "[redacted]\\\\a"}'),
        ({"url": "https://h/?file=%2Fhome%2Fanna%2Fa.png"}, "https://h/?file=[redacted]%2Fa.png"),
        ({"url": "https://h/users/12"}, "https://h/users/12"),
        ({"text": "mixed/media/paper"}, "mixed/media/paper"),
        ({"image": "/rooted/cat.png"}, "/rooted/cat.png"),
    ],
)
def test_secrets_in_graphs_are_hidden_wherever_they_are(inputs, shown):
    (name,) = inputs
    record = graph(**inputs)
    value = inputs[name]
    record["workflow"] = {"nodes": [{"id": 1, "widgets_values": ["A", value]}], "extra": {}}
    found = read(made(record, {}, {})).record
    assert found["prompt"]["1"]["inputs"][name] == shown
    hidden = [each for each in found["receipt"]["redacted"] if each.startswith("/prompt")]
    assert bool(hidden) == (shown != value)
    again = found["workflow"]["nodes"][0]["widgets_values"][1]
    if isinstance(value, str) and len(value) >= 8:
        assert again == shown


def test_a_record_hides_secrets_and_keeps_the_rest():
    record = graph(text=f"a fox {HF}", api_key="opensesame", image="/home/anna/a.png", key="t1" * 9)
    shown, hidden = redacted(record, paths=False)
    assert shown["prompt"]["1"]["inputs"] == {
        "text": "a fox [redacted]",
        "api_key": "[redacted]",
        "image": "/home/anna/a.png",
        "key": "[redacted]",
    }
    assert hidden == [f"/prompt/1/inputs/{name}" for name in ("text", "api_key", "key")]


@pytest.mark.parametrize(
    "value", [["api_key", "sesame"], {"name": "api_key", "value": "sesame"}, {"password": "sesame"}]
)
def test_secrets_in_lists_and_objects_of_inputs_are_hidden(value):
    record = {**graph(headers=[value]), "workflow": {"nodes": [], "extra": {"headers": [value]}}}
    shown, _ = redacted(record, paths=False)
    assert "sesame" not in json.dumps(shown)
    links = graph(a=["api_key", 0], b=["key", "depth"])
    assert redacted(links, paths=False)[0]["prompt"] == links["prompt"]


def with_text(name: str, text: str) -> bytes:
    """Return a PNG with a text in its metadata, compressed."""
    content, about = io.BytesIO(), PngInfo()
    about.add_itxt(name, text, zip=True)
    Image.new("RGB", (4, 4)).save(content, "PNG", pnginfo=about)
    return content.getvalue()


ADDRESS = "https://h/a.png?token=abc"


def test_files_with_secrets_are_left_out():
    record = graph(api_key="opensesame", password="käse", pwd="käsekuchen", url=ADDRESS)
    outputs = {
        "short.png": b'\0prompt {"password": "k\\u00e4se"}',
        "escaped.png": b'\0prompt {"pwd": "k\\u00e4sekuchen"}',
        "named.png": b"\0prompt{opensesame}",
        "known.png": f"\0prompt {HF}".encode(),
        "home.png": "\0/home/анна/x".encode(),
        "wide.jpg": "\0/home/anna/x".encode("utf-16-be"),
        "address.png": f"\0{ADDRESS}".encode(),
        "packed.png": with_text("prompt", "/home/anna/x"),
        "good.png": with_text("prompt", "nothing"),
    }
    found = read(made(record, outputs, {}))
    assert [name for name in found.files if name.startswith("outputs/")] == ["outputs/good.png"]
    assert len(found.record["receipt"]["left_out"]) == 8


def test_the_names_of_a_record_are_no_secrets():
    record = graph(password="A")
    assert read(made(record, {}, {})).record["prompt"] == {
        "1": {"class_type": "A", "inputs": {"password": "[redacted]"}}
    }
    outputs = [{"node_id": "1", "key": "text", "content": None}]
    assert read(make({**RECORD, "outputs": outputs}, {}, {})).record["outputs"] == outputs


BAD_NAMES = ("/etc/passwd", "../up", "a//b", "a/./b", "a/../b", "a\\b", "a\nb", "a/")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"record__json": b"{}\n"}, "not those of its manifest"),
        ({"manifest__json": b"{}\n"}, "format None"),
        ({"manifest__json": b"nothing"}, "no proper manifest.json"),
        ({"manifest__json": None}, "no proper manifest.json"),
        ({"more__txt": b"more"}, "not those of its manifest"),
        ({"signature__json": b"{}\n"}, "signature cannot be read"),
        *(({name: b"x"}, "not the path of a file") for name in BAD_NAMES),
    ],
)
def test_a_receipt_that_was_put_together_anew_is_refused(changes, problem):
    with pytest.raises(ReceiptError, match=problem):
        read(repacked(made(RECORD, {"a.png": b"pixels"}, {}, os.urandom(32)), **changes))


def test_a_receipt_that_contradicts_itself_is_refused():
    content = made(RECORD, {"a.png": b"pixels"}, {"b.png": b"input"})
    for changes, problem in (
        ({"outputs/a__png": b"other"}, "outputs/a.png is not what its record says"),
        ({"inputs/c__png": b"more"}, "inputs/c.png is not what its record says"),
        ({"prompt__json": b"{}\n"}, "prompt.json is not what its record says"),
    ):
        with zipfile.ZipFile(io.BytesIO(repacked(content, **changes))) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with pytest.raises(ReceiptError, match=problem):
            read(repacked(content, **changes, manifest__json=receipts._manifest(files)))
    more = {**json.loads(receipts._manifest({})), "more": 1}
    with pytest.raises(ReceiptError, match="not those of its manifest"):
        read(repacked(content, manifest__json=receipts._json(more)))


def test_files_that_the_run_did_not_make_are_left_out():
    outputs = [{**OUTPUT, "sha256": hashlib.sha256(b"made").hexdigest()}]
    outputs.append({**OUTPUT, "filename": "gone.png", "sha256": "1" * 64})
    record = {**RECORD, "outputs": outputs}
    found = read(make(record, {"a.png": b"made", "b.png": b"changed since"}, {"c.png": b"x"}))
    left_out = ["outputs/b.png", "inputs/c.png", "outputs/gone.png"]
    assert found.record["receipt"]["left_out"] == left_out
    assert "outputs/a.png" in found.files


def test_a_signature_of_something_else_is_refused():
    one, other = (made(RECORD, {"a.png": body}, {}, os.urandom(32)) for body in (b"1", b"2"))
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        signature = archive.read("signature.json")
    with pytest.raises(ReceiptError, match="not that of its content"):
        read(repacked(one, signature__json=signature))


LINK = 0o120777 << 16


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: setattr(entry, "external_attr", LINK),
        lambda entry: setattr(entry, "date_time", (2026, 1, 1, 0, 0, 0)),
        lambda entry: setattr(entry, "extra", b"\1\2\1\0a"),
        lambda entry: setattr(entry, "comment", b"a"),
        lambda entry: setattr(entry, "compress_type", zipfile.ZIP_DEFLATED),
        lambda entry: setattr(entry, "create_system", 0),
    ],
)
def test_other_packings_of_the_same_files_are_refused(change):
    with zipfile.ZipFile(io.BytesIO(made(RECORD, {"a.png": b"pixels"}, {}))) as archive:
        files = [(entry, archive.read(entry)) for entry in archive.infolist()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for entry, body in files:
            change(entry)
            archive.writestr(entry, body)
    with pytest.raises(ReceiptError, match="not packed as receipts are"):
        read(packed.getvalue())


@pytest.mark.parametrize("change", [lambda c: b"#!/bin/sh\n" + c, lambda c: c + c, lambda _: b""])
def test_more_or_less_than_a_receipt_is_refused(change):
    with pytest.raises(ReceiptError):
        read(change(made(RECORD, {}, {})))


def test_json_of_any_depth_is_refused_or_read():
    for depth in (200, 600, 985, 5000):
        body = (b'{"a":' * depth) + b"1" + b"}" * depth
        with pytest.raises(ReceiptError):
            read(repacked(made(RECORD, {}, {}), manifest__json=body))


def test_what_cannot_be_said_here_is_no_change(monkeypatch, tmp_path):
    later = tmp_path / "later.zip"
    later.write_bytes(make({**RECORD, "format": "comfydeploy-jupyter/record/2"}, {}, {}))
    assert main(["verify", str(later)]) == 2
    newer, signed = tmp_path / "newer.zip", tmp_path / "signed.zip"
    signed.write_bytes(made(RECORD, {}, {}, os.urandom(32)))
    with monkeypatch.context() as patched:
        patched.setattr(receipts, "FORMAT", "comfydeploy-jupyter/receipt/2")
        newer.write_bytes(made(RECORD, {}, {}))
    assert main(["verify", str(newer)]) == 2
    assert main(["verify", str(signed)]) == 0
    monkeypatch.setattr(receipts, "find_spec", lambda _: None)
    assert main(["verify", str(signed)]) == 2
    assert main(["verify", str(tmp_path / "none.zip")]) == 2
    newer.write_bytes(b"something else")
    assert main(["verify", str(newer)]) == 1


SAMPLE = {
    **MADE,
    "started_at": "2026-01-01T00:00:00.000Z",
    "node_packs": [{"name": "A\x1b", "classes": ["A"], "commit": COMMIT}],
    "prompt": {"1": {"class_type": "A", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "B"}},
    "workflow": {"nodes": [{"id": 1, "type": "A", "properties": {"models": [{"name": "x.pt"}]}}]},
    "outputs": [
        {**OUTPUT, "key": "text", "content": {"sha256": "x"}},
        {**OUTPUT, "filename": "a.png", "sha256": "2", "content": {"sha256": "y"}},
    ],
    "receipt": {"redacted": ["/prompt"], "left_out": ["outputs/x"]},
}


@given(json_like({**SAMPLE, "format": RECORD_FORMAT}))
@fuzz
def test_a_damaged_record_is_refused_or_can_be_read(record):
    try:
        found, _ = checked(record if isinstance(record, dict) else {})
    except ReceiptError:
        return
    for one, other in ((found, SAMPLE), (SAMPLE, found)):
        assert all(isinstance(each, str) for each in differences(one, other))
        list(pairs(one, other))
    json.dumps([needs(found), first_different_node(found, SAMPLE)])
    assert "\x1b" not in _described(receipts.Receipt(found, {}))


def test_bombs_are_refused(monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    with pytest.raises(ReceiptError, match="not packed as receipts are"):
        read(packed.getvalue())
    monkeypatch.setattr(receipts, "MAX_SIZE", 1 << 9)
    with pytest.raises(ReceiptError, match="larger than"):
        read(packed.getvalue())
    monkeypatch.undo()
    monkeypatch.setattr(receipts, "MAX_FILES", 3)
    with pytest.raises(ReceiptError, match="more than 3 files"):
        read(made(RECORD, {}, {}))


def test_files_that_share_their_bytes_are_not_read(monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("0", bytes(1 << 20))
        (first,) = archive.infolist()
        for number in range(1, 100):
            more = copy.copy(first)
            more.filename = f"{number}"
            archive.filelist.append(more)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ReceiptError, match="not packed as receipts are"):
        read(packed.getvalue())
    with pytest.raises(ReceiptError, match="not a receipt"):
        read(b"PK")
