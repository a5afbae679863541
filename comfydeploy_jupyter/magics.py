"""What IPython gets: the magic ``%comfy``, and completion of the names in workflows.

``%load_ext comfydeploy_jupyter`` adds both, `connect` only the completion.
"""

from __future__ import annotations

import ast
import difflib
import html
import json
import re
import shlex
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from .client.comfy import Comfy
from .client.graph import Source
from .client.results import NAMED_FILES
from .client.runs import SHORT_ID, status_text
from .client.text import duration, text_table
from .client.workflow import Node, UnknownNameError, Workflow
from .errors import ComfyDeployError
from .graphs.inputs import MAX_POINTS, InputNames
from .graphs.metadata import is_workflow_file
from .graphs.outputs import files_of
from .util.jsons import no_constant
from .util.markup import html_table
from .util.media_types import is_picture
from .util.times import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .client.sweep import Sweep

HELP = """\
%comfy status                   ComfyUI, its queue, uploads
%comfy run FILE [key=value …]   run a workflow; values are JSON, else text; seed=7 sets every seed;
                                @ID or @ID.images[0] is an output of another run
%comfy panel [FILE]             a panel to change inputs, run, and see
%comfy runs [NUMBER]            the latest runs
%comfy batch [list [NUMBER]]    the latest batches
%comfy batch submit FILE [key=value …] [key*=values …]
                                run a workflow with several values of inputs: a JSON list, a range
                                such as 1..8, a text file with one in each line, a folder of
                                pictures; or FILE has a list of graphs, or a whole request
%comfy batch status|wait|cancel|pause|resume|retry ID
                                retry runs failed points again
%comfy back [MACHINE]           the ComfyUI before its last update, which the update has kept
A path or value with spaces goes in quotes: %comfy run "my flow.json" "6.text=a red cat"\
"""

COMMANDS = ("status", "run", "panel", "runs", "batch", "back", "help")
CHANGES = ("cancel", "pause", "resume", "retry")
BATCH = ("list", "submit", "status", "wait", *CHANGES)  # what follows ``%comfy batch``
_OUTPUT = re.compile(r"@([0-9a-f]{8}[0-9a-f-]{0,28})(?:\.(.+))?")
_RANGE = re.compile(r"(-?\d{1,20})\.\.(-?\d{1,20})(?:\.\.(\d{1,20}))?")
RUNS = 10
"""How many runs ``%comfy runs`` shows, and batches ``%comfy batch``."""

ASK_TIMEOUT = 2.0  # s; a completion keeps the kernel busy
TAKES_INPUTS = ("run", "submit", "stream", "sweep")  # of `Comfy`; the inputs are a dict


