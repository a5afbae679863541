"""Each parser of external data accepts or rejects any bytes, the latter with our own error."""

import asyncio
import contextlib
import io
import json
import struct
import zipfile
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfydeploy_jupyter.client.stream import SSEParser
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.comfyui.socket import decode_binary, decode_text
from comfydeploy_jupyter.compat.comfydeploy import iso_utc
from comfydeploy_jupyter.errors import ComfyDeployError
from comfydeploy_jupyter.files.uploads import STAGING_PREFIX, Uploads, UploadTarget
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions, type_mismatches
from comfydeploy_jupyter.graphs.diff import diff_graphs
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.formats import check_api_graph, detect_format
from comfydeploy_jupyter.graphs.layout import picture_of
from comfydeploy_jupyter.graphs.metadata import embedded_workflow
from comfydeploy_jupyter.graphs.seeds import SeedMode, apply_seeds
from comfydeploy_jupyter.graphs.ui import SavedWorkflow, check_integrity, name_conflicts
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.validation import validate_prompt
from comfydeploy_jupyter.runs import inputs
from comfydeploy_jupyter.snapshots.snapshot import from_manager, is_manager_snapshot
from comfydeploy_jupyter.tunnel.cloudflared import _ingress, _quick_url, leads_to
from tests.fuzz.damage import ODD, files_like, fuzz, json_like, within_time
from tests.helpers.graphs import GOLDEN, probe_definitions, recorded

MEDIA = [path.read_bytes() for path in sorted((GOLDEN / "media").iterdir()) if path.is_file()]
_TEXT = b'{"prompt": {"1": {"class_type": "A", "inputs": {}}}}'
_EXIF = b'prompt:{"1": {"class_type": "A", "inputs": {}}}'
_GLB = b'{"asset": {"extras": {"prompt": "{\\"1\\": {\\"class_type\\": \\"A\\"}}"}}}'
_TIFF = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 270, 2, len(_EXIF), 26) + b"\0" * 4 + _EXIF
MEDIA += [
    b"<svg><metadata><![CDATA[" + _TEXT + b"]]></metadata></svg>",
    b"glTF" + struct.pack("<III", 2, 20 + len(_GLB), len(_GLB)) + b"JSON" + _GLB,
    b"\xff\xd8\xff\xe1" + struct.pack(">H", 8 + len(_TIFF)) + b"Exif\0\0" + _TIFF + b"\xff\xd9",
    _TEXT,
]
refused = contextlib.suppress(ComfyDeployError)


OBJECT_INFO = recorded("validate_today.object_info.json.gz")
PROMPTS = [
    line["prompt"]
    for line in recorded("validate_today.jsonl.gz")
    if line.get("valid") and "#" not in line["name"]
]
PROBES = probe_definitions()
UI_GRAPHS = [line["ui"] for line in recorded("ui_to_api.jsonl.gz")[::8] if "api_new" in line]
CHOSEN = {"inputs": [["1", "steps"], [2, "text", {}]], "outputs": [1, "2"]}
UI_GRAPHS += [{**each, "extra": {"linearData": CHOSEN}} for each in UI_GRAPHS[::4]]


def test_a_picture_with_thousands_of_references_to_one_text():
    text = b"prompt:" + b'{"1": {"class_type": "' + b"A" * 20_000 + b'", "inputs": {}}'
    count = 3000
    entries = struct.pack("<HHII", 270, 2, len(text), 14 + 12 * count) * count
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + b"\0" * 4 + text
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    with within_time(), refused:
        embedded_workflow(b"\xff\xd8" + segment * 60 + b"\xff\xda\xff\xff")


@fuzz
@given(data=files_like(MEDIA))
def test_pictures_videos_and_sounds(data):
    with within_time(), refused:
        found = embedded_workflow(data)
        json.dumps(found)


FRAMES = [
    struct.pack(">II", 1, 2) + b"\x89PNG",
    struct.pack(">II", 4, 60) + b'{"node_id": "1", "image_type": "image/png"}' + b"\xff\xd8",
    struct.pack(">II", 3, 1) + b"5text",
    b'{"type": "executing", "data": {"node": "1", "prompt_id": "a"}}',
    b'{"type": "progress_state", "data": {"prompt_id": "a", "nodes": {"1": {"value": 1.0}}}}',
]


