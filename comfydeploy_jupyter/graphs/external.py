"""External-input nodes: their classes, and the inputs that hold the values of users.

The nodes (``ComfyUIDeployExternal…``) come with the ComfyUI Deploy node pack. What each class reads
and returns was taken from version 2.3.10 of that pack; the route contract decides where the two
differ.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequestError
from .formats import (
    AnyGraph,
    Graph,
    Node,
    class_of,
    copy_graph,
    inputs_of,
    is_link,
    label_of,
    text_of,
)
from .seeds import draw_external_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

EXTERNAL_PREFIX = "ComfyUIDeployExternal"

KINDS: Mapping[str, str] = MappingProxyType(
    {
        f"{EXTERNAL_PREFIX}{name}": kind
        for name, kind in {
            "Text": "text",
            "TextAny": "text",
            "Enum": "combo",
            "Number": "float",
            "NumberSlider": "float",
            "Slider": "float",
            "NumberInt": "int",
            "NumberSliderInt": "int",
            "Boolean": "bool",
            "Seed": "seed",
            "Checkpoint": "checkpoint",
            "Lora": "lora",
            "FaceModel": "face_model",
            "Image": "image",
            "ImageAlpha": "image_alpha",
            "ImageBatch": "image_batch",
            "Video": "video",
            "Vid": "video_path",
            "Audio": "audio",
            "EXR": "exr",
            "File": "file",
        }.items()
    }
)
"""External class -> kind of value."""

FIELD_BY_KIND = {
    "lora": "lora_url",
    "face_model": "face_model_url",
    "image_batch": "images",
    "audio": "audio_file",
    "exr": "exr_file",
    "file": "file_url",
}
"""Kind -> the input that the class reads, if that is not ``default_value`` or ``input_id``."""

_READ_FROM_INPUT_ID = ("image", "image_alpha", "video", "video_path")

EXTERNAL_VALUE_FIELD: Mapping[str, str] = MappingProxyType(
    {
        class_type: FIELD_BY_KIND.get(kind, "default_value")
        for class_type, kind in KINDS.items()
        if kind not in _READ_FROM_INPUT_ID
    }
)
"""External class -> the input that it reads. Images and videos read ``input_id`` and are absent."""

NAME_FIELD = {
    "face_model": "default_face_model_name",
    "video": "default_video",
    "video_path": "default_value",
}
"""Kind -> the input in which the pack looks for a name; in the others it looks for URLs only."""

_DEFAULT_FIELD = {**NAME_FIELD, "lora": "default_lora_name", "image": "default_value_url"}
_FURTHER_DEFAULTS = ("default_value", "default_value_url")
Target: TypeAlias = tuple[str, str]
"""Node id and input name."""


def external_values(class_type: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the inputs of an external-input node that are set to the value of a user."""
    # A list, or one image alone, becomes the JSON text that an image batch reads. The name of a
    # file or model is also put into the input in which the class looks for names.
    kind = KINDS.get(class_type)
    if kind == "image_batch":
        value = _as_image_list(value)
    elif kind == "bool" and isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    elif isinstance(value, list):
        value = {"__value__": value}
    yield "input_id", value
    if class_type in EXTERNAL_VALUE_FIELD:
        yield EXTERNAL_VALUE_FIELD[class_type], value
    if kind in NAME_FIELD and isinstance(value, str) and not is_url(value):
        yield NAME_FIELD[kind], value


def _as_image_list(value: object) -> object:
    """Return the images of a batch as the node reads them: a JSON list in a string."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = [value] if value else []
    return json.dumps(value) if isinstance(value, list) else value


def is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://", "data:"))


def is_external_input(node: Mapping[str, Any]) -> bool:
    """Return whether a node is of a known external class and has an ``input_id``."""
    return class_of(node) in KINDS and isinstance(inputs_of(node).get("input_id"), str)


def value_field(class_type: str) -> str:
    """Return the input of an external class that holds the value of the user."""
    return EXTERNAL_VALUE_FIELD.get(class_type, "input_id")


def default_field(class_type: str) -> str:
    """Return the input of an external class that holds its default."""
    kind = KINDS[class_type]
    return _DEFAULT_FIELD.get(kind) or EXTERNAL_VALUE_FIELD.get(class_type, "default_value")


def default_of(node: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the value that is used if the user sets none, and whether anything is used then."""
    # That may be a link to another node, which is no value.
    inputs, field = inputs_of(node), default_field(class_of(node))
    default = inputs.get(field)
    used = any(inputs.get(name) not in (None, "") for name in (field, *_FURTHER_DEFAULTS))
    return None if isinstance(default, list) else default, used


