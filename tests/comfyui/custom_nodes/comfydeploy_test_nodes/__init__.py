"""Small nodes for the tests: slow ones, failing ones, and ones that show progress; and routes.

Every node has the input ``anything`` (optional, any type), so that nodes can be chained. A new
value of the input ``token`` makes ComfyUI execute a node whose outputs it would otherwise take from
its cache.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import threading
import time
from base64 import b64decode
from pathlib import Path
from typing import ClassVar

import folder_paths
import torch
from aiohttp import web
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from server import PromptServer


class AnyType(str):
    """A type name that is equal to every other one in ComfyUI's check."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")


SPEED = float(os.environ.get("COMFYDEPLOY_TEST_SPEED", "1"))
"""How many times as fast as another ComfyUI this one is, as far as nodes that wait show it."""


def sleep(seconds: float) -> None:
    """Sleep, but let ComfyUI interrupt the node."""
    end = time.monotonic() + seconds / SPEED
    while True:
        throw_exception_if_processing_interrupted()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.02))


class TestNode:
    """Base of the nodes; a subclass adds its inputs to ``INPUTS``."""

    INPUTS: ClassVar[dict[str, tuple]] = {}
    RETURN_TYPES: tuple[str, ...] = (ANY,)
    FUNCTION = "run"
    CATEGORY = "comfydeploy tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the name that ComfyUI calls
        return {
            "required": dict(cls.INPUTS),
            "optional": {"anything": (ANY,), "token": ("STRING", {"default": ""})},
        }


class TestSleep(TestNode):
    """Waits, then returns ``anything``."""

    INPUTS: ClassVar = {
        "seconds": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 3600.0, "step": 0.01})
    }

    def run(self, seconds, anything=None, token=""):
        sleep(seconds)
        return (anything,)


class TestProgress(TestNode):
    """Counts to ``steps``, ``delay`` seconds apart, and reports each step."""

    INPUTS: ClassVar = {
        "steps": ("INT", {"default": 4, "min": 1, "max": 1_000_000}),
        "delay": ("FLOAT", {"default": 0.05, "min": 0.0, "max": 60.0, "step": 0.001}),
    }

    def run(self, steps, delay, anything=None, token=""):
        bar = ProgressBar(steps)
        for step in range(steps):
            sleep(delay)
            bar.update_absolute(step + 1)
        return (anything,)


