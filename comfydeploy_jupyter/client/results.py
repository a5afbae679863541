"""The result of a run: its files, and how it is shown."""

from __future__ import annotations

import html
import io
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import urlsplit

from ..errors import (
    ComfyDeployError,
    InvalidRequestError,
    RunCancelledError,
    RunFailedError,
    printable,
)
from ..graphs.outputs import NodeFile, files_of, is_model, pairs_of, texts_of
from ..graphs.validation import failure_of
from ..util.markup import data_url, html_table
from ..util.media_types import is_hdr, is_picture, media_type
from .files import human_size, rename_or_number, unfinished, with_files
from .graph import Source
from .server import Reply, Server
from .text import Terminal, counted, duration, one_line

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import requests
    from PIL.Image import Image

    from ..graphs.outline import NodeName


WEB_IMAGES = frozenset(
    {"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/svg+xml"}
)
"""The MIME types that browsers show in ``<img>``."""


@dataclass(frozen=True)
class RunOutput:
    """An output of a run as the input of another one, also while the first one has not ended."""

    prompt_id: str
    """The run."""
    file: str = ""
    """The output, such as ``SaveImage.images[0]``; empty: the only one."""

    def to_input(self) -> dict[str, Any]:
        """Return it as the value of an input in a request."""
        file = {"file": self.file} if self.file else {}
        return {"$output": {"run": self.prompt_id, **file}}


class RunOutputs:
    """Outputs of a run that may not have ended: an index gives the input of another run."""

    def __init__(self, prompt_id: str, name: str) -> None:
        self._prompt_id = prompt_id
        self._name = name

    def __getitem__(self, index: int) -> RunOutput:
        if index < 0:
            raise IndexError(f"{self._name}[{index}]: count from the first one, which is 0")
        return RunOutput(self._prompt_id, f"{self._name}[{index}]")

    def __iter__(self) -> Iterator[RunOutput]:
        raise TypeError(
            f"how many {self._name} there are is known at the end of the run: use"
            f" run.wait().{self._name}, or comfy.map"
        )

    def to_each(self) -> dict[str, str]:
        """Return all of them as a source of values of an input, in a request."""
        return {"run": self._prompt_id, "file": self._name}

    def __repr__(self) -> str:
        return f"<{self._name} of the run {self._prompt_id}>"


def as_input(value: Any) -> Any:
    """Return the value of an input with outputs of runs as requests name them."""
    return with_files(value, lambda f: f.to_input() if hasattr(type(f), "to_input") else f)