@fuzz
@given(frame=files_like(FRAMES))
def test_frames_of_comfyuis_websocket(frame):
    with within_time():
        decode_binary(frame)
        event = decode_text(frame.decode("utf-8", "replace"))
        if event is not None:
            assert isinstance(event.data, dict)


STREAM = [
    b'id: 5\nevent: run_update\ndata: {"a": 1}\n\n: ping\n\ndata: x\r\ndata: y\r\n\r\n',
    "\ufeffdata: é\n\nretry: 3\nid: \0\ndata\n\n".encode(),
]


@fuzz
@given(data=files_like(STREAM), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_event_streams_are_the_same_however_they_are_cut(data, cuts):
    with within_time():
        whole = SSEParser().feed(data)
        parser, found, at = SSEParser(), [], 0
        for step in cuts * (len(data) // sum(cuts) + 1):
            found += parser.feed(data[at : at + step])
            at += step
    assert found == whole


@fuzz
@given(definitions=json_like(OBJECT_INFO), prompt=st.sampled_from(PROMPTS).flatmap(json_like))
def test_node_definitions_and_prompts(definitions, prompt):
    if not isinstance(definitions, dict):
        return
    with within_time():
        result = validate_prompt(prompt, NodeDefinitions(definitions), workflow=prompt)
        json.dumps([result.valid, result.error, result.missing_nodes, result.warnings])
        with refused:
            graph = check_api_graph(prompt, field="workflow_api")
            type_mismatches(graph, NodeDefinitions(definitions))


def _archive(compression, *, comment=b"", more=0):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.comment = comment
        for name in ("a.png", "ü/b.jpg", "../c.webp", "d.txt", *(f"{n}.png" for n in range(more))):
            archive.writestr(name, b"picture " * 20)
    return made.getvalue()


ARCHIVES = [
    _archive(zipfile.ZIP_STORED),
    _archive(zipfile.ZIP_DEFLATED, comment=b"PK\5\6" + b"\0" * 18),
    _archive(zipfile.ZIP_BZIP2, comment=b"x" * 30),
    _archive(zipfile.ZIP_LZMA, more=20),
]


def _from_before_its_beginning():
    whole = _archive(zipfile.ZIP_STORED)
    offset = int.from_bytes(whole[-6:-2], "little") + 3
    return whole[:-6] + offset.to_bytes(4, "little") + whole[-2:]


@fuzz
@given(data=files_like(ARCHIVES))
@example(data=_from_before_its_beginning())
def test_archives_of_pictures(data):
    """For zipfile, too, the list of contents of each accepted archive is not too long."""
    with within_time(), refused, io.BytesIO(data) as file:
        if not zipfile.is_zipfile(file):
            return
        with inputs.open_archive(file, "images") as archive:
            found = zipfile._EndRecData(file)
            assert found[5] <= inputs.MAX_DIRECTORY
            for item in inputs.pictures(archive, "images"):
                with io.BytesIO() as picture:
                    inputs.extract(archive, item, picture, "images")
                    assert picture.tell() <= item.file_size


@fuzz
@given(pair=st.sampled_from(UI_GRAPHS).flatmap(lambda ui: st.tuples(st.just(ui), json_like(ui))))
def test_workflow_files(pair):
    sound, workflow = pair
    with within_time():
        with refused:
            detect_format(workflow, field="workflow")
            json.dumps(ui_to_api(workflow, PROBES).graph, allow_nan=False)
        with refused:
            detect_format(workflow, field="workflow")
            check_integrity(workflow, field="workflow")
        if not isinstance(workflow, dict):
            return
        json.dumps(picture_of(workflow), allow_nan=False)
        name_conflicts(SavedWorkflow(workflow), PROBES)
        with refused:
            str(diff_graphs(sound, workflow))
        graph = ui_to_api(sound, PROBES).graph
        workflow_form(graph, PROBES, workflow)
        apply_seeds(graph, SeedMode.AUTO, ui=workflow, definitions=PROBES)


REPLACEMENT = {
    "new_node_id": "PreviewImage",
    "input_mapping": [{"new_id": "images", "old_id": "a"}, {"new_id": "x", "set_value": 1}],
    "output_mapping": [{"old_idx": 0, "new_idx": 1}],
}


@fuzz
@given(replacements=json_like({"Gone": [REPLACEMENT]}))
def test_node_replacements(replacements):
    old = {"class_type": "Gone", "inputs": {"a": ["1", 0]}, "_meta": {}}
    prompt = {**PROMPTS[0], "gone": old, "after": {**old, "inputs": {"a": ["gone", 0]}}}
    with within_time():
        known = replacements if isinstance(replacements, dict) else {}
        validate_prompt(prompt, NodeDefinitions(OBJECT_INFO, replacements=known))


@fuzz
@given(
    value=files_like([b"2026-03-01T10:00:00.123Z", b"2026-03-01 10:00:00.5+00Z"])
    | st.sampled_from(ODD)
)
def test_dates(value):
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    with within_time():
        found = iso_utc(text)
    if found is not None:
        datetime.fromisoformat(found.replace("Z", "+00:00"))


EXTRA_PATHS = b"""
comfyui:
    base_path: /somewhere
    is_default: true
    checkpoints: models/checkpoints/
    loras: |
        models/loras
        ~/more
"""


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    home = tmp_path_factory.mktemp("comfy").resolve()
    (home / "input").mkdir()
    (home / "main.py").touch()
    return home


@fuzz
@given(text=files_like([EXTRA_PATHS]))
def test_extra_model_paths(text, comfy):
    (comfy / "extra_model_paths.yaml").write_bytes(text)
    with within_time(), refused:
        Folders(comfy)


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="type"\r\n\r\ninput\r\n'
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--b--\r\n"
)


@fuzz
@given(data=files_like([BODY]), header=files_like([b"multipart/form-data; boundary=b"]))
def test_multipart_forms(data, header, comfy):
    async def receive(content_type):
        uploads = Uploads()
        try:
            with refused:
                upload = uploads.receive(UploadTarget(Folders(comfy)), content_type, len(data))
                for at in range(0, len(data), 50):
                    await upload.write(data[at : at + 50])
                await upload.finish()
        finally:
            await uploads.close()

    (comfy / "extra_model_paths.yaml").unlink(missing_ok=True)
    for content_type in ("multipart/form-data; boundary=b", header.decode("latin-1")):
        asyncio.run(receive(content_type))
    for path in comfy.rglob("*"):
        assert path.parent == comfy or path.is_relative_to(comfy / "input")
        assert not path.name.startswith(STAGING_PREFIX), "something was left over"


MANAGER = {
    "comfyui": "0123456789012345678901234567890123456789",
    "git_custom_nodes": {"https://github.com/a/b": {"hash": "0" * 40, "disabled": False}},
    "cnr_custom_nodes": {"pack": "1.0.0"},
    "file_custom_nodes": [{"filename": "a.py", "disabled": False}],
    "pips": {"torch==2.5": "", "x": "https://example.org/x.whl"},
}


@fuzz
@given(given_=json_like(MANAGER))
def test_snapshots_of_the_manager(given_):
    with within_time(), refused:
        if isinstance(given_, dict) and is_manager_snapshot(given_):
            from_manager(given_)


LOG = [b"2026-01-01T00:00:00Z INF |  https://some-words.trycloudflare.com  |", b"ERR x" * 20]


@fuzz
@given(
    log=st.lists(files_like(LOG), max_size=4),
    config=json_like({"ingress": [{"service": "http://a:1"}]}),
)
def test_output_of_cloudflared(log, config):
    with within_time():
        url = _quick_url([line.decode("utf-8", "replace") for line in log])
        assert url is None or url.startswith("https://")
        for service in _ingress(config).values():
            leads_to(service, "http://127.0.0.1:8188")