def enum_options(inputs: Mapping[str, Any]) -> list[Any] | None:
    """Read the choices of an External Enum: a JSON list in a string, as the pack's editor does."""
    try:
        options = json.loads(inputs.get("options") or "")
    except (TypeError, ValueError, RecursionError):
        return None
    return options if isinstance(options, list) and options else None


# -- running the nodes on a ComfyUI that does not have the node pack ---------------------------

_PATH_KINDS = ("video_path", "file")
# Output slot -> the input whose link replaces the output if there is no file.
_DEFAULT_LINKS = {
    "image": {0: "default_value"},
    "image_alpha": {0: "default_value"},
    "image_batch": {0: "default_value"},
    "audio": {0: "default_value"},
    "exr": {0: "default_image", 1: "default_mask"},
}
_VIDEO_DEFAULTS = {
    "force_rate": 0,
    "force_size": "Disabled",
    "frame_load_cap": 0,
    "skip_first_frames": 0,
    "select_every_nth": 1,
}
_NEEDS_PACK = "needs the ComfyUI Deploy node pack, which this ComfyUI does not have"


@dataclass(frozen=True)
class FileNeed:
    """A file that must be in ComfyUI before `place_files` can replace a node by a loader."""

    node_id: str  # the node that loads it
    # the key of ``inputs`` that set it, or the node's ``input_id``; for error messages
    input_id: str
    kind: str  # image, image_alpha, image_batch, video, video_path, audio or file
    # URLs, ``data:`` URLs, paths or names in ``input/``; exactly one unless it is an image batch,
    # where a source may also be the URL of a ``.zip`` with images
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Inlined:
    """A graph that needs no node pack after `place_files`, and the files that this needs."""

    graph: Graph
    files: list[FileNeed]


def inline_external(
    graph: AnyGraph,
    known_classes: Collection[str],
    *,
    given: Mapping[Target, str] = MappingProxyType({}),
    rng: random.Random | None = None,
) -> Inlined:
    """Replace the external-input nodes whose classes a ComfyUI does not have."""
    # Each link to a node that has a value is replaced by the value that the node would return, or
    # by the link to its ``default_value``, and the node is removed. Nodes that load a file stay in
    # the graph until `place_files` replaces them, and are listed in ``files``. If such a node has
    # no file, links to it are replaced by the link to its default. Nodes that no link leads to need
    # no value. ``given`` is `AppliedInputs.given`: an ``input_id`` in it is a value, any other a
    # name.
    resolver = _Resolver(graph, known_classes, given, rng or random.Random())
    copy = copy_graph(graph)
    result = {node_id: node for node_id, node in copy.items() if node_id not in resolver.externals}
    for node in result.values():
        inputs = inputs_of(node)
        inputs.update({n: resolver.resolve(v) for n, v in inputs.items() if is_link(v)})
    files = resolver.needs
    return Inlined({**result, **{node_id: copy[node_id] for node_id in files}}, [*files.values()])