@dataclass(frozen=True)
class OutputFile:
    """One file that a run made.

    Attributes
    ----------
    filename, subfolder, type : str
        Its location in ComfyUI; `type` is ``output``, ``temp`` or ``input``.
    id, preview_id : str
        The assets of ComfyUI that it is, and that show it. Each run has other ids. ``""`` without
        assets.
    width, height : int or None
        Its size in pixels, as ComfyUI says it together with the asset; else None.
    """

    node_id: str
    """The node that made it."""
    kind: str
    """The key of the node's output that lists it: ``images``, ``audio``, ``video``, …"""
    filename: str
    subfolder: str
    type: str
    id: str = field(repr=False, compare=False)
    preview_id: str = field(repr=False, compare=False)
    width: int | None = field(repr=False, compare=False)
    height: int | None = field(repr=False, compare=False)
    prompt_id: str = field(compare=False)
    """The run that made it."""
    index: int = field(compare=False)
    """Its place among the files of the same kind of its node, from 0."""
    _server: Server = field(repr=False, compare=False)
    _address: str = field(repr=False, compare=False)
    _cache: dict[str, bytes] = field(repr=False, compare=False, default_factory=dict)
    _lock: threading.Lock = field(repr=False, compare=False, default_factory=threading.Lock)

    def to_input(self) -> dict[str, Any]:
        """Return it as the value of an input of another run, in a request."""
        name = f"{self.node_id}.{self.kind}[{self.index}]"
        return RunOutput(self.prompt_id, name).to_input()

    @property
    def mime(self) -> str:
        """The MIME type, guessed from the name."""
        return media_type(self.filename) or "application/octet-stream"

    @property
    def is_image(self) -> bool:
        """Whether Pillow can open it, judging by its name."""
        return is_picture(self.filename)

    @property
    def is_hdr(self) -> bool:
        """Whether it is a picture with high dynamic range (EXR, HDR), judging by its name."""
        return is_hdr(self.filename)

    @property
    def medium(self) -> str:
        """``image``, ``video``, ``audio``, ``3d`` or ``file``, judging by the name.

        ``image`` is a picture that browsers can show or Pillow can open; EXR and HDR pictures are
        ``file``.
        """
        if self.mime in WEB_IMAGES or self.is_image:
            return "image"
        if is_model(self.filename):
            return "3d"
        kind = self.mime.partition("/")[0]
        return kind if kind in {"video", "audio"} else "file"

    @property
    def size(self) -> int:
        """Its size in bytes; this sends a request."""
        if "content" in self._cache:
            return len(self._cache["content"])
        with self._request() as response:
            return int(response.headers.get("Content-Length", -1))

    @property
    def url(self) -> str:
        """Its address at the Jupyter server, without a token; opening it needs a sign-in."""
        return self._address

    @property
    def query(self) -> str:
        """The query of its address, as the route ``view`` takes it."""
        return urlsplit(self._address).query

    def thumbnail(self, side: int = 384) -> bytes:
        """Return a small copy of a picture as WebP, made by the server.

        Of another file, it is one of the picture that ComfyUI says shows it, see `preview_id`.
        Raises InvalidRequestError if there is none.

        Parameters
        ----------
        side : int
            Its longest side, pixels, 16 to 1024.
        """
        address = f"{self._address}&thumbnail={side}"
        if self.medium != "image" and not self.is_hdr and self.preview_id not in ("", self.id):
            address += f"&preview={self.preview_id}"
        with self._server.request("GET", address) as response:
            return response.content

    def read(self) -> bytes:
        """Return its content, which is fetched once."""
        with self._lock:
            if "content" not in self._cache:
                with self._request() as response:
                    self._cache["content"] = response.content
            return self._cache["content"]

    def save(self, directory: str | os.PathLike[str] = ".") -> Path:
        """Write it into a folder, which is created if it is missing.

        Returns
        -------
        Path
            The path of the written file. A file of the same name with other content is not
            replaced; then this one gets a free name, such as ``a (1).png``.
        """
        folder = Path(directory).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        name = PurePosixPath(self.filename.replace("\\", "/")).name
        if name in {"", ".", ".."}:
            raise ComfyDeployError(f"{self.filename!r} is not the name of a file")
        with unfinished(folder) as file:
            if "content" in self._cache:
                file.write(self._cache["content"])
            else:
                with self._request() as response:
                    file.writelines(response.iter_content(1 << 20))
            file.close()
            return rename_or_number(Path(file.name), folder / name)

    def _request(self) -> AbstractContextManager[requests.Response]:
        return self._server.request("GET", self._address)


class Images(Sequence["Image"]):
    """The pictures of a result; each is fetched when it is first used."""

    def __init__(self, files: list[OutputFile]) -> None:
        self._files = files
        self._open: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position not in self._open:
            import PIL.Image

            image = PIL.Image.open(io.BytesIO(self._files[position].read()))
            image.load()
            self._open[position] = image
        return self._open[position]

    def __repr__(self) -> str:
        names = ", ".join(file.filename for file in self._files)
        return printable(f"<{counted(len(self), 'image')}: {names}>")


INLINE_IMAGES = 24
"""The most pictures that are embedded; `Result.images` has all."""

INLINE_BYTES = 1_500_000
"""The largest picture that is embedded as it is, bytes; a larger one is made smaller first."""

INLINE_MEDIA_BYTES = 8_000_000
"""The largest video or sound that is embedded, bytes; only the name of a larger one is shown."""

FOLDED_LINES, FOLDED_CHARACTERS = 12, 1200
"""The longest text that is shown in full; of a longer one the beginning is shown at first."""

PREVIEW_SIDE = 1024
"""Longest side of a picture that was made smaller, pixels."""