@magics_class
class ComfyMagics(Magics):
    """The magic ``%comfy``."""

    _comfy: Comfy | None = None

    @line_magic
    def comfy(self, line: str) -> Any:
        """Run the command of a line; an error is shown as one line without a traceback."""
        try:
            return self._do(line)
        except ComfyDeployError as error:
            raise UsageError(f"%comfy: {error}") from error
        except OSError as error:
            named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise UsageError(f"%comfy: {named}") from error

    def _do(self, line: str) -> Any:
        try:
            # on Windows a backslash is a part of a path, not an escape character
            windows = sys.platform == "win32"
            words = shlex.split(line.replace("\\", "\\\\") if windows else line)
        except ValueError as error:
            raise UsageError(f"%comfy: {error}: {line}") from None
        if not words or words[0] in {"help", "--help", "-h", "?"}:
            return Page(HELP)
        name, *arguments = words
        if name not in COMMANDS:
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"%comfy: there is no command {name!r}{hint}\n{HELP}")
        return getattr(self, f"_{name}")(arguments)

    @property
    def _client(self) -> Comfy:
        """The client: the user's own ``comfy`` if there is one, else a new connection."""
        from . import connect

        own = None if self.shell is None else self.shell.user_ns.get("comfy")
        if isinstance(own, Comfy):
            return own
        if self._comfy is None:
            self._comfy = connect()
        return self._comfy

    def _status(self, arguments: list[str]) -> Page:
        _no_more(arguments, "status")
        return status_page(self._client.status())

    def _run(self, arguments: list[str]) -> Any:
        if not arguments:
            raise UsageError("%comfy run: the file is missing: %comfy run FILE [key=value …]")
        path, *pairs = arguments
        inputs, seed = self._inputs(pairs)
        source = Source(Path(path))
        return self._client.run(source.graph, inputs, seed=seed)

    def _inputs(self, pairs: list[str]) -> tuple[dict[str, Any], int | None]:
        """Return the values of ``key=value``, and that of every seed."""
        inputs = {key: self._output(value) for key, value in map(parse_pair, pairs)}
        seed = inputs.pop("seed", None)
        if seed is not None and type(seed) is not int:
            raise UsageError(f"%comfy: seed must be a whole number, not {seed!r}")
        return inputs, seed

    def _output(self, value: Any) -> Any:
        """Return the output of a run that a value such as ``@1f0c9a3e.images[0]`` names."""
        named = _OUTPUT.fullmatch(value) if isinstance(value, str) else None
        return value if named is None else self._client.get(named[1]).output(named[2] or "")

    def _panel(self, arguments: list[str]) -> Any:
        _no_more(arguments[1:], "panel")
        for path in arguments:
            Source(Path(path))  # raises if it is not a workflow
        from .widgets import default_panel

        return default_panel(self._client, *arguments)

    def _runs(self, arguments: list[str]) -> Page:
        number = _number(arguments, "runs")
        return runs_page([run.known for run in self._client.runs(limit=number)])

    def _batch(self, arguments: list[str]) -> Any:
        name, *rest = arguments or ["list"]
        if name == "list":
            limit = _number(rest, "batch list")
            return batches_page(self._client.server.get("batches", limit=limit)["batches"])
        if name == "submit":
            return self._submit(rest)
        if name not in BATCH:
            raise UsageError(f"%comfy batch: there is no command {name!r}\n{HELP}")
        _no_more(rest[1:], f"batch {name}")
        if not rest:
            raise UsageError(f"%comfy batch {name}: the id is missing; %comfy batch lists them")
        batch = self._client.batches.get(rest[0])
        if name == "wait":
            with self._client._view("auto", batch.progress):
                batch.wait()
                batch.progress.finish(batch.status)
            return batch
        if name in CHANGES:
            self._client.server.post(f"batch/{batch.id}/{name}", {})
        return batch_page(batch)

    def _submit(self, arguments: list[str]) -> Sweep:
        if not arguments:
            raise UsageError("%comfy batch submit: the file is missing")
        path, *pairs = arguments
        request = _request_in(Path(path))
        if request is not None:
            _no_more(pairs, "batch submit")
            reply = self._client.server.post("batch", request)
            return self._client.batches.get(reply["batch_id"])
        several = [pair for pair in pairs if pair.partition("=")[0].endswith("*")]
        points = dict(map(parse_values, several))
        if not points:
            raise UsageError("%comfy batch submit: no input has several values: key*=1..8")
        inputs, seed = self._inputs([pair for pair in pairs if pair not in several])
        options: dict[str, Any] = {"seed": seed, "save": False, "wait": False, "progress": False}
        return self._client.sweep(Path(path), points, inputs, **options)

    def _back(self, arguments: list[str]) -> Page:
        _no_more(arguments[1:], "back")
        machine = self._client.machines.get(*arguments)
        notes = machine.go_back()
        comfyui = machine.software["comfyui"]
        kept = f"; ComfyUI {comfyui['kept']['version']} is kept" if comfyui.get("kept") else ""
        return Page("\n".join([f"ComfyUI {comfyui['version']} is used now{kept}.", *notes]))