class _Resolver:
    """Finds the values of links to external-input nodes, for each output once."""

    def __init__(
        self,
        graph: AnyGraph,
        known_classes: Collection[str],
        given: Mapping[Target, str],
        rng: random.Random,
    ) -> None:
        self.externals = {
            node_id: kind
            for node_id, node in graph.items()
            if (kind := KINDS.get(class_of(node))) and class_of(node) not in known_classes
        }
        self.needs: dict[str, FileNeed] = {}
        self._graph = graph
        self._given = given
        self._rng = rng
        self._values: dict[tuple[str, Any], Any] = {}

    def resolve(self, value: Any) -> Any:
        """Follow a link through external nodes to a value, another node or a file to place."""
        seen = set()
        while is_link(value) and value[0] in self.externals:
            node_id, slot = value
            if node_id in self.needs:
                return value
            if (node_id, slot) in seen:
                raise InvalidRequestError.of_field(
                    "workflow_api", f"node {label_of(self._graph, node_id)} is linked to itself"
                )
            seen.add((node_id, slot))
            if (node_id, slot) not in self._values:
                self._values[node_id, slot] = self._read(node_id, slot)
            found = self._values[node_id, slot]
            if found is None:
                return value
            value = found
        return value

    def _read(self, node_id: str, slot: Any) -> Any:
        """Return the value of an output, a link, or None for a file that must be placed first."""
        node, kind = self._graph[node_id], self.externals[node_id]
        inputs = inputs_of(node)
        name = self._given.get((node_id, "input_id")) or text_of(inputs.get("input_id")) or node_id
        if kind in _VALUE_READERS:
            try:
                value = _VALUE_READERS[kind](inputs, class_of(node), self._rng)
            except ValueError as error:
                raise InvalidRequestError.of_field(f"inputs.{name}", str(error)) from None
            if value is None:
                raise _no_value(name)
            if kind in ("checkpoint", "lora", "face_model") and is_url(value):
                instead = "download it with volume/model first and give its name"
                problem = f"a model given by URL {_NEEDS_PACK}; {instead}"
                raise InvalidRequestError.of_field(f"inputs.{name}", problem)
            return value
        sources = self._sources(node_id, kind, name)
        if sources and kind == "exr":
            problem = f"loading an EXR file {_NEEDS_PACK}"
            raise InvalidRequestError.of_field(f"inputs.{name}", problem)
        if sources:
            for option, wanted in _VIDEO_DEFAULTS.items() if kind == "video" else ():
                if inputs.get(option, wanted) != wanted:
                    raise _unavailable(option, self._graph, node_id)
            self.needs[node_id] = FileNeed(node_id, name, kind, tuple(sources))
            return None
        if kind == "file":
            return ""
        default = inputs.get(_DEFAULT_LINKS.get(kind, {}).get(slot, ""))
        if not is_link(default):
            raise _no_value(name)
        return default

    def _sources(self, node_id: str, kind: str, name: str) -> list[str]:
        """Return the files that a node loads; an empty list if it uses its default."""
        inputs = inputs_of(self._graph[node_id])
        input_id = inputs.get("input_id")
        field = FIELD_BY_KIND.get(kind)
        candidates: list[Any] = [inputs.get(field)] if field else []
        if not field and ((node_id, "input_id") in self._given or is_url(input_id)):
            candidates.append(input_id)
        if kind in ("image", "video") and is_url(inputs.get("default_value_url")):
            candidates.append(inputs["default_value_url"])
        if kind in ("video", "video_path"):
            candidates.append(inputs.get(NAME_FIELD[kind]))
        value = next((c for c in candidates if c not in (None, "")), None)
        if kind == "image_batch" and value is not None:
            return _image_list(value, name)
        if value is not None and not isinstance(value, str):
            what = "must be a URL, a data: URL, a path or the name of an input file"
            raise InvalidRequestError.of_field(f"inputs.{name}", what)
        return [value] if value else []


def _no_value(name: str) -> InvalidRequestError:
    return InvalidRequestError.of_field(
        f"inputs.{name}", "no value is given and the workflow has no default for it"
    )


def _image_list(value: object, name: str) -> list[str]:
    try:
        images = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        images = None
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise InvalidRequestError.of_field(
            f"inputs.{name}", "must be a list of images, each a URL, a data: URL, a path or a name"
        )
    return images


def _unavailable(what: str, graph: AnyGraph, node_id: str) -> InvalidRequestError:
    label = label_of(graph, node_id)  # reads all nodes
    problem = f"{what} of the External Video node {label} {_NEEDS_PACK}"
    return InvalidRequestError.of_field("workflow_api", problem)


_Reader: TypeAlias = "Callable[[Mapping[str, Any], str, random.Random], Any]"


def _read_as(convert: Callable[[Any], Any]) -> _Reader:
    def read(inputs: Mapping[str, Any], class_type: str, rng: random.Random) -> Any:
        value = inputs.get("default_value")
        return value if value is None or is_link(value) else convert(value)

    return read


def _read_number(inputs: Mapping[str, Any], class_type: str, rng: random.Random) -> Any:
    """Read a number as the pack does: a numeric ``input_id`` (of sliders: in range) goes first."""
    integer = KINDS[class_type] == "int"
    default = inputs.get("default_value")
    number = _finite(inputs.get("input_id"), integer)
    if class_type.endswith("NumberInt") and number is not None:
        number = number if str(inputs["input_id"]).strip().isdigit() else None
    if "Slider" in class_type and number is not None:
        low = _finite(inputs.get("min_value", 0), integer)
        high = _finite(inputs.get("max_value", 10 if integer else 1), integer)
        number = round(number) if integer else number
        if low is None or high is None or not (int(low) if integer else low) <= number <= high:
            number = None
    if number is None:
        if default is None or is_link(default):
            return default
        number = _finite(default, integer)
    if number is None:
        raise ValueError(f"must be a number, not {default!r}")
    return int(number) if integer else number


def _read_seed(inputs: Mapping[str, Any], class_type: str, rng: random.Random) -> Any:
    default = inputs.get("default_value")
    seed = default if is_link(default) else draw_external_seed(inputs, rng)
    if seed is None:
        raise ValueError(f"must be an integer, not {default!r}")
    return seed


def _read_name(field: str) -> _Reader:
    def read(inputs: Mapping[str, Any], class_type: str, rng: random.Random) -> Any:
        return inputs.get(field) or inputs.get(default_field(class_type)) or None

    return read