def _headline(result: Result) -> str:
    colour = {
        "success": "var(--jp-success-color1,#388e3c)",
        "failed": "var(--jp-error-color1,#d32f2f)",
        "cancelled": "var(--jp-warn-color1,#f57c00)",
    }.get(result.status, "var(--jp-brand-color1,#1976d2)")
    facts = [f'<b style="color:{colour}">{html.escape(result.status.capitalize())}</b>']
    if result.execution_time is not None:
        facts.append(f"{result.execution_time:.2f} s")
    if result.cached_nodes:
        facts.append(f"{counted(len(result.cached_nodes), 'node')} from the cache")
    values = sorted({str(seed) for seed in result.seeds.values()})
    if values:
        facts.append(html.escape(f"seed {', '.join(values)}"))
    return f'<div style="margin-bottom:4px">{" · ".join(facts)}</div>'


def _media(result: Result) -> Iterator[str]:
    shown: list[str] = []
    pictures = 0
    for file in result.files:
        is_picture = file.medium == "image" or file.is_hdr
        pictures += is_picture
        if not is_picture or pictures <= INLINE_IMAGES:
            shown.append(_inline(file))
    if shown:
        yield (
            '<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">'
            f"{''.join(shown)}</div>"
        )
    if pictures > INLINE_IMAGES:
        yield f"<div>and {pictures - INLINE_IMAGES} more in <code>result.images</code></div>"


def _timings(result: Result) -> str:
    times = sorted(result.node_times.items(), key=lambda item: -float(item[1]))
    if not times:
        return ""
    named = [(result.node_name(key), float(seconds)) for key, seconds in times]
    rows = [(name.short, name.type, name.id, f"{seconds:.3f}") for name, seconds in named]
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer">Timings</summary>'
        f"{html_table(('node', 'class', 'id', 'seconds'), rows)}</details>"
    )


def _inline(file: OutputFile) -> str:
    name = html.escape(file.filename, quote=True)
    try:
        if file.medium == "image":
            return _img(name, *inline_picture(file))
        if file.is_hdr:
            with suppress(InvalidRequestError):  # the server makes no copies of such pictures
                return _img(name, "image/webp", file.thumbnail(PREVIEW_SIDE // 2))
        size = file.size
        if file.medium in {"video", "audio"} and 0 <= size <= INLINE_MEDIA_BYTES:
            source = data_url(file.mime, file.read())
            return (
                f'<{file.medium} controls title="{name}" src="{source}" '
                f'style="max-width:min(100%,512px)"></{file.medium}>'
            )
    except Exception as error:  # what Pillow raises for a damaged file may be anything
        return _box(f"{file.filename}: {error}")
    facts = " · ".join([file.filename, *([human_size(size)] if size >= 0 else [])])
    return (
        '<div style="padding:6px 12px;overflow-wrap:anywhere;'
        "border:1px solid var(--jp-border-color1,#bdbdbd);border-radius:2px"
        f'"><code>{html.escape(facts)}</code></div>'
    )


def _img(name: str, mime: str, content: bytes) -> str:
    return (
        f'<img alt="{name}" title="{name}" src="{data_url(mime, content)}" '
        'style="max-width:min(100%,512px);height:auto;margin:0">'
    )


def _text(text: str) -> str:
    """Return a text as HTML; only the beginning of a long one, and all of it after a click."""
    style = (
        "margin:8px 0 0;padding:8px 12px;max-height:240px;overflow:auto;white-space:pre-wrap;"
        "border-left:3px solid var(--jp-border-color1,#bdbdbd)"
    )
    full = f'<pre style="{style}">{html.escape(text)}</pre>'
    lines = text.splitlines(keepends=True)
    if len(lines) <= FOLDED_LINES and len(text) <= FOLDED_CHARACTERS:
        return full
    beginning = "".join(lines[:FOLDED_LINES])[:FOLDED_CHARACTERS].rstrip()
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer;white-space:pre-wrap">'
        f"{html.escape(beginning)} … ({len(text)} characters)</summary>{full}</details>"
    )


def inline_picture(file: OutputFile) -> tuple[str, bytes]:
    """Return the MIME type and the content of a picture, small enough to embed in a notebook."""
    content = file.read()
    if not file.is_image and len(content) <= INLINE_BYTES:  # SVG
        return file.mime, content
    import PIL.Image

    if file.mime in WEB_IMAGES and len(content) <= INLINE_BYTES:
        with PIL.Image.open(io.BytesIO(content)) as image:
            image.verify()
        return file.mime, content
    with PIL.Image.open(io.BytesIO(content)) as image:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        smaller = io.BytesIO()
        image.convert("RGBA" if "A" in image.getbands() else "RGB").save(
            smaller, "WEBP", quality=90
        )
    return "image/webp", smaller.getvalue()


def _box(message: str) -> str:
    return (
        '<div style="margin:4px 0;padding:6px 12px;white-space:pre-wrap;'
        "border-left:3px solid var(--jp-error-color1,#d32f2f)"
        f'">{html.escape(message)}</div>'
    )


NAMED_FILES = 3
"""The most files that are named on one line; `Result.files` has all."""

PICTURES = 4
"""The most pictures that are drawn in a terminal."""


def result_text(result: Result, terminal: Terminal | None) -> Iterator[str]:
    """Yield a result piece by piece: status, pictures and names of files, texts."""
    facts = [result.status.capitalize()]
    if result.execution_time is not None:
        facts.append(duration(result.execution_time))
    if result.status == "failed":
        facts.append(result.failure)
    yield _lines(" · ".join(facts), terminal)
    shown = 0
    for file in result.files:
        picture = None
        is_picture = file.is_image or file.is_hdr
        if terminal is not None and is_picture and shown < PICTURES:
            picture = _picture(file, terminal)
        if picture is not None:
            shown += 1
            yield picture
        name = one_line(file.filename)
        yield f"{name if terminal is None else terminal.link(name, file.url)}\n"
    for text in [*result.left_out, *result.texts]:
        yield _lines(text, terminal)


def _lines(text: str, terminal: Terminal | None) -> str:
    """Return a text and a line feed, without characters that the terminal cannot show."""
    text = printable(text)
    return f"{text if terminal is None else terminal.writable(text)}\n"


def _picture(file: OutputFile, terminal: Terminal) -> str | None:
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(file.thumbnail(512))) as image:
            return terminal.picture(image)
    except (ComfyDeployError, OSError, ValueError):
        return None  # the file is gone or is not a picture; its name is shown