class Opened(NamedTuple):
    """What is open at the end of a piece of code."""

    brackets: list[int]  # the positions of the brackets that are open
    # the position of the first character of the string that is open; -1 if none is
    string: int = -1
    quote: str = ""  # its quotation marks


def opened(code: str) -> Opened:
    brackets: list[int] = []
    token = re.compile(r"""#[^\n]*|\"{3}|'{3}|["']|[([{]|[)\]}]""")
    found = token.search(code)
    while found is not None:
        text, end = found[0], found.end()
        if text[0] in "\"'":
            inner = r"(?:\\.|[^\\])*?" if len(text) == 3 else r"(?:\\.|[^\\\n])*?"
            rest = re.compile(f"{inner}(?:{text}|(?P<open>\\Z))", re.DOTALL).match(code, end)
            if rest is not None and rest["open"] is not None:
                return Opened(brackets, end, text)
            end = end if rest is None else rest.end()
        elif text in "([{":
            brackets.append(found.start())
        elif text in ")]}" and brackets:
            brackets.pop()
        found = token.search(code, end)
    return Opened(brackets)


def offer_completions(shell: Any) -> None:
    """Have IPython complete names of nodes and inputs of workflows, and lines with ``%comfy``."""
    from IPython.core import completer

    matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", None)
    decorate = getattr(completer, "context_matcher", None)
    if matchers is None or decorate is None:
        return
    name = f"{__name__}.complete"

    @decorate(identifier=name, priority=100)  # type: ignore[untyped-decorator]  # IPython has no types
    def complete(context: Any) -> dict[str, Any]:
        lines = context.full_text.split("\n")[: context.cursor_line + 1]
        lines[-1] = lines[-1][: context.cursor_position]
        fragment, found = "", list[str]()
        with suppress(ComfyDeployError, OSError, ValueError, SyntaxError, RecursionError):
            fragment, found = completions("\n".join(lines), shell.user_ns)
        return {
            "completions": [completer.SimpleCompletion(text=text) for text in found],
            "matched_fragment": fragment,
            "suppress": bool(found),
            "ordered": True,
        }

    matchers[:] = [old for old in matchers if getattr(old, "matcher_identifier", "") != name]
    matchers.append(complete)


