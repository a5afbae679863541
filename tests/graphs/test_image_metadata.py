import io
import json
import struct
import zlib

import PIL.Image
import PIL.PngImagePlugin
import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.metadata import MAX_METADATA, embedded_workflow
from tests.golden.record_media import MEDIA, PROMPT, SAVERS, SOUNDS, WORKFLOW, prompt_of

FILES = sorted([*SAVERS, *SOUNDS])
BOTH = {"workflow": WORKFLOW, "prompt": PROMPT}
TEXTS = {name: json.dumps(value) for name, value in BOTH.items()}


@pytest.mark.parametrize("name", FILES)
def test_metadata_written_by_comfyui_is_read(name):
    with (MEDIA / name).open("rb") as file:
        found = embedded_workflow(file)
    assert found == {"workflow": WORKFLOW, "prompt": prompt_of(name)}


def test_what_comfyui_adds_to_loops_is_removed():
    added = (
        b'{"1": {"class_type": "StartLoop", "inputs": {}, "_loop_body": ["2"], "_loop_end": "3",'
    )
    content = png((b"tEXt", b"prompt\0" + added + b' "is_changed": [NaN]}}'))
    prompt = embedded_workflow(content)["prompt"]
    assert prompt == {"1": {"class_type": "StartLoop", "inputs": {}}}


def png(*chunks):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in [*chunks, (b"IEND", b"")])


def test_compressed_and_international_texts_of_png():
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("prompt", TEXTS["prompt"], zip=True)
    info.add_itxt("workflow", json.dumps(WORKFLOW, ensure_ascii=False), "de", "Ablauf", zip=True)
    file = io.BytesIO()
    PIL.Image.new("L", (4, 4)).save(file, "PNG", pnginfo=info)
    assert embedded_workflow(file) == BOTH
    plain = png((b"iTXt", b"prompt\0\0\0de\0x\0" + json.dumps(PROMPT, ensure_ascii=False).encode()))
    assert embedded_workflow(plain) == {"workflow": None, "prompt": PROMPT}


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif(kind):
    exif = PIL.Image.Exif()
    exif[0x0110] = f"prompt:{TEXTS['prompt']}"
    exif[0x010F] = f"Workflow:{TEXTS['workflow']}"
    exif[0x0131] = "no workflow: this"
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(file, kind, exif=exif)
    assert embedded_workflow(file) == BOTH


def test_exif_of_the_other_byte_order():
    text = f"prompt:{TEXTS['prompt']}\0".encode()
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0x110, 2, len(text), 26)
    tiff += bytes(4) + text
    file = b"RIFF" + struct.pack("<I", 12 + len(tiff)) + b"WEBPEXIF" + struct.pack("<I", len(tiff))
    assert embedded_workflow(file + tiff)["prompt"] == PROMPT


def box(kind, *parts, wide=False):
    content = b"".join(parts)
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


def test_mp4_with_a_comment_and_its_index_after_large_media_data():
    comment = json.dumps({"prompt": TEXTS["prompt"], "workflow": WORKFLOW, "made": 1}).encode()
    data = box(b"data", struct.pack(">II", 1, 0), comment)
    parts = box(b"hdlr", bytes(25)), box(b"ilst", box(b"\xa9cmt", data))
    for version in (bytes(4), b""):  # MP4 has one, QuickTime has not
        meta = box(b"meta", version, *parts)
        file = box(b"ftyp", b"isom") + box(b"mdat", bytes(100), wide=True)
        assert embedded_workflow(file + box(b"moov", box(b"udta", meta))) == BOTH


@pytest.mark.parametrize(
    ("codec", "number"), [("latin-1", 0), ("utf-16", 1), ("utf-16-be", 2), ("utf-8", 3)]
)
@pytest.mark.parametrize("major", [3, 4])
def test_texts_of_id3(codec, number, major):
    frames = b""
    for name, text in TEXTS.items():
        end = "\0".encode("utf-16-be" if "16" in codec else codec)
        content = bytes([number]) + name.encode(codec) + end + text.encode(codec) + end
        frames += b"TXXX" + _size(len(content), major) + b"\0\0" + content
    tag = b"ID3" + bytes([major, 0, 0]) + _size(len(frames), 4) + frames
    assert embedded_workflow(tag) == BOTH


def _size(value, major):
    bits = 7 if major == 4 else 8
    return bytes(value >> bits * place & (1 << bits) - 1 for place in (3, 2, 1, 0))


def test_glb_svg_and_json():
    content = json.dumps({"asset": {"version": "2.0", "extras": TEXTS}}).encode()
    glb = b"glTF" + struct.pack("<IIII", 2, 0, len(content), 0x4E4F534A) + content
    assert embedded_workflow(glb) == BOTH
    svg = (
        f'<svg a="{{">\n <metadata>\n<![CDATA[\n{json.dumps(BOTH, indent=2)}\n]]></metadata></svg>'
    )
    assert embedded_workflow(svg.encode()) == BOTH
    assert embedded_workflow(b"\xef\xbb\xbf" + TEXTS["prompt"].encode())["prompt"] == PROMPT
    assert embedded_workflow(TEXTS["workflow"].encode())["workflow"] == WORKFLOW
    assert embedded_workflow(json.dumps({"workflow_api": PROMPT}).encode())["prompt"] == PROMPT


def test_nan_becomes_null():
    graph = {"1": {"class_type": "A", "inputs": {"x": float("nan")}}}
    found = embedded_workflow(png((b"tEXt", b"prompt\0" + json.dumps(graph).encode())))
    assert found["prompt"] == {"1": {"class_type": "A", "inputs": {"x": None}}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a kind of file"),
        (b"%PDF-1.7", "not a kind of file"),
        (png(), "contains no workflow"),
        (png((b"tEXt", b"prompt\0{broken")), "contains no workflow"),
        (png((b"tEXt", b'workflow\0{"a": 1}')), "contains no workflow"),
        (png((b"tEXt", b"prompt\0" + b"[" * 100_000)), "contains no workflow"),
        (b"{}", "contains no workflow"),
        (b"<svg></svg>", "contains no workflow"),
        ((MEDIA / "video.mp4").read_bytes()[:500], "contains no workflow"),
    ],
)
def test_a_file_without_a_workflow(content, problem):
    with pytest.raises(InvalidRequestError, match=f"^picture: .*{problem}") as caught:
        embedded_workflow(content, field="picture")
    assert caught.value.details["field"] == "picture"


def test_metadata_before_the_end_of_a_truncated_file_is_read():
    content = (MEDIA / "image.png").read_bytes()
    cut = content.index(b"IDAT") + 6
    assert embedded_workflow(content[:cut])["workflow"] == WORKFLOW


def test_a_compression_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(MAX_METADATA + 1), 1)
    with pytest.raises(InvalidRequestError, match="larger than the limit"):
        embedded_workflow(png((b"zTXt", b"prompt\0\0" + bomb)))
    half = zlib.compress(b" " * (MAX_METADATA // 2 + 1), 1)
    with pytest.raises(InvalidRequestError, match="more than 64 MiB"):
        embedded_workflow(png(*[(b"zTXt", b"prompt\0\0" + half)] * 3))