class Result(Reply):
    """The result of a run; also a mapping with the keys of the server's reply.

    Displayed in a notebook it shows the pictures, texts and timings of the run. The pictures are
    embedded, so they stay in the saved notebook.
    """

    def __init__(
        self, server: Server, reply: dict[str, Any], workflow: Source | None = None
    ) -> None:
        super().__init__(reply)
        self._server = server
        self._workflow = workflow or Source(None)
        counts: Counter[tuple[str, str]] = Counter()
        self.files = [
            self._file(node_id, file, counts)
            for node_id, output in self.outputs.items()
            for file in files_of(output)
        ]
        self.images = Images([file for file in self.files if file.is_image])

    def __repr__(self) -> str:
        parts = [self.status]
        if self.execution_time is not None:
            parts.append(f"{self.execution_time:.2f} s")
        parts.extend(file.filename for file in self.files[:NAMED_FILES])
        if len(self.files) > NAMED_FILES:
            parts.append(f"and {counted(len(self.files) - NAMED_FILES, 'file')} more")
        if self.texts:
            parts.append(counted(len(self.texts), "text"))
        if self.status == "failed":
            parts.append(self.failure)
        return printable(f"<Result {self.prompt_id}: {', '.join(parts)}>")

    @property
    def status(self) -> str:
        """``success``, ``failed``, ``cancelled``, or the status of a run that has not ended."""
        return str(self._reply.get("status", "not-started"))

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return str(self._reply.get("prompt_id", ""))

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs of each node, by node id, in ComfyUI's format."""
        return _dict(self._reply.get("outputs"))

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that the run used, by ``"<node id>.<input>"``."""
        return _dict(self._reply.get("seeds"))

    @property
    def node_times(self) -> dict[str, float]:
        """The execution time of each node, s, by node id; cached nodes are missing."""
        return _dict(self._reply.get("node_times"))

    @property
    def execution_time(self) -> float | None:
        """The execution time of the run, s."""
        value = self._reply.get("execution_time")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def cached_nodes(self) -> list[str]:
        """The ids of nodes whose outputs came from ComfyUI's cache."""
        value = self._reply.get("cached_nodes")
        return [str(node) for node in value] if isinstance(value, list) else []

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of a failed run: ``type``, ``message``, ``node_id``, ``node_type``.

        It has ``traceback`` if ComfyUI has sent one.
        """
        return _dict(self._reply.get("error")) or None

    @property
    def left_out(self) -> list[str]:
        """Why ComfyUI did not execute some outputs, a sentence for each error; often empty."""
        return self._workflow.complaints(self._reply.get("node_errors"))

    @property
    def texts(self) -> list[str]:
        """The texts among the outputs of nodes."""
        return [text for _, text in self.texts_by_node]

    @property
    def texts_by_node(self) -> list[tuple[NodeName, str]]:
        """The texts among the outputs of nodes, each with the name of its node."""
        return [
            (self.node_name(node_id), text)
            for node_id, output in self.outputs.items()
            for text in texts_of(output)
        ]

    @property
    def pairs(self) -> list[tuple[OutputFile, OutputFile]]:
        """The pictures that nodes compare, as (before, after)."""
        found: list[tuple[OutputFile, OutputFile]] = []
        start = 0
        for output in self.outputs.values():
            found.extend(
                (self.files[start + before], self.files[start + after])
                for before, after in pairs_of(output)
            )
            start += sum(1 for _ in files_of(output))
        return found

    def node_name(self, node_id: str) -> NodeName:
        """Return the id, class and title of a node of the run."""
        return self._workflow.name(node_id)

    @property
    def failure(self) -> str:
        """Why the run failed, in one sentence that names the node; empty if it did not."""
        return failure_of(self.error or {}, self._label)

    def _label(self, node_id: str, node_type: str, title: str) -> str:
        name = self._workflow.name(node_id, node_type)
        if title and not name.title:
            name = replace(name, title=title, unique=True)
        return str(name)

    def raise_for_status(self) -> Result:
        """Return this result if the run succeeded.

        Raises
        ------
        RunFailedError
            A node failed; the message names it.
        RunCancelledError
            The run was cancelled.
        """
        if self.status == "failed":
            failure = self.failure or "the run failed"
            raise RunFailedError(failure, details=self.error, result=self)
        if self.status == "cancelled":
            raise RunCancelledError(f"the run {self.prompt_id} was cancelled", result=self)
        return self

    def save(self, directory: str | os.PathLike[str] = ".") -> list[Path]:
        """Write every file of the run into a folder; return the paths of the written files."""
        return [file.save(directory) for file in self.files]

    def to_input(self) -> dict[str, Any]:
        """Return its only output as the value of an input of another run, in a request."""
        return RunOutput(self.prompt_id).to_input()

    def _file(self, node_id: str, file: NodeFile, counts: Counter[tuple[str, str]]) -> OutputFile:
        # The token is never sent to another server: such a file is requested by its name.
        place = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        address = self._server.owns(file.url) or self._server.address(
            "view", {**place, "machine": self._reply.get("machine")}
        )
        counts[node_id, file.kind] += 1
        return OutputFile(
            node_id,
            *(file.kind, file.filename, file.subfolder, file.type),
            *(file.id, file.preview_id, file.width, file.height),
            *(self.prompt_id, counts[node_id, file.kind] - 1),
            self._server,
            address,
        )

    def to_html(self, *, files: bool = True) -> str:
        """Return the result as HTML in which every text of the run is escaped.

        Parameters
        ----------
        files : bool
            Whether to embed its pictures, videos and sounds.
        """
        parts = [_headline(self)]
        if self.status == "failed":
            parts.append(_box(self.failure or "the run failed"))
        if self.left_out:
            parts.append(_box("\n".join(["Not executed by ComfyUI:", *self.left_out])))
        if files:
            parts.extend(_media(self))
        parts.extend(_text(text) for text in self.texts)
        parts.append(_timings(self))
        return f'<div style="max-width:100%">{"".join(parts)}</div>'

    def _repr_html_(self) -> str:
        return self.to_html()

    def show(self) -> None:
        """Print the result: status, pictures if the terminal can show them, files, texts.

        Files are links if the terminal supports links. A pipe or a file gets plain text.
        """
        for part in result_text(self, Terminal.of(sys.stdout)):
            sys.stdout.write(part)
        sys.stdout.flush()

    def _ipython_display_(self) -> None:
        if Terminal.of(sys.stdout) is None:
            raise NotImplementedError  # IPython then shows it as HTML, or by its repr
        self.show()


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
