"""Workflows in the UI format, composed for the golden pairs, and the node classes they use.

`record_ui_to_api.py` beside this file loads each of them into ComfyUI's editor and records the
prompt that the editor would queue.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Spec = list[Any]
Raw = dict[str, Any]

DEFINITIONS: dict[str, Raw] = {}
CASES: dict[str, Callable[[], Raw]] = {}
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def case(compose: Callable[[], Raw]) -> Callable[[], Raw]:
    CASES[compose.__name__] = compose
    return compose


def define(
    name: str,
    required: dict[str, Spec] | None = None,
    optional: dict[str, Spec] | None = None,
    output: tuple[str, ...] = (),
    title: str = "",
    **more: Any,
) -> None:
    sections = {"required": required or {}, **({"optional": optional} if optional else {})}
    DEFINITIONS[name] = {
        "input": sections,
        "input_order": {section: list(inputs) for section, inputs in sections.items()},
        "output": list(output),
        "output_is_list": [False] * len(output),
        "output_name": list(output),
        "name": name,
        "display_name": title or name,
        "description": "",
        "python_module": "nodes",
        "category": "golden",
        "output_node": not output,
        **more,
    }


def socket(kind: str) -> Spec:
    return [kind, {}]


def whole(default: int = 0, low: int = 0, high: int = 100, **more: Any) -> Spec:
    return ["INT", {"default": default, "min": low, "max": high, **more}]


def real(default: float = 0.0, low: float = 0.0, high: float = 10.0, **more: Any) -> Spec:
    return ["FLOAT", {"default": default, "min": low, "max": high, **more}]


def words(default: str = "", **more: Any) -> Spec:
    return ["STRING", {"default": default, **more}]


def type_of(spec: Spec) -> str:
    return spec[0] if isinstance(spec[0], str) else "COMBO"


def inputs_of(class_type: str) -> dict[str, Spec]:
    sections = DEFINITIONS.get(class_type, {"input": {}})["input"]
    return {name: spec for inputs in sections.values() for name, spec in inputs.items()}


class Canvas:
    """Builds a graph."""

    def __init__(self) -> None:
        self.nodes: list[Raw] = []
        self.links: list[list[Any]] = []
        self.subgraphs: list[Raw] = []
        self.extra: Raw = {}

    def node(
        self,
        kind: str,
        values: Any = None,
        *,
        key: int | None = None,
        mode: int = 0,
        title: str | None = None,
        inputs: list[Raw] | None = None,
        outputs: list[Raw] | None = None,
        properties: Raw | None = None,
    ) -> Raw:
        number = len(self.nodes) + 1
        properties = {} if properties is None else properties
        if kind in DEFINITIONS:
            inputs = saved_sockets(kind) if inputs is None else inputs
            outputs = ports(DEFINITIONS[kind]["output"]) if outputs is None else outputs
            if not kind.startswith("Save"):
                properties.setdefault("Node name for S&R", kind)
        elif kind == "Reroute":
            inputs = [{"name": "", "type": "*", "link": None}]
            outputs = [{"name": "", "type": "*", "links": []}]
        node: Raw = {
            "id": number if key is None else key,
            "type": kind,
            "pos": [100 * number, 100],
            "size": [200, 100],
            "flags": {},
            "order": 0,
            "mode": mode,
            "inputs": inputs or [],
            "outputs": outputs or [],
            "properties": properties,
        }
        if values is not None:
            node["widgets_values"] = values
        if title:
            node["title"] = title
        self.nodes.append(node)
        return node

    def primitive(self, kind: str, values: Any, **more: Any) -> Raw:
        output = {"name": kind, "type": kind, "links": [], "widget": {"name": "x"}}
        node = self.node("PrimitiveNode", values, outputs=[output], **more)
        node["properties"].setdefault("Run widget replace on values", False)
        return node

    def link(self, origin: Raw, slot: int, target: Raw, name: str, kind: str = "") -> None:
        key = len(self.links) + 1
        into = slot_of(target, name)
        into["link"] = key
        output = origin["outputs"][slot]
        output["links"].append(key)
        place = target["inputs"].index(into)
        row = [key, origin["id"], slot, target["id"], place, kind or output["type"]]
        self.links.append(row)

    def instance(
        self, definition: Raw, values: Any = None, proxies: Any = None, **more: Any
    ) -> Raw:
        if definition["id"] not in {known["id"] for known in self.subgraphs}:
            self.subgraphs.append(definition)
        inputs = [
            {"name": port["name"], "type": port["type"], "link": None}
            for port in definition["inputs"]
        ]
        properties = {} if proxies is None else {"proxyWidgets": proxies}
        outputs = ports(port["type"] for port in definition["outputs"])
        return self.node(
            definition["id"],
            values,
            inputs=inputs,
            outputs=outputs,
            properties=properties,
            **more,
        )

    def group(
        self,
        values: Any,
        inputs: list[tuple[str, str]],
        outputs: list[str],
        kind: str = "workflow>Group",
        **more: Any,
    ) -> Raw:
        slots = [{"name": name, "type": sort, "link": None} for name, sort in inputs]
        return self.node(kind, values, inputs=slots, outputs=ports(outputs), **more)

    def saved(self) -> Raw:
        numbers = [node["id"] for node in self.nodes]
        return {
            "last_node_id": max(numbers, default=0),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": self.extra,
            "version": 0.4,
            **({"definitions": {"subgraphs": self.subgraphs}} if self.subgraphs else {}),
        }


def saved_sockets(kind: str) -> list[Raw]:
    return [
        {"name": name, "type": type_of(spec), "link": None}
        for name, spec in inputs_of(kind).items()
        if type_of(spec) not in WIDGET_TYPES or (len(spec) > 1 and spec[1].get("forceInput"))
    ]


def ports(kinds: Any) -> list[Raw]:
    return [{"name": kind, "type": kind, "links": []} for kind in kinds]


def slot_of(node: Raw, name: str) -> Raw:
    for slot in node["inputs"]:
        if slot["name"] == name:
            return slot
    kind = type_of(inputs_of(node["type"])[name])
    slot = {"name": name, "type": kind, "widget": {"name": name}, "link": None}
    node["inputs"].append(slot)
    return slot


def subgraph(
    name: str,
    canvas: Canvas,
    inputs: list[tuple[str, str, list[tuple[Raw, str]]]],
    outputs: list[tuple[str, Raw, int]],
) -> Raw:
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(fields, row, strict=True)) for row in canvas.links]
    entries, exits = [], []
    for place, (port, kind, targets) in enumerate(inputs):
        keys = []
        for node, slot_name in targets:
            slot = slot_of(node, slot_name)
            slot["link"] = len(links) + 1
            keys.append(len(links) + 1)
            row = (keys[-1], -10, place, node["id"], node["inputs"].index(slot), kind)
            links.append(dict(zip(fields, row, strict=True)))
        entries.append({"id": fixed_id(name, port, "in"), "name": port, "type": kind} | at(keys))
    for place, (kind, node, slot_number) in enumerate(outputs):
        key = len(links) + 1
        node["outputs"][slot_number]["links"].append(key)
        row = (key, node["id"], slot_number, -20, place, kind)
        links.append(dict(zip(fields, row, strict=True)))
        port = f"{kind}{place}"
        exits.append({"id": fixed_id(name, port, "out"), "name": port, "type": kind} | at([key]))
    return {
        "id": fixed_id(name),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": max((node["id"] for node in canvas.nodes), default=0),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 100]},
        "inputs": entries,
        "outputs": exits,
        "widgets": [],
        "nodes": canvas.nodes,
        "groups": [],
        "links": links,
        "extra": {},
    }


def fixed_id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(parts)))


def at(keys: list[int]) -> Raw:
    return {"linkIds": keys, "pos": [0, 0]}


def part(kind: str, values: Any, index: int, title: str = "", converted: Any = ()) -> Raw:
    node = Canvas().node(kind, values, key=-1, title=title or None)
    for name in converted:
        slot_of(node, name)
    return {**node, "index": index}


def grouped(parts: list[Raw], links: list[list[Any]], **more: Any) -> Raw:
    return {"groupNodes": {"Group": {"nodes": parts, "links": links, "external": [], **more}}}


SEED = whole(0, 0, 2**64 - 1, control_after_generate=True)
CORE_SEED = whole(0, 0, 2**64 - 1)

define(
    "PText",
    {"clip": socket("CLIP"), "text": ["STRING", {"multiline": True, "dynamicPrompts": True}]},
    output=("COND",),
)
define(
    "PSrc",
    {"name": [["a.ckpt", "b.ckpt"], {}]},
    output=("MODEL", "CLIP", "VAE"),
    title="Load Probe",
)
define(
    "PSampler",
    {
        "model": socket("MODEL"),
        "positive": socket("COND"),
        "negative": socket("COND"),
        "latent": socket("LATENT"),
        "seed": SEED,
        "steps": whole(20, 1, 100),
        "cfg": real(8.0, 0.0, 30.0, step=0.1, round=0.01),
        "sampler_name": [["euler", "ddim"], {}],
        "denoise": real(1.0, 0.0, 1.0, step=0.01),
    },
    output=("LATENT",),
)
define(
    "PLatent",
    {
        "width": whole(512, 16, 4096, step=8),
        "height": whole(512, 16, 4096, step=8),
        "batch": whole(1, 1, 64),
    },
    output=("LATENT",),
)
define("PDecode", {"samples": socket("LATENT"), "vae": socket("VAE")}, output=("IMAGE",))
define("SaveImage", {"images": socket("IMAGE"), "filename_prefix": words("out")})
define("PSink", {"any": socket("*")})
define(
    "PTwo",
    {"a": socket("IMAGE"), "b": socket("MASK")},
    {"c": socket("IMAGE")},
    output=("MASK", "IMAGE", "IMAGE"),
)
define(
    "PKinds",
    {
        "i": ["INT", {"default": 3}],
        "f": ["FLOAT", {}],
        "s": words("x"),
        "m": ["STRING", {"multiline": True}],
        "b": ["BOOLEAN", {"default": True}],
        "c": [["one", "two"], {"default": "two"}],
        "c2": ["COMBO", {"options": ["p", "q"]}],
    },
    {"o": ["INT", {"default": 7}], "forced": ["FLOAT", {"forceInput": True}]},
    output=("STRING",),
)
define(
    "PControl",
    {
        "noise_seed": ["INT", {"default": 1}],
        "ctl": ["INT", {"default": 2, "control_after_generate": True}],
        "seed": ["INT", {"default": 4, "control_after_generate": False}],
        "combo": [["x", "y"], {"control_after_generate": True}],
        "fl": ["FLOAT", {"default": 0.5, "control_after_generate": True}],
        "last": words("z"),
    },
)
define(
    "PUpload",
    {"image": [["a.png", "b.png"], {"image_upload": True}], "n": ["INT", {"default": 1}]},
    {"extra": words("e")},
    output=("IMAGE",),
)
define(
    "PNum",
    {
        "i8": whole(0, 4, 100, step=8),
        "i": whole(),
        "f": real(step=0.25),
        "f1": real(0.0, -1.0, step=1.0),
        "fr": real(0.0, -5.0, step=0.01, round=0.05),
        "fnr": real(step=0.001, round=False),
    },
)
define("PMultiIn", {"x": socket("IMAGE,MASK"), "y": socket("STRING")}, output=("IMAGE,MASK",))
define(
    "PMulti",
    {
        "tags": ["COMBO", {"options": ["a", "b", "c"], "multi_select": {"placeholder": "p"}}],
        "n": ["INT", {"default": 1}],
    },
)
define(
    "POpt",
    {"image": socket("IMAGE")},
    {"strength": real(0.3, 0.0, 1.0, step=0.01), "text": words("t")},
    output=("IMAGE",),
)
define("PPass", {"image": socket("IMAGE"), "amount": ["INT", {"default": 5}]}, output=("IMAGE",))
define("PInt", {"value": ["INT", {"default": 0}]}, output=("INT",))
define("PLine", {"text": words(dynamicPrompts=True)}, output=("STRING",))
define(
    "PLegacy",
    {
        "a": ["INT", {"default": 1}],
        "forced": ["INT", {"forceInput": True}],
        "b": words("b"),
    },
)
define(
    "PDyn",
    {
        "mode": [
            "COMFY_DYNAMICCOMBO_V3",
            {
                "options": [
                    {
                        "key": "a",
                        "inputs": {
                            "required": {"x": ["INT", {"default": 1}], "img": socket("IMAGE")}
                        },
                    },
                    {
                        "key": "b",
                        "inputs": {
                            "required": {"y": words("q")},
                            "optional": {
                                "seed": ["INT", {"default": 3, "control_after_generate": True}],
                                "deep": [
                                    "COMFY_DYNAMICCOMBO_V3",
                                    {
                                        "options": [
                                            {"key": "d1", "inputs": {"required": {"z": real(0.5)}}},
                                            {"key": "d2", "inputs": {"required": {}}},
                                        ]
                                    },
                                ],
                            },
                        },
                    },
                ]
            },
        ],
        "after": ["INT", {"default": 9}],
    },
)


def growing(kind: str, spec: Spec) -> Spec:
    template = {"input": {"required": {kind: spec}}, "prefix": kind, "min": 1, "max": 5}
    return ["COMFY_AUTOGROW_V3", {"template": template}]


def matching() -> Spec:
    template = {"template_id": "T", "allowed_types": "IMAGE,MASK"}
    return ["COMFY_MATCHTYPE_V3", {"template": template}]


define("PGrow", {"images": growing("image", socket("IMAGE")), "n": ["INT", {"default": 2}]})
define("PGrowW", {"vals": growing("v", ["INT", {"default": 4}]), "n": ["INT", {"default": 2}]})
define(
    "PMatch",
    {"a": matching(), "b": matching()},
    output=("COMFY_MATCHTYPE_V3",),
    output_matchtypes=["T"],
)
define("PColor", {"c": ["COLOR", {"default": "#ff0000"}], "n": ["INT", {"default": 1}]})
define(
    "PWt",
    {
        "c": ["MYTYPE", {"widgetType": "STRING", "default": "wt"}],
        "n": ["INT", {"default": 1}],
        "d": ["INT", {"display": "color", "default": 255}],
        "h": words("hid", hidden=True),
        "tl": words("dd", multiline=True, dynamicPrompts=False),
        "nn": ["INT", {"default": None}],
        "so": words("so", socketless=True),
    },
)
define(
    "EmptyImage",
    {
        "width": whole(512, 1, 4096),
        "height": whole(512, 1, 4096),
        "batch_size": whole(1, 1),
        "color": whole(0, 0, 0xFFFFFF, display="color"),
    },
    output=("IMAGE",),
)
define(
    "LoadImageOutput",
    {
        "image": [
            "COMBO",
            {
                "image_upload": True,
                "image_folder": "output",
                "remote": {
                    "route": "/internal/files/output",
                    "refresh_button": True,
                    "control_after_refresh": "first",
                },
            },
        ]
    },
    output=("IMAGE", "MASK"),
)
define("SaveGLB", {"mesh": socket("MESH"), "filename_prefix": words("3d/ComfyUI")})
define("Preview3D", {"model_file": words()}, {"bg_image": socket("IMAGE")})
define("LoadAudio", {"audio": [[], {"audio_upload": True}]}, output=("AUDIO",))
define(
    "SaveAudioMP3",
    {"audio": socket("AUDIO"), "filename_prefix": words("a"), "quality": [["V0", "128k"], {}]},
)
define("LoadVideo", {"file": ["COMBO", {"options": [], "video_upload": True}]}, output=("VIDEO",))
define("LoadImage", {"image": [["example.png"], {"image_upload": True}]}, output=("IMAGE", "MASK"))
define("PreviewAny", {"source": socket("*")})
define("RecordAudio", {"audio": ["AUDIO_RECORD", {}]}, output=("AUDIO",))
define(
    "KSampler",
    {"seed": CORE_SEED, "sampler_name": [["euler", "ddim"], {}], "scheduler": [["normal"], {}]},
    output=("LATENT",),
)


@case
def core_classes() -> Raw:
    canvas = Canvas()
    canvas.node("LoadImageOutput", ["a.png [output]", False, "refresh", "image"])
    canvas.node("SaveGLB", ["pre", ""])
    canvas.node("Preview3D", ["m.glb", ""])
    canvas.node("LoadAudio", ["a.mp3", None, None])
    canvas.node("LoadAudio", ["a.mp3", "", ""])
    canvas.node("SaveAudioMP3", ["b", "128k"])
    canvas.node("LoadVideo", ["v.mp4", "image"])
    canvas.node("LoadVideo")
    canvas.node("PreviewAny", [])
    canvas.node("LoadImage", ["x.png", "image"])
    canvas.node("LoadImage", ["x.png"])
    canvas.node("LoadImage")
    canvas.node("KSampler", [5, "fixed", "sample_ddim", "normal"])
    return canvas.saved()


@case
def growing_widgets() -> Raw:
    canvas = Canvas()
    canvas.node("PGrowW", [6, 7, 8])
    canvas.node("PGrowW")
    return canvas.saved()


@case
def group_converted() -> Raw:
    canvas = Canvas()
    latent = part("PLatent", [512, 512, 1], 0, converted=["width"])
    sampler = part("PSampler", [1, "fixed", 20, 8, "euler", 1], 1, converted=["steps"])
    canvas.extra = grouped([latent, sampler], [[0, 0, 1, 3, 5, "LATENT"]])
    number = canvas.node("PInt", [300])
    inputs = [
        ("model", "MODEL"),
        ("positive", "COND"),
        ("negative", "COND"),
        ("width", "INT"),
        ("steps", "INT"),
    ]
    group = canvas.group([480, 2, 99, "fixed", 6.5, "ddim", 0.5], inputs, ["LATENT"])
    for slot in group["inputs"][3:]:
        slot["widget"] = {"name": slot["name"]}
    canvas.link(number, 0, group, "width")
    canvas.link(number, 0, group, "steps")
    canvas.link(group, 0, canvas.node("PSink"), "any")
    return canvas.saved()


@case
def set_and_get_nodes() -> Raw:
    canvas = Canvas()
    model = canvas.node("PSrc", ["a.ckpt"])
    store = canvas.node("SetNode", ["m"], inputs=[{"name": "MODEL", "type": "MODEL", "link": None}])
    fetch = canvas.node("GetNode", ["m"], outputs=ports(["MODEL"]))
    sampler = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(model, 0, store, "MODEL")
    canvas.link(fetch, 0, sampler, "model")
    return canvas.saved()


def tsub(name="S", **k):
    inside = Canvas()
    t = inside.node("PText", ["inner text"], key=11)
    q = inside.node("PSampler", [5, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    inside.link(t, 0, q, "positive")
    return subgraph(
        name,
        inside,
        [
            ("clip", "CLIP", [(t, "clip")]),
            ("text", "STRING", [(t, "text")]),
            ("steps", "INT", [(q, "steps")]),
            ("seed", "INT", [(q, "seed")]),
        ],
        [("LATENT", q, 0)],
    )


@case
def promoted_plain() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), ["host // x {a}", 33, 77])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_proxy_partial() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), [33, "ddim"], [["-1", "steps"], ["12", "sampler_name"]])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_proxy_inner_ids() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), ["A", 44, 0.25], [["11", "text"], ["12", "seed"], ["12", "cfg"]])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_null() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), [None, 33, None])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_proxy_null() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), [None, None, None], [["11", "text"], ["12", "seed"], ["12", "cfg"]])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_novalues() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), None)
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def promoted_twice() -> Raw:
    canvas = Canvas()
    d = tsub()
    i = canvas.instance(d, ["one", 31, 1])
    j = canvas.instance(d, ["two", 32])
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    k = canvas.node("PSink")
    canvas.link(j, 0, k, "any")
    return canvas.saved()


@case
def promoted_twice_proxy_one() -> Raw:
    canvas = Canvas()
    d = tsub()
    canvas.instance(d, [0.25], [["12", "cfg"]])
    canvas.instance(d, [0.75], [["12", "cfg"]])
    canvas.instance(d)
    return canvas.saved()


@case
def primitive_to_host() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), ["h", 33, 77])
    p = canvas.primitive("INT", [55, "fixed"])
    canvas.link(p, 0, i, "steps")
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def link_to_host() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), ["h", 33, 77])
    p = canvas.node("PInt", [55])
    canvas.link(p, 0, i, "steps")
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def muted_link_to_host() -> Raw:
    canvas = Canvas()
    i = canvas.instance(tsub(), ["h", 33, 77])
    p = canvas.node("PInt", [55], mode=2)
    canvas.link(p, 0, i, "steps")
    k = canvas.node("PSink")
    canvas.link(i, 0, k, "any")
    return canvas.saved()


@case
def kinds_ok() -> Raw:
    canvas = Canvas()
    canvas.node("PKinds", [1, 2.5, "s", "m", False, "one", "q", 9])
    return canvas.saved()


@case
def kinds_weird() -> Raw:
    canvas = Canvas()
    canvas.node("PKinds", ["1", "2.5", 5, 5, "no", "zzz", "q", "x"])
    canvas.node("PKinds", [None] * 8)
    canvas.node("PKinds", [[1], [2], ["s"], ["a", "b"], [True], ["one"], ["q"], [9]])
    canvas.node(
        "PKinds", [{"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}]
    )
    canvas.node("PKinds", [1.5, 3, True, True, 0, 1, 2, 3])
    canvas.node("PKinds", [12345678901234567890, 1e21, "a\r\nb", "a\r\nb\rc", 0, 1, 2, 3])
    canvas.node("PKinds", [0.1, 0.30000000000000004, 1.0, 2.0, 0, 1, 2, 3])
    return canvas.saved()


@case
def kinds_few_many() -> Raw:
    canvas = Canvas()
    canvas.node("PKinds", [1])
    canvas.node("PKinds", [])
    canvas.node("PKinds")
    canvas.node("PKinds", [1, 2, "s", "m", False, "one", "q", 9, 10, 11])
    return canvas.saved()


@case
def kinds_dict() -> Raw:
    canvas = Canvas()
    canvas.node("PKinds", {"m": "mm", "i": 5, "c2": "q"})
    canvas.node(
        "PKinds", {"i": 5, "f": 2, "s": "s", "m": "m", "b": False, "c": "one", "c2": "q", "o": 3}
    )
    canvas.node(
        "PKinds", {"f": 5, "i": 2, "s": "s", "m": "m", "b": False, "c": "one", "c2": "q", "o": 3}
    )
    return canvas.saved()


@case
def control() -> Raw:
    canvas = Canvas()
    canvas.node(
        "PControl", [10, "randomize", 11, "fixed", 12, "y", "fixed", "/flt/", 0.25, "fixed", "end"]
    )
    canvas.node("PControl", [10, "randomize", 11, "fixed", 12, "y", "fixed", "/flt/", 0.25, "end"])
    return canvas.saved()


@case
def upload() -> Raw:
    canvas = Canvas()
    canvas.node("PUpload", ["b.png", 5, "opt", "image"])
    canvas.node("PUpload", ["b.png", "image", 5])
    return canvas.saved()


@case
def legacy_force() -> Raw:
    canvas = Canvas()
    canvas.node("PLegacy", [4, 99, "bb"])
    canvas.node("PLegacy", [4, "bb"])
    return canvas.saved()


@case
def multi() -> Raw:
    canvas = Canvas()
    canvas.node("PMulti", [["a", "c"], 3])
    canvas.node("PMulti")
    return canvas.saved()


@case
def unknown() -> Raw:
    canvas = Canvas()
    s = canvas.node("PSrc", ["a.ckpt"])
    saved = canvas.node(
        "Nope",
        ["v", 1, 2.5, True, None, [1, 2], {"k": 1}, "long text more than twenty chars"],
        inputs=[
            {"name": "m", "type": "MODEL", "link": None},
            {"name": "w", "type": "INT", "link": None, "widget": {"name": "w"}},
        ],
        outputs=[{"name": "o", "type": "MODEL", "links": []}],
        title="My unknown",
    )
    canvas.link(s, 0, saved, "m")
    k = canvas.node("PSink")
    canvas.link(saved, 0, k, "any")
    p = canvas.node("PInt", [3])
    canvas.link(p, 0, saved, "w")
    return canvas.saved()


@case
def dyn_line() -> Raw:
    canvas = Canvas()
    canvas.node("PLine", ["{a} // c"])
    canvas.node("PText", ["a \\{b\\} {one} \\| c // gone\n/* x */z http://u.v/w {x{y}} \\n {q"])
    canvas.node("PText", [["a", "b"]])
    canvas.node("PText", [5])
    return canvas.saved()


@case
def prim_fan() -> Raw:
    canvas = Canvas()
    a = canvas.node("PNum", [1, 2, 0.3, 0.4, 0.5, 0.6])
    b = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    latent = canvas.node("PLatent", [512, 512, 1])
    p = canvas.primitive("INT", [777, "fixed"])
    canvas.link(p, 0, latent, "width")
    canvas.link(p, 0, b, "steps")
    p = canvas.primitive("FLOAT", [3.14159, "fixed"])
    canvas.link(p, 0, a, "f")
    p = canvas.primitive("FLOAT", [2.5, "fixed"])
    canvas.link(p, 0, a, "f1")
    p = canvas.primitive("FLOAT", [1.2345678, "fixed"])
    canvas.link(p, 0, a, "fr")
    p = canvas.primitive("FLOAT", [1.23456789, "fixed"])
    canvas.link(p, 0, a, "fnr")
    p = canvas.primitive("INT", [50, "fixed"])
    canvas.link(p, 0, a, "i8")
    return canvas.saved()


@case
def prim_range() -> Raw:
    canvas = Canvas()
    a = canvas.node("PNum", [1, 2, 0.3, 0.4, 0.5, 0.6])
    p = canvas.primitive("INT", [-5, "fixed"])
    canvas.link(p, 0, a, "i")
    p = canvas.primitive("INT", [1000, "fixed"])
    canvas.link(p, 0, a, "i8")
    p = canvas.primitive("FLOAT", [-3, "fixed"])
    canvas.link(p, 0, a, "f")
    p = canvas.primitive("FLOAT", [99, "fixed"])
    canvas.link(p, 0, a, "fr")
    return canvas.saved()


@case
def prim_fan_float() -> Raw:
    canvas = Canvas()
    a = canvas.node("PNum", [1, 2, 0.3, 0.4, 0.5, 0.6])
    b = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    p = canvas.primitive("FLOAT", [0.333, "fixed"])
    canvas.link(p, 0, a, "fr")
    canvas.link(p, 0, b, "denoise")
    canvas.link(p, 0, b, "cfg")
    p = canvas.primitive("INT", [31, "fixed"])
    canvas.link(p, 0, a, "i8")
    canvas.link(p, 0, a, "i")
    return canvas.saved()


@case
def prim_kinds() -> Raw:
    canvas = Canvas()
    a = canvas.node("PKinds", [1, 2, "s", "m", True, "one", "p", 5])
    b = canvas.node("PKinds", [1, 2, "s", "m", True, "one", "p", 5])
    for t, n, v in (
        ("INT", "i", 9),
        ("FLOAT", "f", 1.55),
        ("STRING", "s", "S"),
        ("STRING", "m", "M"),
        ("BOOLEAN", "b", False),
        ("COMBO", "c", "two"),
        ("COMBO", "c2", "q"),
    ):
        p = canvas.primitive(t, [v, "fixed", ""] if t == "COMBO" else [v, "fixed"])
        canvas.link(p, 0, a, n)
    for t, n, v in (
        ("INT", "i", "x"),
        ("FLOAT", "f", "1.5"),
        ("STRING", "s", 5),
        ("STRING", "m", 5),
        ("BOOLEAN", "b", "no"),
        ("COMBO", "c", "zz"),
        ("COMBO", "c2", None),
    ):
        p = canvas.primitive(t, [v, "fixed", ""] if t == "COMBO" else [v, "fixed"])
        canvas.link(p, 0, b, n)
    return canvas.saved()


@case
def prim_odd() -> Raw:
    canvas = Canvas()
    a = canvas.node("PKinds", [1, 2, "s", "m", True, "one", "p", 5])
    p = canvas.primitive("INT", None)
    canvas.link(p, 0, a, "i")
    p = canvas.primitive("STRING", [3])
    canvas.link(p, 0, a, "f")
    p = canvas.primitive("*", ["zz"])
    canvas.link(p, 0, a, "s")
    p = canvas.primitive("STRING", ["muted"], mode=2)
    canvas.link(p, 0, a, "m")
    p = canvas.primitive("BOOLEAN", [False], mode=4)
    canvas.link(p, 0, a, "b")
    return canvas.saved()


@case
def prim_replace() -> Raw:
    canvas = Canvas()
    canvas.node("PSampler", [42, "fixed", 20, 8, "euler", 1])
    a = canvas.node("PKinds", [1, 2, "s", "m", True, "one", "p", 5])
    p = canvas.primitive(
        "STRING",
        ["x %PSampler.seed% %PSampler.sampler_name%"],
        properties={"Run widget replace on values": True},
    )
    canvas.link(p, 0, a, "s")
    return canvas.saved()


@case
def prim_reroute() -> Raw:
    canvas = Canvas()
    a = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    p = canvas.primitive("INT", [33, "fixed"])
    r = canvas.node("Reroute")
    canvas.link(p, 0, r, "")
    canvas.link(r, 0, a, "steps", kind="INT")
    return canvas.saved()


@case
def prim_reroute_and_direct() -> Raw:
    canvas = Canvas()
    a = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    b = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    p = canvas.primitive("INT", [33, "fixed"])
    r = canvas.node("Reroute")
    canvas.link(p, 0, r, "")
    canvas.link(r, 0, a, "steps", kind="INT")
    canvas.link(p, 0, b, "steps")
    return canvas.saved()


@case
def prim_direct_and_reroute() -> Raw:
    canvas = Canvas()
    a = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    b = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    p = canvas.primitive("INT", [33, "fixed"])
    r = canvas.node("Reroute")
    canvas.link(p, 0, b, "steps")
    canvas.link(p, 0, r, "")
    canvas.link(r, 0, a, "steps", kind="INT")
    return canvas.saved()


@case
def prim_forced() -> Raw:
    canvas = Canvas()
    a = canvas.node("PKinds", [1, 2, "s", "m", True, "one", "p", 5])
    p = canvas.primitive("FLOAT", [3.5, "fixed"])
    canvas.link(p, 0, a, "forced")
    return canvas.saved()


@case
def prim_inner() -> Raw:
    inside = Canvas()
    t = inside.node("PText", ["inner text"], key=11)
    p = inside.primitive("STRING", ["from prim"], key=13)
    inside.link(p, 0, t, "text")
    q = inside.node("PSampler", [5, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    inside.link(t, 0, q, "positive")
    p2 = inside.primitive("INT", [64, "fixed"], key=14)
    inside.link(p2, 0, q, "steps")
    d = subgraph("PI", inside, [("clip", "CLIP", [(t, "clip")])], [("LATENT", q, 0)])
    canvas = Canvas()
    canvas.instance(d)
    canvas.instance(d, ["proxied", 12], [["13", "value"], ["14", "value"]])
    return canvas.saved()


@case
def patterns() -> Raw:
    canvas = Canvas()
    canvas.node("PSrc", ["dir/a.ckpt"], title="My:Src")
    canvas.node("PSampler", [12345678901234567890, "randomize", 20, 7.5, "euler", 1])
    canvas.node("PSampler", [2, "fixed", 20, 8, "euler", 1], title="Second")
    canvas.node(
        "PKinds",
        [1, 2.0, "a/b?c", "m", True, "one", "p", 5],
        properties={"Node name for S&R": "custom"},
        title="KT",
    )
    n = canvas.node("PLine", ["x"])
    n["properties"] = {}
    canvas.primitive("INT", [3, "fixed"], title="Prim")
    for t in (
        "%PSrc.name%",
        "%My:Src.name%",
        "%PSampler.seed%-%PSampler.cfg%-%PSampler.control_after_generate%",
        "%Second.seed%",
        "%custom.s%_%custom.f%_%custom.b%",
        "%PKinds.s%",
        "%PLine.text%",
        "%width%x%height%",
        "%Nope.x%",
        "%PSampler.nope%",
        "100% %PSampler.steps% 5%",
        "%a.b.c%",
        "%Prim.value%",
        "plain",
        "%SaveImage.filename_prefix%",
        "%KT.m%",
    ):
        x = canvas.node("SaveImage", [t])
        canvas.link(n, 0, x, "images", kind="IMAGE")
    return canvas.saved()


@case
def patterns_sub() -> Raw:
    inside = Canvas()
    q = inside.node("PSampler", [55, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    inside.node("SaveImage", ["%PSampler.seed% %Outer.value% %PInt.value%"], key=15)
    inside.node("PInt", [8], key=16)
    d = subgraph("Sub name", inside, [("seed", "INT", [(q, "seed")])], [("LATENT", q, 0)])
    canvas = Canvas()
    canvas.instance(d, [66], title="Host")
    canvas.node("PInt", [7], title="Outer")
    canvas.node("SaveImage", ["%PSampler.seed% %Host.seed% %Sub name.seed% %PInt.value%"])
    return canvas.saved()


@case
def bypass_types() -> Raw:
    canvas = Canvas()
    i = canvas.node("PDecode")
    m = canvas.node("PTwo")
    b = canvas.node("PTwo", mode=4)
    canvas.link(i, 0, b, "a")
    canvas.link(m, 0, b, "b")
    canvas.link(m, 1, b, "c")
    for o in (0, 1, 2):
        k = canvas.node("PSink")
        canvas.link(b, o, k, "any")
    k = canvas.node("PTwo")
    canvas.link(b, 1, k, "a")
    canvas.link(b, 0, k, "b")
    canvas.link(b, 2, k, "c")
    k = canvas.node("SaveImage", ["x"])
    canvas.link(b, 2, k, "images")
    return canvas.saved()


@case
def bypass_nomatch() -> Raw:
    canvas = Canvas()
    s = canvas.node("PSrc", ["a.ckpt"], mode=4)
    t = canvas.node("PText", ["t"])
    canvas.link(s, 1, t, "clip")
    e = canvas.node("PInt", [4], mode=4)
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(e, 0, q, "steps")
    canvas.link(s, 0, q, "model")
    k = canvas.node("PSink")
    canvas.link(e, 0, k, "any")
    k = canvas.node("PSink")
    canvas.link(s, 2, k, "any")
    z = canvas.node("PDecode", mode=4)
    k = canvas.node("PSink")
    canvas.link(z, 0, k, "any")
    return canvas.saved()


@case
def bypass_widget_input() -> Raw:
    canvas = Canvas()
    i = canvas.node("PInt", [3])
    e = canvas.node("PInt", [4], mode=4)
    canvas.link(i, 0, e, "value")
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(e, 0, q, "steps")
    p = canvas.node("POpt", [0.5, "t"], mode=4)
    d = canvas.node("PDecode")
    canvas.link(d, 0, p, "image")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(p, 0, x, "images")
    return canvas.saved()


@case
def bypass_multi() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    m = canvas.node("PMultiIn", mode=4)
    canvas.link(d, 0, m, "x")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(m, 0, x, "images")
    k = canvas.node("PTwo")
    canvas.link(m, 0, k, "b")
    n = canvas.node("PMultiIn")
    canvas.link(m, 0, n, "x")
    return canvas.saved()


@case
def bypass_chain_mute() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode", mode=2)
    a = canvas.node("PPass", [1], mode=4)
    b = canvas.node("PPass", [1], mode=4)
    canvas.link(d, 0, a, "image")
    canvas.link(a, 0, b, "image")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(b, 0, x, "images")
    return canvas.saved()


@case
def reroutes() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    r = canvas.node("Reroute")
    r2 = canvas.node("Reroute")
    canvas.link(d, 0, r, "")
    canvas.link(r, 0, r2, "")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(r2, 0, x, "images", kind="IMAGE")
    r3 = canvas.node("Reroute")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(r3, 0, x, "images", kind="IMAGE")
    r4 = canvas.node("Reroute", mode=4)
    canvas.link(d, 0, r4, "")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(r4, 0, x, "images", kind="IMAGE")
    r5 = canvas.node("Reroute", mode=2)
    canvas.link(d, 0, r5, "")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(r5, 0, x, "images", kind="IMAGE")
    b = canvas.node("PTwo", mode=4)
    r6 = canvas.node("Reroute")
    canvas.link(b, 1, r6, "", kind="IMAGE")
    canvas.link(d, 0, b, "c")
    m = canvas.node("PTwo")
    canvas.link(m, 0, b, "b")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(r6, 0, x, "images", kind="IMAGE")
    k = canvas.node("PSink")
    canvas.link(r6, 0, k, "any")
    return canvas.saved()


@case
def reroute_widget() -> Raw:
    canvas = Canvas()
    i = canvas.node("PInt", [3])
    r = canvas.node("Reroute")
    canvas.link(i, 0, r, "")
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(r, 0, q, "steps", kind="INT")
    r2 = canvas.node("Reroute")
    canvas.link(r2, 0, q, "cfg", kind="FLOAT")
    return canvas.saved()


@case
def modes() -> Raw:
    canvas = Canvas()
    for m in (0, 1, 2, 3, 4, 5):
        canvas.node("PInt", [m], mode=m)
    return canvas.saved()


@case
def nested() -> Raw:
    inside = Canvas()
    q = inside.node("PSampler", [55, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    t = inside.node("PText", ["tt"], key=13)
    inside.link(t, 0, q, "positive")
    d = subgraph(
        "In",
        inside,
        [
            ("seed", "INT", [(q, "seed")]),
            ("txt", "STRING", [(t, "text")]),
            ("model", "MODEL", [(q, "model")]),
            ("steps", "INT", [(q, "steps")]),
        ],
        [("LATENT", q, 0)],
    )
    middle = Canvas()
    i = middle.instance(d, [66, "mid", 22], key=20)
    f = middle.node("PPass", [9], key=21)
    d2 = subgraph(
        "Out",
        middle,
        [
            ("seed", "INT", [(i, "seed")]),
            ("model", "MODEL", [(i, "model")]),
            ("amount", "INT", [(f, "amount")]),
        ],
        [("LATENT", i, 0)],
    )
    canvas = Canvas()
    canvas.subgraphs = [d2, d]
    a = canvas.instance(d2, [77, 5])
    b = canvas.instance(d2, [88, 6])
    canvas.instance(d2)
    canvas.instance(d2, ["deep", 1, 2], [["20", "txt"], ["20", "seed"], ["21", "amount"]])
    src = canvas.node("PSrc", ["a.ckpt"])
    canvas.link(src, 0, a, "model")
    p = canvas.node("PInt", [3])
    canvas.link(p, 0, b, "seed")
    k = canvas.node("PSink")
    canvas.link(a, 0, k, "any")
    return canvas.saved()


@case
def nested_prefix() -> Raw:
    inside = Canvas()
    q = inside.node("PSampler", [55, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    d = subgraph("In", inside, [("seed", "INT", [(q, "seed")])], [("LATENT", q, 0)])
    middle = Canvas()
    i = middle.instance(d, [66], [["12", "seed"]], key=20)
    d2 = subgraph("Out", middle, [], [("LATENT", i, 0)])
    canvas = Canvas()
    canvas.subgraphs = [d2, d]
    canvas.instance(d2, [77], [["20", "12: seed"]])
    canvas.instance(d2, [78], [["20", "seed"]])
    canvas.instance(d2, [79], [["20", "12: seed", "12"]])
    return canvas.saved()


@case
def sub_modes() -> Raw:
    inside = Canvas()
    q = inside.node("PPass", [1], key=12)
    d = subgraph(
        "Md",
        inside,
        [("image", "IMAGE", [(q, "image")]), ("amount", "INT", [(q, "amount")])],
        [("IMAGE", q, 0)],
    )
    canvas = Canvas()
    src = canvas.node("PDecode")
    for m in (0, 2, 4):
        i = canvas.instance(d, [5], mode=m)
        canvas.link(src, 0, i, "image")
        x = canvas.node("SaveImage", ["x"])
        canvas.link(i, 0, x, "images")
    return canvas.saved()


@case
def sub_inner_modes() -> Raw:
    canvas = Canvas()
    src = canvas.node("PDecode")
    for m in (2, 4):
        inside = Canvas()
        q = inside.node("PPass", [1], key=30 + m, mode=m)
        r = inside.node("PPass", [1], key=40 + m)
        inside.link(q, 0, r, "image")
        d = subgraph(
            f"Mdi{m}",
            inside,
            [("image", "IMAGE", [(q, "image")]), ("amount", "INT", [(q, "amount")])],
            [("IMAGE", r, 0), ("IMAGE", q, 0)],
        )
        i = canvas.instance(d, [5])
        canvas.link(src, 0, i, "image")
        x = canvas.node("SaveImage", ["x"])
        canvas.link(i, 1, x, "images")
    return canvas.saved()


@case
def sub_reroute_inside() -> Raw:
    canvas = Canvas()
    src = canvas.node("PDecode")
    inside = Canvas()
    r = inside.node("Reroute", key=51)
    q = inside.node("PPass", [1], key=52)
    inside.link(r, 0, q, "image", kind="IMAGE")
    d = subgraph("Rr", inside, [("image", "IMAGE", [(r, "")])], [("IMAGE", q, 0)])
    i = canvas.instance(d)
    canvas.link(src, 0, i, "image")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(i, 0, x, "images")
    return canvas.saved()


@case
def sub_fanout() -> Raw:
    canvas = Canvas()
    inside = Canvas()
    a = inside.node("PNum", [1, 2, 0.3, 0.4, 0.5, 0.6], key=61)
    b = inside.node("PInt", [9], key=62)
    d = subgraph(
        "Fan", inside, [("v", "INT", [(a, "i"), (a, "i8"), (b, "value")])], [("INT", b, 0)]
    )
    canvas.instance(d, [40])
    canvas.instance(d, [41], [["62", "value"]])
    canvas.instance(d, [42], [["61", "i"]])
    return canvas.saved()


@case
def dup_ids() -> Raw:
    inside = Canvas()
    q = inside.node("PInt", [1], key=2)
    r = inside.node("PPass", [3], key=3)
    inside.link(q, 0, r, "amount")
    d = subgraph("Dup", inside, [], [("IMAGE", r, 0)])
    inside = Canvas()
    q = inside.node("PInt", [1], key=2)
    r = inside.node("PPass", [3], key=30)
    inside.link(q, 0, r, "amount")
    d2 = subgraph("Dup2", inside, [("image", "IMAGE", [(r, "image")])], [("IMAGE", r, 0)])
    canvas = Canvas()
    canvas.instance(d, [7], [["2", "value"]])
    canvas.instance(d2, [8], [["2", "value"]])
    canvas.node("PInt", [5])
    saved = canvas.saved()
    saved["last_node_id"] = 500
    return saved


@case
def dup_root() -> Raw:
    canvas = Canvas()
    a = canvas.node("PInt", [5])
    canvas.node("PInt", [6], key=1)
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(a, 0, q, "steps")
    return canvas.saved()


@case
def v1_format() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(d, 0, x, "images")
    saved = canvas.saved()
    saved["version"] = 1
    saved["state"] = {"lastGroupId": 0, "lastNodeId": 9, "lastLinkId": 9, "lastRerouteId": 1}
    saved["links"] = [
        {
            "id": row[0],
            "origin_id": row[1],
            "origin_slot": row[2],
            "target_id": row[3],
            "target_slot": row[4],
            "type": row[5],
            "parentId": 1,
        }
        for row in saved["links"]
    ]
    saved["reroutes"] = [{"id": 1, "pos": [1, 1], "linkIds": [1]}]
    return saved


@case
def extra_inputs() -> Raw:
    canvas = Canvas()
    p = canvas.node("PInt", [5])
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    q["inputs"].append({"name": "dyn", "type": "INT", "link": None})
    canvas.link(p, 0, q, "dyn")
    q["inputs"].append({"name": "gone", "type": "INT", "link": None, "widget": {"name": "gone"}})
    canvas.link(p, 0, q, "gone")
    return canvas.saved()


@case
def link_to_missing() -> Raw:
    canvas = Canvas()
    p = canvas.node("PInt", [5])
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(p, 0, q, "steps")
    saved = canvas.saved()
    saved["nodes"] = [q]
    return saved


@case
def link_row_only() -> Raw:
    canvas = Canvas()
    p = canvas.node("PInt", [5])
    q = canvas.node("PSampler", [1, "fixed", 20, 8, "euler", 1])
    canvas.link(p, 0, q, "model")
    q["inputs"][0]["link"] = None
    return canvas.saved()


@case
def dyn_a() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    n = canvas.node("PDyn", ["a", 5, 11])
    n["inputs"] = [
        {"name": "mode", "type": "COMFY_DYNAMICCOMBO_V3", "widget": {"name": "mode"}, "link": None},
        {"name": "mode.x", "type": "INT", "widget": {"name": "mode.x"}, "link": None},
        {"name": "mode.img", "type": "IMAGE", "link": None},
    ]
    canvas.link(d, 0, n, "mode.img")
    p = canvas.node("PInt", [3])
    canvas.link(p, 0, n, "mode.x")
    canvas.node("PDyn", ["b", "yy", 7, "fixed", "d1", 0.75, 12])
    canvas.node("PDyn", ["b", "yy", 7, "fixed", "d2", 12])
    canvas.node("PDyn")
    canvas.node("PDyn", ["zz", 5])
    return canvas.saved()


@case
def grow() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    n = canvas.node("PGrow", [6])
    n["inputs"] = [
        {"name": "images.image0", "type": "IMAGE", "link": None},
        {"name": "images.image1", "type": "IMAGE", "link": None},
        {"name": "images.image2", "type": "IMAGE", "link": None},
    ]
    canvas.link(d, 0, n, "images.image0")
    canvas.link(d, 0, n, "images.image1")
    canvas.node("PGrow", [7])
    return canvas.saved()


@case
def match() -> Raw:
    canvas = Canvas()
    d = canvas.node("PDecode")
    n = canvas.node("PMatch", mode=4)
    n["inputs"] = [
        {"name": "a", "type": "IMAGE,MASK", "link": None},
        {"name": "b", "type": "IMAGE,MASK", "link": None},
    ]
    n["outputs"] = [{"name": "o", "type": "IMAGE", "links": []}]
    canvas.link(d, 0, n, "b")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(n, 0, x, "images")
    return canvas.saved()


@case
def exotic() -> Raw:
    canvas = Canvas()
    canvas.node("PColor", ["#00ff00", 3])
    canvas.node("PColor")
    canvas.node("PWt", ["v", 2, 77, "h", "t", 4, "s"])
    canvas.node("PWt")
    canvas.node("EmptyImage", [1, 2, 3, 16711680])
    return canvas.saved()


@case
def record() -> Raw:
    canvas = Canvas()
    canvas.node("RecordAudio", ["", ""])
    return canvas.saved()


@case
def prim_inner_plain() -> Raw:
    inside = Canvas()
    t = inside.node("PText", ["inner text"], key=11)
    p = inside.primitive("STRING", ["from prim"], key=13)
    inside.link(p, 0, t, "text")
    q = inside.node("PSampler", [5, "fixed", 21, 7.5, "ddim", 0.5], key=12)
    inside.link(t, 0, q, "positive")
    d = subgraph("PIp", inside, [("clip", "CLIP", [(t, "clip")])], [("LATENT", q, 0)])
    canvas = Canvas()
    canvas.instance(d)
    canvas.instance(d)
    return canvas.saved()


@case
def group_basic() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped(
        [
            part("PLatent", [512, 512, 1], 0),
            part("PSampler", [1, "fixed", 20, 8, "euler", 1], 1),
            part("PDecode", None, 2),
        ],
        [[0, 0, 1, 3, 5, "LATENT"], [1, 0, 2, 0, 6, "LATENT"]],
    )
    s = canvas.node("PSrc", ["a.ckpt"])
    t = canvas.node("PText", ["t"])
    canvas.link(s, 1, t, "clip")
    n = canvas.group(
        [640, 480, 2, 99, "fixed", 30, 6.5, "ddim", 0.5],
        [("model", "MODEL"), ("positive", "COND"), ("negative", "COND"), ("vae", "VAE")],
        ["IMAGE"],
    )
    canvas.link(s, 0, n, "model")
    canvas.link(t, 0, n, "positive")
    canvas.link(t, 0, n, "negative")
    canvas.link(s, 2, n, "vae")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(n, 0, x, "images")
    return canvas.saved()


@case
def group_dup_names() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped(
        [part("PText", ["a"], 0), part("PText", ["b"], 1, title="Neg"), part("PText", ["c"], 2)], []
    )
    s = canvas.node("PSrc", ["a.ckpt"])
    s2 = canvas.node("PSrc", ["b.ckpt"])
    n = canvas.group(
        ["A", "B", "C"],
        [("clip", "CLIP"), ("Neg clip", "CLIP"), ("PText clip", "CLIP")],
        ["COND", "COND", "COND"],
    )
    canvas.link(s, 1, n, "clip")
    canvas.link(s2, 1, n, "Neg clip")
    canvas.link(s, 1, n, "PText clip")
    for i in range(3):
        k = canvas.node("PSink")
        canvas.link(n, i, k, "any")
    m = canvas.group(
        ["A2"],
        [("clip", "CLIP"), ("Neg clip", "CLIP"), ("PText clip", "CLIP")],
        ["COND", "COND", "COND"],
    )
    k = canvas.node("PSink")
    canvas.link(m, 1, k, "any")
    return canvas.saved()


@case
def group_primitive() -> Raw:
    pr = {
        "id": -1,
        "type": "PrimitiveNode",
        "pos": [0, 0],
        "size": [200, 80],
        "flags": {},
        "order": 0,
        "mode": 0,
        "outputs": [{"name": "INT", "type": "INT", "links": [], "widget": {"name": "width"}}],
        "properties": {"Run widget replace on values": False},
        "widgets_values": [704, "fixed"],
        "index": 0,
    }
    canvas = Canvas()
    canvas.extra = grouped(
        [pr, part("PLatent", [512, 512, 1], 1, converted=["width"])], [[0, 0, 1, 0, 5, "INT"]]
    )
    n = canvas.group([640, "fixed", 480, 3], [], ["LATENT"])
    k = canvas.node("PSink")
    canvas.link(n, 0, k, "any")
    return canvas.saved()


@case
def group_reroute() -> Raw:
    rr = {
        "id": -1,
        "type": "Reroute",
        "pos": [0, 0],
        "size": [75, 26],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{"name": "", "type": "*", "link": None}],
        "outputs": [{"name": "", "type": "IMAGE", "links": []}],
        "properties": {},
        "index": 0,
    }
    canvas = Canvas()
    canvas.extra = grouped([rr, part("PPass", [5], 1)], [[0, 0, 1, 0, 5, "IMAGE"]])
    d = canvas.node("PDecode")
    n = canvas.group([50], [("IMAGE", "IMAGE")], ["IMAGE"])
    canvas.link(d, 0, n, "IMAGE")
    k = canvas.node("PSink")
    canvas.link(n, 0, k, "any")
    return canvas.saved()


@case
def group_external() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped(
        [part("PLatent", [512, 512, 1], 0), part("PSampler", [1, "fixed", 20, 8, "euler", 1], 1)],
        [[0, 0, 1, 3, 5, "LATENT"]],
        external=[[0, 0, "LATENT"]],
    )
    n = canvas.group(
        [640, 480, 2, 99, "fixed", 30, 6.5, "ddim", 0.5],
        [("model", "MODEL"), ("positive", "COND"), ("negative", "COND")],
        ["LATENT", "LATENT"],
    )
    k = canvas.node("PSink")
    canvas.link(n, 0, k, "any")
    k = canvas.node("PSink")
    canvas.link(n, 1, k, "any")
    return canvas.saved()


@case
def group_modes() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped([part("PPass", [5], 0)], [])
    d = canvas.node("PDecode")
    for m in (2, 4):
        n = canvas.group([50], [("image", "IMAGE")], ["IMAGE"], mode=m)
        canvas.link(d, 0, n, "image")
        x = canvas.node("SaveImage", ["x"])
        canvas.link(n, 0, x, "images")
    return canvas.saved()


@case
def group_old_separator() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped([part("PPass", [5], 0)], [])
    d = canvas.node("PDecode")
    n = canvas.group([50], [("image", "IMAGE")], ["IMAGE"])
    n["type"] = "workflow/Group"
    canvas.link(d, 0, n, "image")
    x = canvas.node("SaveImage", ["x"])
    canvas.link(n, 0, x, "images")
    return canvas.saved()


@case
def group_upload() -> Raw:
    canvas = Canvas()
    canvas.extra = grouped(
        [part("PUpload", ["a.png", 1, "e", "image"], 0), part("PKinds", None, 1)],
        [],
        config={"0": {"input": {"n": {"name": "count"}}}},
    )
    canvas.group(["b.png", 4, "image", "E", 1, 2.5, "s", "m", False, "one", "q", 8], [], ["IMAGE"])
    return canvas.saved()


@case
def primitive_proxied_onto_an_unknown_node() -> Raw:
    inside = Canvas()
    slot = {"name": "size", "type": "COMBO", "widget": {"name": "size"}, "link": None}
    unknown = inside.node("Nope", ["x"], key=21, inputs=[slot], outputs=ports(["IMAGE"]))
    sampler = inside.node("PSampler", [1, "fixed", 20, 8, "euler", 1], key=23)
    primitive = inside.primitive("COMBO", ["ddim", "fixed", ""], key=22)
    inside.link(primitive, 0, sampler, "sampler_name")
    inside.link(primitive, 0, unknown, "size")
    slot = {"name": "more", "type": "COMBO", "widget": {"name": "more"}, "link": None}
    lone = inside.node("Nope", ["y"], key=24, inputs=[slot])
    inside.link(inside.primitive("COMBO", ["a", "fixed", ""], key=25), 0, lone, "more")
    definition = subgraph("Unknown inside", inside, [], [("IMAGE", unknown, 0)])
    canvas = Canvas()
    host = canvas.instance(definition, [], [["22", "value"], ["25", "value"]])
    canvas.link(host, 0, canvas.node("PSink"), "any")
    return canvas.saved()


BOX = {"x": 1, "y": 2, "width": 3, "height": 4}
define(
    "PBoxes",
    {
        "a": ["INT", {"default": 1}],
        "box": ["BOUNDING_BOX", {}],
        "second": ["BOUNDING_BOX", {"default": {"x": 5, "y": 6, "width": 7, "height": 8}}],
        "b": ["INT", {"default": 2}],
        "t": words("x"),
    },
)
define("PWords", {"text": words("d"), "n": ["INT", {"default": 1}]}, output=("STRING",))
define(
    "PChoices",
    {
        "c": [["one", "two", "three"], {}],
        "d": [["p", "q"], {"default": "q"}],
        "i": ["INT", {"default": 4}],
    },
    output=("INT",),
)


@case
def boxes() -> Raw:
    canvas = Canvas()
    canvas.node("PBoxes")
    canvas.node("PBoxes", [7, BOX, 1, 2, 3, 4, BOX, 11, 12, 13, 14, 8, "t"])
    canvas.node("PBoxes", [7, BOX, 8, "t"])
    canvas.node("PBoxes", [7, None, 1, 2, 3, 4, None, 1, 2, 3, 4, 9, "u"])
    return canvas.saved()


@case
def sub_bypassed_text() -> Raw:
    """The promoted text of a bypassed subgraph is not passed on."""
    inside = Canvas()
    t = inside.node("PWords", ["inner", 3], key=11)
    d = subgraph(
        "Bp",
        inside,
        [("text", "STRING", [(t, "text")]), ("n", "INT", [(t, "n")])],
        [("STRING", t, 0)],
    )
    canvas = Canvas()
    i = canvas.instance(d, ["host", 9], mode=4)
    j = canvas.instance(d, ["second", 8])
    canvas.link(i, 0, j, "text")
    for kind, name in (("PWords", "text"), ("PMultiIn", "y"), ("PSink", "any")):
        canvas.link(i, 0, canvas.node(kind), name)
    return canvas.saved()


def with_choices(values: Any, proxies: Any = None, *, shared: bool = False) -> Raw:
    inside = Canvas()
    t = inside.node("PChoices", ["two", "p", 5], key=11)
    t2 = inside.node("PChoices", ["three", "p", 6], key=12)
    d = subgraph(
        f"Ch{shared}",
        inside,
        [
            ("c", "COMBO", [(t, "c"), (t2, "c")] if shared else [(t, "c")]),
            ("d", "COMBO", [(t, "d")]),
        ],
        [("INT", t, 0), ("INT", t2, 0)],
    )
    canvas = Canvas()
    i = canvas.instance(d, values, proxies)
    canvas.link(i, 0, canvas.node("PSink"), "any")
    return canvas.saved()


@case
def promoted_null_choices() -> Raw:
    return with_choices([None, None])


@case
def promoted_null_shared_choice() -> Raw:
    return with_choices([None, "q"], shared=True)


@case
def promoted_proxy_null_choices() -> Raw:
    return with_choices([None, "q", None], [["11", "c"], ["-1", "d"], ["12", "c"]])


def disagreeing(change: Callable[[Any, Raw, Raw], None]) -> Raw:
    """Compose a graph whose list of links and inputs do not agree."""
    canvas = Canvas()
    a, b, c = (canvas.node("PInt", [value]) for value in (1, 2, 3))
    s, t = (canvas.node("PLatent", [64, 128, 1]) for _ in range(2))
    for latent in (s, t):
        canvas.link(latent, 0, canvas.node("PSink"), "any")
    canvas.link(a, 0, s, "width")
    canvas.link(b, 0, s, "height")
    canvas.link(c, 0, t, "width")
    change(canvas.links, s, t)
    return canvas.saved()


@case
def links_swapped_between_nodes() -> Raw:
    def change(_: Any, s: Raw, t: Raw) -> None:
        s["inputs"][0]["link"], t["inputs"][0]["link"] = 5, 3

    return disagreeing(change)


@case
def links_swapped_in_a_node() -> Raw:
    def change(_: Any, s: Raw, __: Raw) -> None:
        s["inputs"][0]["link"], s["inputs"][1]["link"] = 4, 3

    return disagreeing(change)


@case
def links_not_named() -> Raw:
    def change(_: Any, s: Raw, t: Raw) -> None:
        s["inputs"], t["inputs"][0]["link"] = [], None

    return disagreeing(change)


@case
def links_named_twice() -> Raw:
    def change(_: Any, s: Raw, __: Raw) -> None:
        s["inputs"][1]["link"] = 3

    return disagreeing(change)


@case
def links_to_another_node() -> Raw:
    def change(links: Any, s: Raw, t: Raw) -> None:
        links[2][3:5] = t["id"], 0

    return disagreeing(change)


@case
def links_to_a_taken_input() -> Raw:
    def change(links: Any, s: Raw, t: Raw) -> None:
        links[4][3:5] = s["id"], 0
        s["inputs"][0]["link"] = 5

    return disagreeing(change)


@case
def links_with_a_wrong_number() -> Raw:
    def change(links: Any, s: Raw, t: Raw) -> None:
        links[2][4], links[3][4], links[4][4] = 1, 0, 7

    return disagreeing(change)


@case
def links_in_a_subgraph() -> Raw:
    inside = Canvas()
    s, t = (inside.node("PLatent", [64, 128, 1], key=key) for key in (12, 13))
    d = subgraph(
        "Ln",
        inside,
        [("h", "INT", [(s, "height"), (t, "width")])],
        [("LATENT", s, 0), ("LATENT", t, 0)],
    )
    s["inputs"][0]["link"] = t["inputs"][0]["link"] = None
    canvas = Canvas()
    i = canvas.instance(d, [7])
    canvas.link(canvas.node("PInt", [5]), 0, i, "h")
    i["inputs"][0]["link"] = None
    for slot in (0, 1):
        canvas.link(i, slot, canvas.node("PSink"), "any")
    return canvas.saved()