def completions(code: str, names: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the end of a piece of code, and the texts that may stand in its place.

    `code` is a cell up to the cursor. No code of other packages is called with the variables.
    """
    line = code.rpartition("\n")[2]
    magic = re.match(r"\s*%comfy\s+", line)
    if magic is not None:
        return _in_magic(line[magic.end() :], names)
    # from the end, so that each character is read once
    backwards = r"""(\w*)\.(\](?:\d+|"[^"\n]*"|'[^'\n]*')\[\w*[^\W\d])"""
    attribute = re.match(backwards, code[::-1])
    if attribute is not None:
        name, thing = attribute[1][::-1], _value(attribute[2][::-1], names)
        return name, _beginning(name, dir(thing) if isinstance(thing, Node) else [])
    open_ = opened(code)
    if open_.string < 0 or not open_.brackets:
        return "", []
    fragment, quote = code[open_.string :], open_.quote[0]
    found = _in_string(code[: open_.string - len(open_.quote)], open_.brackets, names)
    written = [re.sub(rf"([{quote}\\])", r"\\\1", name) for name in found]
    return fragment, _beginning(fragment, written)


def _in_string(code: str, brackets: list[int], names: dict[str, Any]) -> Iterable[str]:
    """Return what a string may be that begins at the end of a piece of code."""
    place = brackets[-1]
    if code[place] == "[" and code[place + 1 :].strip() == "":
        thing = _value(_expression(code[:place]), names)
        if isinstance(thing, Node):
            return thing
        return [] if thing is None else thing._ipython_key_completions_()
    is_key = code[place] == "{" and code.rstrip()[-1] in "{,"
    if not is_key or len(brackets) < 2 or code[brackets[-2]] != "(":
        return []
    begin = brackets[-2]
    owner, _, method = _expression(code[:begin]).rpartition(".")
    thing = names.get(owner)
    if isinstance(thing, Workflow) and method == "set":
        return InputNames(thing.source.graph or {}).all()
    if not isinstance(thing, Comfy) or method not in TAKES_INPUTS:
        return []
    before = code[begin + 1 : place].rstrip()
    if before.endswith("="):
        before = before[:-1].rstrip().removesuffix("inputs")
    before = before.rstrip(", \t\n")
    call = ast.parse(f"f({before})", mode="eval").body
    assert isinstance(call, ast.Call)
    given: dict[str | None, ast.expr] = {each.arg: each.value for each in call.keywords}
    if "workflow_id" in given:
        query = {"workflow_id": _argument(given["workflow_id"], names), "version": "latest"}
        stored = thing.server.get("workflow/version", timeout=ASK_TIMEOUT, **query)
        return InputNames(stored["workflow_api"]).all()
    source = given.get("workflow", call.args[0] if call.args else None)
    return [] if source is None else names_of_inputs(_argument(source, names), thing)


def names_of_inputs(source: Any, comfy: Comfy | None) -> list[str]:
    """Return the names of the inputs of a workflow, in any form that `Comfy.run` takes."""
    if isinstance(source, Workflow):
        return InputNames(source.source.graph or {}).all()
    if isinstance(source, (str, Path)) and not str(source).lstrip().startswith("{"):
        path = Path(source).expanduser()
        facts = path.stat()
        return _names_in_file(path.absolute(), facts.st_mtime_ns, facts.st_size, comfy)
    loaded = Source(source)
    graph = loaded.graph or {}
    if loaded.is_ui:
        if comfy is None:
            return []
        body = {"workflow": graph, "to": "api"}
        graph = comfy.server.post("workflow/convert", body, timeout=ASK_TIMEOUT)["workflow_api"]
    return InputNames(graph).all()


@lru_cache(maxsize=16)
def _names_in_file(path: Path, _changed: int, _size: int, comfy: Comfy | None) -> list[str]:
    return names_of_inputs(path.read_bytes(), comfy)


def _in_magic(line: str, names: dict[str, Any]) -> tuple[str, list[str]]:
    """Return what `completions` does, for what follows ``%comfy``."""
    begin = 0
    while found := re.match(r"""(?:"[^"]*"|'[^']*'|[^\s"'])*\s+""", line[begin:]):
        begin += found.end()
    words, fragment = shlex.split(line[:begin]), line[begin:]
    quote = fragment[:1] if fragment[:1] in ("'", '"') else ""
    typed = fragment.removeprefix(quote)
    texts: list[str] = []
    if not words:
        texts = [name for name in COMMANDS if name.startswith(typed)]
    elif words == ["batch"]:
        texts = _beginning(typed, BATCH)
    elif words in (["run"], ["panel"], ["batch", "submit"]):
        texts = _beginning(
            typed, _files_in(Path(typed) if typed.endswith("/") else Path(typed).parent)
        )
    elif (words[0] == "run" or words[:2] == ["batch", "submit"]) and "=" not in typed:
        comfy = names.get("comfy")
        source = words[1] if words[0] == "run" else words[2]
        known = names_of_inputs(source, comfy if isinstance(comfy, Comfy) else None)
        ends = ("=",) if words[0] == "run" else ("=", "*=")
        texts = [f"{name}{end}" for name in _beginning(typed, [*known, "seed"]) for end in ends]
    elif len(words) == 2 and words[0] == "batch" and isinstance(names.get("comfy"), Comfy):
        found = names["comfy"].server.get("batches", limit=RUNS, timeout=ASK_TIMEOUT)["batches"]
        texts = _beginning(typed, [batch["batch_id"][:SHORT_ID] for batch in found])
    return fragment, [_in_quotes(text, quote) for text in texts]


def _files_in(folder: Path) -> list[str]:
    """Return the names of the folders and of the workflow files in a folder, as they are typed."""
    shown = [path for path in sorted(folder.expanduser().iterdir()) if path.name[0] != "."]
    begin = "" if folder == Path() else f"{folder.as_posix().rstrip('/')}/"
    return [
        f"{begin}{path.name}{'/' if path.is_dir() else ''}"
        for path in shown
        if path.is_dir() or is_workflow_file(path)
    ]


def _in_quotes(text: str, quote: str) -> str:
    """Return a word of a line as `shlex` reads it, without a closing quotation mark."""
    if not quote and not re.search(r"[\s\"'\\]", text):
        return text
    quote = quote or ("'" if '"' in text else '"')
    return quote + (re.sub(r'(["\\])', r"\\\1", text) if quote == '"' else text)


def _expression(code: str) -> str:
    """Return the names with dots, or the node of a workflow, at the end of a piece of code."""
    backwards = r"""\s*((?:\w+\.|\](?:\d+|"[^"\n]*"|'[^'\n]*')\[)*\w*[^\W\d])"""
    found = re.match(backwards, code[::-1])
    return "" if found is None else found[1][::-1]


def _value(expression: str, names: dict[str, Any]) -> Any:
    """Return the workflow, its inputs, or the node of it that an expression names, else None."""
    end = re.search(r"\W|\Z", expression)
    owner, rest = (expression[: end.start()], expression[end.start() :]) if end else ("", "")
    thing = names.get(owner)
    if not isinstance(thing, Workflow):
        return None
    if rest == ".inputs":
        return thing.inputs
    if not rest:
        return thing
    with suppress(UnknownNameError):
        return thing[ast.literal_eval(rest[1:-1])] if rest[0] == "[" else None
    return None


def _argument(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return the value of an argument: a variable, a literal, or the text in a call."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Call) and len(node.args) == 1:
        node = node.args[0]  # such as Path("x.json")
    return ast.literal_eval(node)


def _beginning(typed: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name.lower().startswith(typed.lower())]


class Page:
    """A text for terminals and its HTML for notebooks."""

    def __init__(self, text: str, page: str | None = None) -> None:
        self._text = text
        self._page = f"<pre>{html.escape(text)}</pre>" if page is None else page

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._page


def status_page(status: dict[str, Any]) -> Page:
    """Return the reply of ``check-status`` as a small table."""
    heads, rows = ("part", "fact", "value"), list[tuple[str, ...]]()
    for name, value in status.items():
        facts = value if isinstance(value, dict) else {"": value}
        label = name
        for key, item in facts.items():
            if item is not None and item not in ("", []):
                rows.append((label, key.replace("_", " "), _plain(item)))
                label = ""  # only in the first of its rows
    return Page(text_table([heads, *rows]), html_table(heads, rows))


def runs_page(records: list[dict[str, Any]]) -> Page:
    """Return records of runs as a table: short ids, local times, durations, files."""
    heads = ("id", "status", "started", "took", "files")
    return _page_of("runs", heads, [_run_row(record) for record in records])


def batches_page(batches: list[dict[str, Any]]) -> Page:
    heads = ("id", "state", "started", "points", "title")
    rows = [
        (
            str(batch["batch_id"]),
            str(batch["state"]),
            _local_time(batch["created_at"]),
            _counts(batch),
            str(batch["title"]),
        )
        for batch in batches
    ]
    return _page_of("batches", heads, rows)


def _page_of(what: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Page:
    if not rows:
        return Page(f"No {what} yet")
    lines = [(row[0][:SHORT_ID], *row[1:]) for row in rows]
    return Page(text_table([heads, *lines]), html_table(heads, rows))


def batch_page(batch: Sweep) -> Page:
    record, left = batch.record, batch.record["time_left"]
    facts = {name: record[name] for name in ("state", "why", "title", "machine", "labels")}
    facts["points"] = _counts(record)
    if record["finished_at"] is None and left is not None:
        facts["time_left"] = f"about {duration(left)}"
    return status_page({batch.id: facts})


def _counts(batch: dict[str, Any]) -> str:
    """Return the counts of a batch in words, e.g. ``"6: 5 success, 1 failed"``."""
    counts = ", ".join(f"{count} {status}" for status, count in batch["counts"].items())
    return f"{batch['total']}: {counts}" if counts else str(batch["total"])


def parse_pair(pair: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``; a value that is not JSON is text."""
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise UsageError(
            f"%comfy run: {pair!r} is not key=value; put quotes around what has spaces"
        )
    try:
        return key, json.loads(text, parse_constant=no_constant)
    except ValueError:
        return key, text


def parse_values(pair: str) -> tuple[str, list[Any]]:
    key, _, text = pair.partition("*=")
    found = _RANGE.fullmatch(text)
    if found is not None:
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        way = -1 if last < first else 1
        if not step or abs(last - first) // step >= MAX_POINTS:
            raise UsageError(f"%comfy batch submit: {pair!r} has more than {MAX_POINTS} values")
        return key, [*range(first, last + way, step * way)]
    values: Any = None
    with suppress(ValueError, RecursionError):
        values = json.loads(text, parse_constant=no_constant)
    if text and not isinstance(values, list):
        with suppress(OSError, ValueError, RuntimeError):  # no path, or no file of text
            values = _values_in(key, Path(text).expanduser())
    if not key or not isinstance(values, list):
        raise UsageError(
            f"%comfy batch submit: {pair!r} is not key*=values, which are a JSON list, a range such"
            " as 1..8, a text file or a folder of pictures"
        )
    return key, values


def _values_in(key: str, path: Path) -> list[Any]:
    """Return the pictures in a folder, or the values in a text file, one in each line."""
    if path.is_dir():
        return [each for each in sorted(path.iterdir()) if is_picture(each.name)]
    lines = path.read_text("utf-8").splitlines()
    return [parse_pair(f"{key}={line.strip()}")[1] for line in lines if line.strip()]


def _request_in(path: Path) -> dict[str, Any] | None:
    """Return the request of a batch that a file has; None if it has a workflow."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None  # such as a picture
    if isinstance(content, list):
        return {"prompts": content}
    sources = ("workflow_id", "workflow_api", "workflow", "workflow_api_raw", "prompts")
    return content if isinstance(content, dict) and any(n in content for n in sources) else None


def _number(arguments: list[str], command: str) -> int:
    """Return how many items a command is to show."""
    _no_more(arguments[1:], command)
    if not arguments:
        return RUNS
    if not arguments[0].isdecimal() or int(arguments[0]) < 1:
        raise UsageError(f"%comfy {command}: must be a number, not {arguments[0]!r}")
    return int(arguments[0])


def _no_more(arguments: list[str], command: str) -> None:
    if arguments:
        raise UsageError(f"%comfy {command}: there is no argument {' '.join(arguments)!r}\n{HELP}")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_plain(each)}" for name, each in value.items() if each is not None
        )
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _run_row(record: dict[str, Any]) -> tuple[str, ...]:
    took = record.get("execution_time")
    outputs = (record.get("outputs") or {}).values()
    files = [file.filename for output in outputs for file in files_of(output)]
    more = [f"and {len(files) - NAMED_FILES} more"] if len(files) > NAMED_FILES else []
    return (
        str(record.get("prompt_id", "")),
        status_text(record),
        _local_time(record.get("created_at")),
        duration(took) if isinstance(took, (int, float)) else "",
        ", ".join([*files[:NAMED_FILES], *more]),
    )


def _local_time(timestamp: Any) -> str:
    """Return a timestamp in local time, e.g. ``"2026-03-01 10:00:00"``."""
    try:
        return f"{parse_timestamp(str(timestamp)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return ""
