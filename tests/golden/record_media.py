"""Record the files in ``media/`` with a real ComfyUI.

    python -m tests.golden.record_media

This needs a ComfyUI (see ``tests/helpers/comfyui.py``). Its nodes write the pictures and videos.
Its audio nodes need torchaudio, which not every installation has. Therefore PyAV writes the sounds
in ComfyUI's interpreter, with the same calls as ComfyUI 0.3.75 (comfy_api/latest/_ui.py).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import PIL.Image

from tests.helpers.comfyui import ComfyUIServer
from tests.helpers.graphs import node
from tests.helpers.waiting import until

MEDIA = Path(__file__).parent / "media"

TEXT = 'Größe "ü" 猫 \\ \n%s</metadata>'

PROMPT: dict[str, Any] = {
    "1": node("LoadImage", image="tiny.png"),
    "2": node("PrimitiveStringMultiline", TEXT, value=TEXT),
    "3": node("PreviewAny", source=["2", 0]),
    "4": node("RepeatImageBatch", "Three", image=["1", 0], amount=3),
}

WORKFLOW: dict[str, Any] = {
    "version": 0.4,
    "last_node_id": 4,
    "nodes": [
        {"id": int(key), "type": each["class_type"], "title": each.get("_meta", {}).get("title")}
        for key, each in PROMPT.items()
    ],
    "links": [],
}

SAVERS: dict[str, dict[str, Any]] = {
    "image.png": node("SaveImage", images=["4", 0]),
    "animation.png": node("SaveAnimatedPNG", images=["4", 0], fps=6.0, compress_level=4),
    "animation.webp": node(
        "SaveAnimatedWEBP", images=["4", 0], fps=6.0, lossless=True, quality=80, method="default"
    ),
    "video.webm": node("SaveWEBM", images=["4", 0], codec="vp9", fps=24.0, crf=32.0),
    "video.mp4": node("SaveVideo", video=["5", 0], format="mp4", codec="h264"),
    "latent.latent": node("SaveLatent", samples=["6", 0]),
}

HELPERS: dict[str, Any] = {
    "5": node("CreateVideo", images=["4", 0], fps=24.0),
    "6": node("EmptyLatentImage", width=16, height=16, batch_size=1),
}

WRITE_SOUND = """
import json, sys
import av, numpy
name, format, codec, rate, metadata = sys.argv[1:]
with av.open(name, mode="w", format=format) as container:
    for key, value in json.loads(metadata).items():
        container.metadata[key] = value
    stream = container.add_stream(codec, rate=int(rate), layout="mono")
    silence = numpy.zeros((1, 2000), "float32")
    frame = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
    frame.sample_rate = int(rate)
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
"""

SOUNDS = {
    "sound.flac": ("flac", "flac", "44100"),
    "sound.opus": ("opus", "libopus", "48000"),
    "sound.mp3": ("mp3", "libmp3lame", "44100"),
}


def prompt_of(name: str) -> dict[str, Any]:
    """Return the graph in a file; in all files except sounds it has a node that saved them."""
    saver = SAVERS.get(name)
    if saver is None:
        return PROMPT
    inputs = {**saver["inputs"], "filename_prefix": Path(name).stem}
    return {**PROMPT, **HELPERS, "9": {**saver, "inputs": inputs}}


def main() -> None:
    """Write every file again."""
    MEDIA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyUIServer(Path(folder))
        PIL.Image.new("RGB", (64, 64), "teal").save(server.input_dir / "tiny.png")
        server.start()
        try:
            for name in SAVERS:
                shutil.copyfile(_save(server, name), MEDIA / name)
        finally:
            server.kill()
        metadata = {"prompt": json.dumps(PROMPT), "workflow": json.dumps(WORKFLOW)}
        for name, (kind, codec, rate) in SOUNDS.items():
            subprocess.run(
                [
                    *(str(server.python), "-c", WRITE_SOUND, str(MEDIA / name)),
                    *(kind, codec, rate, json.dumps(metadata)),
                ],
                check=True,
            )


def _save(server: ComfyUIServer, name: str) -> Path:
    body = {"prompt": prompt_of(name), "extra_data": {"extra_pnginfo": {"workflow": WORKFLOW}}}
    request = urllib.request.Request(
        f"{server.url}/prompt", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        prompt_id = json.load(response)["prompt_id"]

    def entry() -> Any:
        with urllib.request.urlopen(f"{server.url}/history/{prompt_id}") as response:
            return json.load(response).get(prompt_id)

    found = until(entry, lambda entry: entry is not None)
    if not found["status"]["completed"]:
        raise RuntimeError(f"{name}: {found}")
    (items,) = [files for files in found["outputs"]["9"].values() if isinstance(files[0], dict)]
    return server.output_dir / items[0]["subfolder"] / items[0]["filename"]


if __name__ == "__main__":
    main()