class TestPreview(TestNode):
    """As TestProgress, with a preview of ``size`` x ``size`` pixels at each step."""

    INPUTS: ClassVar = {
        **TestProgress.INPUTS,
        "size": ("INT", {"default": 64, "min": 1, "max": 4096}),
    }
    RETURN_TYPES = ("IMAGE",)

    def run(self, steps, delay, size, anything=None, token=""):
        bar = ProgressBar(steps)
        for step in range(steps):
            sleep(delay)
            image = Image.new("RGB", (size, size), (255 * (step + 1) // steps, 64, 128))
            bar.update_absolute(step + 1, steps, ("JPEG", image, size))
        return (torch.full((1, size, size, 3), 0.5),)


class TestHeldPreview(TestNode):
    """Reports ``at`` of ``steps`` at once, with a picture as preview, and waits until cancelled."""

    INPUTS: ClassVar = {
        "image": ("IMAGE",),
        "steps": ("INT", {"default": 20, "min": 1, "max": 1000}),
        "at": ("INT", {"default": 12, "min": 0, "max": 1000}),
    }
    RETURN_TYPES = ("IMAGE",)

    def run(self, image, steps, at, anything=None, token=""):
        pixels = (image[0].clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
        picture = Image.fromarray(pixels)
        ProgressBar(steps).update_absolute(at, steps, ("JPEG", picture, max(picture.size)))
        sleep(3600)
        return (image,)


class TestFail(TestNode):
    """Raises ValueError."""

    INPUTS: ClassVar = {"message": ("STRING", {"default": "failed on purpose"})}

    def run(self, message, anything=None, token=""):
        raise ValueError(message)


class TestFailIf(TestNode):
    """Raises ValueError if ``condition`` is true, otherwise returns ``anything``."""

    INPUTS: ClassVar = {"condition": ("BOOLEAN", {"default": False}), **TestFail.INPUTS}

    def run(self, condition, message, anything=None, token=""):
        if condition:
            raise ValueError(message)
        return (anything,)


class TestText(TestNode):
    """An output node that shows ``text``."""

    INPUTS: ClassVar = {"text": ("STRING", {"default": "", "multiline": True})}
    RETURN_TYPES = ("STRING",)
    OUTPUT_NODE = True

    def run(self, text, anything=None, token=""):
        return {"ui": {"text": (text,)}, "result": (text,)}


class TestLongText(TestNode):
    """An output node that shows ``length`` characters."""

    INPUTS: ClassVar = {"length": ("INT", {"default": 1000, "min": 0, "max": 2**30})}
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, length, anything=None, token=""):
        return {"ui": {"text": ("x" * length,)}}


class TestPartner(TestNode):
    """An output node that receives the keys of a Comfy account, as partner nodes do.

    It shows their SHA-256; with ``fail`` it raises an exception whose text contains them.
    """

    INPUTS: ClassVar = {
        "fail": ("BOOLEAN", {"default": False}),
        "show": ("BOOLEAN", {"default": False}),
    }
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the name that ComfyUI calls
        hidden = {"key": "API_KEY_COMFY_ORG", "auth": "AUTH_TOKEN_COMFY_ORG"}
        return {**super().INPUT_TYPES(), "hidden": hidden}

    def run(self, fail, show, anything=None, token="", key=None, auth=None):
        if fail:
            raise ValueError(f"401 for the key {key} and the token {auth}")
        keys = (f"{key}", f"{auth}")
        hashes = tuple(hashlib.sha256(one.encode()).hexdigest() for one in keys)
        return {"ui": {"text": keys if show else hashes}}


class TestSeed(TestNode):
    """An output node that shows its seed."""

    INPUTS: ClassVar = {
        "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True})
    }
    RETURN_TYPES = ("INT",)
    OUTPUT_NODE = True

    def run(self, seed, anything=None, token=""):
        return {"ui": {"text": (str(seed),)}, "result": (seed,)}


class TestCrash(TestNode):
    """Ends the whole ComfyUI at once, as an error of a driver does."""

    INPUTS: ClassVar = {"exit_code": ("INT", {"default": 70, "min": 0, "max": 255})}

    def run(self, exit_code, anything=None, token=""):
        os._exit(exit_code)


class TestExit(TestNode):
    """Raises SystemExit, which ends the thread that executes prompts, but not ComfyUI."""

    def run(self, anything=None, token=""):
        raise SystemExit(1)


class TestStuck(TestNode):
    """Waits for ever without doing anything, and cannot be interrupted."""

    def run(self, anything=None, token=""):
        threading.Event().wait()


class TestBlock(TestNode):
    """Blocks the nodes after its output, with ``message``."""

    INPUTS: ClassVar = {"message": ("STRING", {"default": "blocked on purpose"})}

    def run(self, message, anything=None, token=""):
        return (ExecutionBlocker(message),)


class TestUnstable(TestNode):
    """Makes a picture whose upper half is different each time."""

    INPUTS: ClassVar = {"height": ("INT", {"default": 16, "min": 2, "max": 1024})}
    RETURN_TYPES = ("IMAGE",)

    def run(self, height, anything=None, token=""):
        picture = torch.zeros((1, height, 16, 3))
        picture[:, : height // 2] = torch.rand((height // 2, 16, 3))
        return (picture,)


class TestLoadSound(TestNode):
    """Shows the size of a sound in the input folder; ComfyUI's own loader needs torchaudio."""

    INPUTS: ClassVar = {"audio": ([], {"audio_upload": True})}
    OUTPUT_NODE = True

    @classmethod
    def VALIDATE_INPUTS(cls, audio):  # noqa: N802 - the name that ComfyUI calls
        return folder_paths.exists_annotated_filepath(audio) or f"Invalid audio file: {audio}"

    def run(self, audio, anything=None, token=""):
        size = Path(folder_paths.get_annotated_filepath(audio)).stat().st_size
        return {"ui": {"text": (f"{audio}: {size} bytes",)}, "result": (audio,)}


class TestOutput(TestNode):
    """An output node that writes files (name: base64) and returns any output, both from JSON."""

    INPUTS: ClassVar = {
        "files": ("STRING", {"default": "{}", "multiline": True}),
        "output": ("STRING", {"default": "{}", "multiline": True}),
    }
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, files, output, anything=None, token=""):
        for name, content in json.loads(files).items():
            Path(folder_paths.get_output_directory(), name).write_bytes(b64decode(content))
        return {"ui": json.loads(output)}


class TestOptions(TestNode):
    """An output node with inputs of newer ComfyUIs; it shows the inputs that it received."""

    OUTPUT_NODE = True
    INPUTS: ClassVar = {
        "mode": (
            "COMFY_DYNAMICCOMBO_V3",
            {
                "options": [
                    {
                        "key": "small",
                        "inputs": {"required": {"size": ["INT", {"default": 64, "max": 128}]}},
                    },
                    {
                        "key": "large",
                        "inputs": {
                            "required": {
                                "size": ["INT", {"default": 1024}],
                                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                                "note": ["STRING", {"default": "hello"}],
                            }
                        },
                    },
                ]
            },
        ),
        "values": (
            "COMFY_AUTOGROW_V3",
            {
                "template": {
                    "input": {"required": {"value": ["STRING", {}]}},
                    "names": ["a", "b", "c"],
                    "min": 1,
                }
            },
        ),
        "pictures": (
            "COMFY_AUTOGROW_V3",
            {
                "template": {
                    "input": {"required": {"picture": ["IMAGE", {}]}},
                    "prefix": "picture",
                    "min": 0,
                    "max": 2,
                }
            },
        ),
    }

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the name that ComfyUI calls
        inputs = super().INPUT_TYPES()
        declared = {"required": {}, "optional": {**cls.INPUTS, **inputs["optional"]}}
        return {**declared, "hidden": {"prompt": "PROMPT", "own_id": "UNIQUE_ID"}}

    def run(self, prompt=None, own_id=None, **_):
        sent = json.dumps(prompt[own_id]["inputs"], sort_keys=True)
        return {"ui": {"text": (sent,)}, "result": (sent,)}


class TestNewInputs(TestOptions):
    """The same with inputs of ComfyUI 0.38: a list from a route, and the edit of a video."""

    INPUTS: ClassVar = {
        "voice": (
            "COMBO",
            {
                "remote_combo": {
                    "route": "/comfydeploy_test/answer",
                    "query_params": {"body": '{"all": [{"id": "v1", "who": {"name": "Ada"}}]}'},
                    "response_key": "all",
                    "item_schema": {"value_field": "id", "label_field": "{who.name} ({id})"},
                }
            },
        ),
        "missing": ("COMBO", {"remote": {"route": "/comfydeploy_test/nowhere"}}),
        "film": ("COMBO", {"options": [], "video_upload": True}),
        "edit": ("VIDEO_EDIT", {"features": ["trim", "crop"]}),
    }

    @classmethod
    def VALIDATE_INPUTS(cls, voice, missing, film):  # noqa: N802 - the name that ComfyUI calls
        return True


@PromptServer.instance.routes.route("*", "/comfydeploy_test/echo")
async def echo(request):
    """Return a description of the request."""
    facts = {
        "method": request.method,
        "url": request.raw_path,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "body": (await request.read()).decode(),
    }
    return web.json_response(facts, headers={"X-Test": "yes", "Set-Cookie": "_xsrf=theirs"})


@PromptServer.instance.routes.route("*", r"/comfydeploy_test/answer{ending:(\.css|\.js)?}")
async def answer(request):
    """Reply with the status, the body and the headers in the query."""
    headers = [pair.split(": ", 1) for pair in request.query.getall("header", [])]
    body = request.query.get("body", "").encode()
    response = web.Response(status=int(request.query.get("status", 200)), body=body)
    if "Content-Type" in response.headers:
        del response.headers["Content-Type"]
    for name, value in headers:
        response.headers.add(name, value)
    return response


@PromptServer.instance.routes.get("/comfydeploy_test/broken")
async def broken(request):
    """Close the connection in the middle of a response."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half of it")
    request.transport.close()
    return response


# Some packs register a folder of models that is not below models/.
folder_paths.folder_names_and_paths["comfydeploy_test"] = (
    [str(Path(folder_paths.base_path) / "elsewhere")],
    {".safetensors"},
)

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestSleep,
        TestUnstable,
        TestProgress,
        TestPreview,
        TestHeldPreview,
        TestFail,
        TestFailIf,
        TestText,
        TestLongText,
        TestPartner,
        TestSeed,
        TestCrash,
        TestExit,
        TestStuck,
        TestBlock,
        TestLoadSound,
        TestOutput,
        TestOptions,
        TestNewInputs,
    )
}

# prestartup_script.py has made these preparations; what the start has made remains
if not hasattr(sys.modules["torch._dynamo.utils"], "__file__"):
    del sys.modules["torch._dynamo.utils"]
gc.freeze()
gc.enable()
