"""Which templates of a ComfyUI repeat bit for bit on this machine, and what breaks it.

    COMFYUI_TEST_PATH=.comfyui python -m benchmarks.repeatability [--only NAME ...] [--longest 20]

Each template that can run here is executed again with empty caches, after a restart, in another
order, by two ComfyUIs at the same time, with other caches and with ``--fast``, and the decoded
contents are compared with those of the first run. There are no model files here: those of the
folders `STAND_INS` are small ones with random weights (`stand_ins.py`), with smaller pictures and
two steps. A template whose first run fails with the models for pictures is tried with those for
videos; one that fails with both, or takes more than `--longest` seconds of processor time, is
executed no further. The smallest graphs come first, and after `--minutes` no further one is tried.
With other options of ComfyUI a sample is executed. Prints a table in Markdown,
of what was compared until then if it is ended (``kill PID``).
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import wave
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from PIL import Image

from comfydeploy_jupyter.errors import ComfyDeployError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.inputs import file_names_in
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.proofs.content import UndecodedError, content_of, text_content
from comfydeploy_jupyter.util.media_types import is_picture, media_type
from tests.helpers.comfyui import ComfyUIServer, comfyui_tree, comfyui_version

from .records import processor_time

if TYPE_CHECKING:
    from collections.abc import Iterator

Graph = dict[str, dict[str, Any]]
Contents = dict[str, str]  # hashes by the node and the place of an output
KINDS = ("picture", "video")  # of stand-ins, in the order in which they are tried
STAND_INS = (
    *("checkpoints", "diffusion_models", "text_encoders", "vae", "controlnet", "upscale_models"),
    *("loras", "clip_vision"),
)
# Each of their text encoders would be of another large architecture.
SEVERAL_ENCODERS = ("DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader")
SIDE = 64  # pixels of a picture
SMALLER = {
    **dict.fromkeys(("width", "height"), SIDE),
    **dict.fromkeys(("x", "y"), 0),
    **dict.fromkeys(("steps", "seconds"), 2),
    "length": 5,
    "megapixels": 0.01,
}
LONGEST = 120  # seconds of processor time of the second and further runs
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # other threads mostly wait
FASTER = "--fp32-text-enc"  # on a CPU, texts in half precision take many seconds
FIRST, TOO_LONG = "first", "it takes more than"
FLAGS = ("--fast", "--deterministic", "--cache-classic", "--cache-none", "--cache-lru 8")
SAMPLE = 20  # templates that are executed with these


class FailedError(Exception):
    """A prompt was refused, or its run failed."""


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        raise FailedError(error.read().decode(errors="replace")[:300]) from None
    return json.loads(text) if text else None


def start(folder: Path, flags: str = "") -> ComfyUIServer:
    server = ComfyUIServer(folder, args=[FASTER, *flags.split()], env=ONE_THREAD)
    server.start(300)
    return server


def free(server: ComfyUIServer) -> None:
    ask(f"{server.url}/free", {"unload_models": True, "free_memory": True})
    time.sleep(5)  # ComfyUI does it between two prompts


def execute(server: ComfyUIServer, graph: Graph, longest: float) -> Contents:
    """Execute a prompt; return the hashes of the contents of its outputs."""
    # Without a client, ComfyUI's history lacks the outputs of nodes that it has in its cache.
    body = {"prompt": graph, "client_id": "repeatability"}
    prompt_id = ask(f"{server.url}/prompt", body)["prompt_id"]
    latest = processor_time(server.pid) + longest
    while not (found := ask(f"{server.url}/history/{prompt_id}")):
        time.sleep(0.5)
        if processor_time(server.pid) > latest:
            ask(f"{server.url}/interrupt", {})
            while ask(f"{server.url}/queue")["queue_running"]:
                time.sleep(0.2)
                if processor_time(server.pid) > latest + longest:  # a node that does not end
                    server.restart()
            raise FailedError(f"{TOO_LONG} {longest:g} s of processor time here")
    run = found[prompt_id]
    if run["status"]["status_str"] != "success":
        said = [body for kind, body in run["status"]["messages"] if kind == "execution_error"]
        raise FailedError(said[0]["exception_message"][:200] if said else "it failed")
    contents = {}
    for node_id, output in run["outputs"].items():
        for key, values in output.items():
            for place, value in enumerate(values if isinstance(values, list) else [values]):
                contents[f"{node_id} {key} {place}"] = digest(server, value)
    return contents


def digest(server: ComfyUIServer, value: Any) -> str:
    if not isinstance(value, dict) or "filename" not in value:
        return text_content(json.dumps(value, sort_keys=True)).sha256
    root = {"output": server.output_dir, "temp": server.base_dir / "temp"}[value["type"]]
    body = (root / value["subfolder"] / value["filename"]).read_bytes()
    try:
        return content_of(io.BytesIO(body), value["filename"]).sha256
    except UndecodedError:
        return hashlib.sha256(body).hexdigest()


# -- which templates can run -------------------------------------------------------------------


def prepared(ui: Any, nodes: NodeDefinitions, folder: Path, stand_ins: Path, kind: str) -> Graph:
    """Return the prompt of a template, with what it needs in place; or raise FailedError."""
    try:
        graph: Graph = ui_to_api(ui, nodes, rng=random.Random(1)).graph
    except ComfyDeployError as error:
        raise FailedError(f"not converted: {error.message}") from None
    if not graph:
        raise FailedError("it has no nodes")
    if unknown := {node["class_type"] for node in graph.values()} - set(nodes):
        partners = unknown <= partner_classes()
        what = "partner nodes" if partners else "classes of node packs, or none at all"
        raise FailedError(f"{what}: {', '.join(sorted(unknown))}")
    needed = set()
    for node in graph.values():
        if node["class_type"] in SEVERAL_ENCODERS:
            one = {"clip_name": "one.safetensors", "type": "stable_diffusion"}
            node |= {"class_type": "CLIPLoader", "inputs": one}
        known = nodes.get(node["class_type"])
        assert known is not None
        for model in known.models(node["inputs"]):
            name, where = node["inputs"].get(model.name), model.model_folder[1]
            if not isinstance(name, str) or name in (model.choices or ()):
                continue
            if where in STAND_INS:  # few names, so that ComfyUI loads them once for many templates
                file = stand_ins / f"{where}-{kind}.safetensors"
                file = file if file.exists() else stand_ins / f"{where}.safetensors"
                link(folder / "models" / where / file.name, file)
                node["inputs"][model.name] = file.name
            else:
                needed.add(f"{where}: {name}")
    if needed:
        raise FailedError(f"models: {', '.join(sorted(needed))}")
    for name in file_names_in(graph):
        put(folder / "input" / name)
    for node in graph.values():
        for name, value in node["inputs"].items():
            most, known = SMALLER.get(name), nodes.get(node["class_type"])
            if most is not None and isinstance(value, (int, float)) and value > most:
                declared = known and known.declared_input(name, node["inputs"])
                least = declared.options.get("min") if declared else None
                node["inputs"][name] = max(most, least or 0)
    return graph


@lru_cache
def partner_classes() -> set[str]:
    """Return the names in the code of ComfyUI's partner nodes, those of its classes among them."""
    files = (comfyui_tree()[0] / "comfy_api_nodes").rglob("*.py")
    return {name for file in files for name in re.findall(r"\w+", file.read_text())}


