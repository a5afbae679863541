"""Which templates of a ComfyUI repeat bit for bit on this machine, and what breaks it.

    COMFYUI_TEST_PATH=.comfyui python -m benchmarks.repeatability [--only NAME ...] [--longest 20]

Each template that can run here is executed again with empty caches, in another order, after a
restart, with other caches, by two ComfyUIs at the same time, and with ``--fast``, and the decoded
contents are compared with those of the first run. There are no model files here: those of the
folders `STAND_INS` are small ones with random weights (`stand_ins.py`), with smaller pictures and
two steps. A template that takes longer than `--longest` seconds is executed no
further. Prints a table in Markdown.
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

if TYPE_CHECKING:
    from collections.abc import Iterable

Graph = dict[str, dict[str, Any]]
Contents = dict[str, str]  # hashes by the node and the place of an output
STAND_IN = "stand-in.safetensors"
STAND_INS = (
    *("checkpoints", "diffusion_models", "text_encoders", "vae", "controlnet", "upscale_models"),
    "loras",
)
SIDE = 64  # pixels of a picture
SMALLER = {"width": SIDE, "height": SIDE, "steps": 2, "megapixels": 0.01, "seconds": 2, "length": 9}
LONGEST = 120  # seconds of the second and further runs
FASTER = "--fp32-text-enc"  # on a CPU, texts in half precision take many seconds
FLAGS = ("--cache-lru 8", "--cache-none", "--fast", "--cache-classic", "--deterministic")


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
    server = ComfyUIServer(folder, args=[FASTER, *flags.split()])
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
    latest = time.monotonic() + longest
    while not (found := ask(f"{server.url}/history/{prompt_id}")):
        time.sleep(0.2)
        if time.monotonic() > latest:
            ask(f"{server.url}/interrupt", {})
            while ask(f"{server.url}/queue")["queue_running"]:
                time.sleep(0.2)
            raise FailedError(f"it takes more than {longest:g} s here")
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


def prepared(ui: Any, nodes: NodeDefinitions, folder: Path, stand_ins: Path) -> Graph:
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
        known = nodes.get(node["class_type"])
        assert known is not None
        models = known.models(node["inputs"])
        # Of several encoders in one node, each has another architecture.
        several = sum(each.model_folder[1] == "text_encoders" for each in models) > 1
        for model in models:
            name, where = node["inputs"].get(model.name), model.model_folder[1]
            if not isinstance(name, str) or name in (model.options or ()):
                continue
            is_one = where in STAND_INS and not (several and where == "text_encoders")
            if is_one:  # one name, so that ComfyUI loads it once for many templates
                link(folder / "models" / where / STAND_IN, stand_ins / f"{where}.safetensors")
                node["inputs"][model.name] = STAND_IN
            else:
                needed.add(f"{where}: {name}")
    if needed:
        raise FailedError(f"models: {', '.join(sorted(needed))}")
    for name in file_names_in(graph):
        put(folder / "input" / name)
    for node in graph.values():
        for name, value in node["inputs"].items():
            most = SMALLER.get(name)
            if most is not None and isinstance(value, (int, float)) and value > most:
                node["inputs"][name] = most
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


def all_of(
    server: ComfyUIServer, graphs: dict[str, Graph], longest: float = LONGEST
) -> dict[str, Contents]:
    found = {}
    for name, graph in graphs.items():
        try:
            found[name] = execute(server, graph, longest)
        except (FailedError, OSError) as error:
            found[name] = {"": f"{error}"}
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return found


def passes(
    folder: Path, graphs: dict[str, Graph], longest: float
) -> Iterable[tuple[str, dict[str, Contents]]]:
    """Yield each way of executing the templates, and what was made; the first one first.

    Those that fail at first, or take too long, are executed no further.
    """
    server = start(folder)
    try:
        first = all_of(server, graphs, longest)
        yield "first", first
        graphs = {name: graph for name, graph in graphs.items() if first[name].keys() - {""}}
        free(server)
        yield "again, empty caches", all_of(server, graphs)
        free(server)
        turned = all_of(server, dict(reversed(graphs.items())))
        yield "other order", turned
        yield "from the cache", all_of(server, graphs)
        server.restart()
        yield "after a restart", all_of(server, graphs)
        free(server)
        other = start(folder)
        try:
            with ThreadPoolExecutor(2) as pool:
                works = [pool.submit(all_of, each, graphs) for each in (server, other)]
                yield "two at the same time", works[0].result()
                yield "the second of them", works[1].result()
        finally:
            other.kill()
    finally:
        server.kill()
    for flags in FLAGS:
        server = start(folder, flags)
        try:
            yield flags, all_of(server, graphs)
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="the names of templates")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of a first run")
    given = parser.parse_args()
    os.nice(10)
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
                    graphs[name] = prepared(ui, nodes, folder, stand_ins)
                except (FailedError, OSError) as error:
                    why[name] = str(error)
        finally:
            server.kill()
        report(names, graphs, why, passes(folder, graphs, given.longest))


def report(
    names: list[str],
    graphs: dict[str, Graph],
    why: dict[str, str],
    made: Iterable[tuple[str, dict[str, Contents]]],
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
    rows = []
    for way, found in made:
        if not first:
            failed = {name: each[""] for name, each in found.items() if "" in each}
            first = {name: each for name, each in found.items() if each and name not in failed}
            for name, text in failed.items():
                print(f"- {name}: {text}")
            print(f"\n{len(first)} were executed: {', '.join(first)}\n", flush=True)
            continue
        differ = [name for name in first if found.get(name) != first[name]]
        for name in differ:
            print(f"{way}: {name}: {found[name].get('', 'other outputs')}", file=sys.stderr)
        rows.append((way, len(first) - len(differ), differ))
        print(f"{way}: {rows[-1][1]} of {len(first)}; {', '.join(differ)}", file=sys.stderr)
    print("| executed | identical | differ |\n|---|---|---|")
    for way, same, differ in rows:
        print(f"| {way} | {same} of {len(first)} | {', '.join(differ)} |")


if __name__ == "__main__":
    main()