_VALUE_READERS: Mapping[str, _Reader] = {
    "text": _read_as(str),
    "combo": _read_as(str),
    "bool": _read_as(bool),
    "int": _read_number,
    "float": _read_number,
    "seed": _read_seed,
    "checkpoint": _read_name("default_value"),
    "lora": _read_name("lora_url"),
    "face_model": _read_name("face_model_url"),
}


def _finite(value: object, integer: bool) -> float | None:
    """Return a finite number, also from text, integers exactly; None for other values."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    exact = integer and (isinstance(value, int) or str(value).strip().isdigit())
    try:
        number = int(value) if exact else float(value)
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def place_files(graph: AnyGraph, placed: Mapping[str, str | Sequence[str]]) -> Graph:
    """Replace external-input nodes by ComfyUI's own loaders, once their files are there.

    A loader has the id of the node that it replaces, so links to it stay valid. Further nodes that
    a loader needs get ids such as ``"12:1"``. ``placed`` has by node id the name of the file in
    ``input/``, a list of names for an image batch, or the absolute path for paths.

    ============  ==============================================================================
    image         ``LoadImage``, RGB as the external node gives
    image_alpha   ``LoadImage``, ``JoinImageWithAlpha``: four channels, alpha 1 where there is none
    image_batch   one ``LoadImage`` each, ``ImageBatch``: all take the first one's size
    video         ``LoadVideo``, ``GetVideoComponents``, ``GetImageSize`` for the frame count
    audio         ``LoadAudio``
    video_path    no node: the path replaces the links
    file          no node: the path replaces the links
    ============  ==============================================================================
    """
    result = copy_graph(graph)
    for node_id, files in placed.items():
        external = result.pop(node_id)
        kind = KINDS[class_of(external)]
        names = [files] if isinstance(files, str) else list(files)
        if not names:
            label = label_of({**result, node_id: external}, node_id)
            raise InvalidRequestError.of_field("inputs", f"no image is given for node {label}")
        if kind in _PATH_KINDS:
            _relink(result, node_id, {0: names[0]})
            continue
        add = partial(_add, result, node_id)
        if kind == "video":
            loader = _node("GetVideoComponents", video=add("LoadVideo", file=names[0]))
            _relink(result, node_id, _video_outputs(result, node_id, external, add))
        elif kind == "audio":
            loader = _node("LoadAudio", audio=names[0])
        elif kind == "image_alpha":
            image = add("LoadImage", image=names[0])
            loader = _node("JoinImageWithAlpha", image=image, alpha=[image[0], 1])
        elif len(names) == 1:
            loader = _node("LoadImage", image=names[0])
        else:
            images = [add("LoadImage", image=name) for name in names]
            while len(images) > 2:  # a tree of nodes, since ComfyUI cannot run a long chain
                pairs = zip(images[::2], images[1::2], strict=False)
                last = images[-1:] if len(images) % 2 else []
                images = [*(add("ImageBatch", image1=a, image2=b) for a, b in pairs), *last]
            loader = _node("ImageBatch", image1=images[0], image2=images[1])
        if "_meta" in external:
            loader["_meta"] = external["_meta"]
        result[node_id] = loader
    return result


def _node(class_type: str, **inputs: Any) -> Node:
    return {"class_type": class_type, "inputs": inputs}


def _add(graph: Graph, beside: str, class_type: str, **inputs: Any) -> list[Any]:
    """Add a helper node and return the link to its first output."""
    node_id = next(i for n in count(1) if (i := f"{beside}:{n}") not in graph)
    graph[node_id] = _node(class_type, **inputs)
    return [node_id, 0]


def _video_outputs(
    graph: Graph, node_id: str, external: Node, add: Callable[..., list[Any]]
) -> dict[int, list[Any]]:
    """Return the links that replace those to each output slot of External Video."""
    read = {
        value[1]
        for node in graph.values()
        for value in inputs_of(node).values()
        if is_link(value) and value[0] == node_id
    }
    if read - {0, 1, 2}:
        raise _unavailable("video_info and LATENT", {**graph, node_id: external}, node_id)
    outputs = {0: [node_id, 0], 2: [node_id, 1]}
    if 1 in read:
        outputs[1] = [add("GetImageSize", image=[node_id, 0])[0], 2]
    return outputs


def _relink(graph: Graph, node_id: str, outputs: Mapping[int, Any]) -> None:
    for node in graph.values():
        inputs = inputs_of(node)
        for name, value in inputs.items():
            if is_link(value) and value[0] == node_id:
                inputs[name] = outputs.get(value[1], value)