def link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(to)


def put(path: Path) -> None:
    """Make an input file: a picture, sound or video."""
    if path.exists() or "safetensors" in path.suffix:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(path.name)
    if is_picture(path.name):
        picture = Image.frombytes("RGB", (16, 16), noise.randbytes(768)).resize((SIDE, SIDE))
        picture.save(path)
    elif (media_type(path.name) or "").startswith("audio/"):
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(noise.randbytes(32000))
    elif (media_type(path.name) or "").startswith("video/"):
        with av.open(path, "w") as video:
            stream = video.add_stream("mpeg4", rate=8)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
            for _ in range(8):
                picture = Image.frombytes("RGB", (16, 16), noise.randbytes(768))
                frame = av.VideoFrame.from_image(picture.resize((SIDE, SIDE)))
                video.mux(stream.encode(frame))
            video.mux(stream.encode())


# -- the table ---------------------------------------------------------------------------------


def attempt(server: ComfyUIServer, graph: Graph, longest: float) -> Contents:
    """Execute a prompt; return what it makes, or under an empty name why it failed."""
    try:
        return execute(server, graph, longest)
    except (FailedError, OSError) as error:
        if server.has_ended():
            server.restart()
        return {"": str(error).strip().partition("\n")[0]}


def passes(
    folder: Path, graphs: dict[str, list[Graph]], longest: float, minutes: float
) -> Iterator[tuple[str, str, Contents]]:
    """Yield each way of executing the templates, the name of one, and what was made.

    Those that fail in the first way are executed no further. The quickest ones come first.
    """
    times, good = dict[str, float](), dict[str, Graph]()
    server, other = start(folder), None
    latest = time.monotonic() + minutes * 60
    try:
        for name, kinds in sorted(graphs.items(), key=lambda pair: len(pair[1][0])):
            if time.monotonic() > latest:
                break
            for graph in kinds:
                begun, found = processor_time(server.pid), attempt(server, graph, longest)
                if found and "" not in found:
                    times[name], good[name] = processor_time(server.pid) - begun, graph
                if not found or "" not in found or TOO_LONG in found[""]:
                    break
            yield FIRST, name, found
        names = sorted(good, key=times.__getitem__)
        free(server)
        for name in names:
            yield "again, with empty caches", name, attempt(server, good[name], LONGEST)
        server.restart()
        for name in names:
            yield "after a restart", name, attempt(server, good[name], LONGEST)
        server.kill()
        for flags in FLAGS:
            other = start(folder, flags)
            for name in names[:: max(len(names) // SAMPLE, 1)]:
                yield flags, name, attempt(other, good[name], LONGEST)
            other.kill()
        server.start()
        for name in reversed(names):
            yield "in another order", name, attempt(server, good[name], LONGEST)
        free(server)
        other = start(folder)
        with ThreadPoolExecutor(2) as pool:
            for name in names:
                works = [pool.submit(attempt, s, good[name], LONGEST) for s in (server, other)]
                yield "two at the same time", name, works[0].result()
                yield "the second of them", name, works[1].result()
    finally:
        server.kill()
        if other is not None:
            other.kill()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="the names of templates")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of a first run")
    parser.add_argument("--minutes", type=float, default=600.0, help="of all first runs")
    given = parser.parse_args()
    os.nice(10)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    tree, python = comfyui_tree()
    with tempfile.TemporaryDirectory() as scratch:
        folder, stand_ins = Path(scratch, "base"), Path(scratch, "stand-ins")
        stand_ins.mkdir()
        script = str(Path(__file__).with_name("stand_ins.py"))
        subprocess.run([str(python), script, str(stand_ins)], cwd=tree, check=True)
        server = start(folder)
        try:
            nodes = NodeDefinitions(ask(f"{server.url}/object_info"), version=comfyui_version())
            index = ask(f"{server.url}/templates/index.json")
            names = [row["name"] for group in index for row in group["templates"]]
            names = [each for each in dict.fromkeys(names) if not given.only or each in given.only]
            graphs, why = {}, {}
            for name in names:
                try:
                    path = urllib.parse.quote(f"/templates/{name}.json")
                    ui = ask(f"{server.url}{path}")
                    found = [prepared(ui, nodes, folder, stand_ins, kind) for kind in KINDS]
                    graphs[name] = found[:1] if found[0] == found[1] else found
                except (FailedError, OSError) as error:
                    why[name] = str(error)
        finally:
            server.kill()
        report(names, graphs, why, passes(folder, graphs, given.longest, given.minutes))


def report(
    names: list[str],
    graphs: dict[str, list[Graph]],
    why: dict[str, str],
    made: Iterator[tuple[str, str, Contents]],
) -> None:
    reasons = collections.Counter(text.partition(":")[0] for text in why.values())
    print(
        f"{len(names)} templates of ComfyUI {comfyui_version()}: {len(graphs)} can be executed here"
    )
    for reason, count in reasons.most_common():
        print(f"- {count} cannot: {reason}")
    lacking = (text.partition(": ")[2] for text in why.values() if text.startswith("models: "))
    folders = collections.Counter(
        folder
        for text in lacking
        for folder in {each.partition(":")[0] for each in text.split(", ")}
    )
    for folder, count in folders.most_common():
        print(f"  - {count} of these need a model in {folder}")
    first: dict[str, Contents] = {}
    rows = collections.defaultdict[str, list[bool]](list)
    differ = collections.defaultdict[str, list[str]](list)
    tried = 0
    try:
        for way, name, found in made:
            failed = found.get("") if found else "it makes nothing"
            tried += way == FIRST
            if way == FIRST and not failed:
                first[name] = found
            elif way == FIRST:
                print(f"- {name}: {failed}", flush=True)
            else:
                rows[way].append(found == first[name])
                if found != first[name]:
                    differ[way].append(name)
                    print(f"{way}: {name}: {failed or 'other outputs'}", file=sys.stderr)
    finally:
        print(f"\n{tried} were tried, and {len(first)} executed: {', '.join(first)}\n")
        print("| executed | identical | differ |\n|---|---|---|")
        for way, same in rows.items():
            print(f"| {way} | {sum(same)} of {len(same)} | {', '.join(differ[way])} |", flush=True)


if __name__ == "__main__":
    main()
