"""``%comfy``: status, runs and panels in one line, after ``%load_ext comfydeploy_jupyter``."""

from __future__ import annotations

import difflib
import html
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from .client.comfy import SHORT_ID
from .client.graph import Source
from .client.graph_text import duration, html_table, text_table
from .client.result_text import NAMED_FILES
from .errors import ComfyDeployError
from .timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Comfy

HELP = """\
%comfy status                   ComfyUI, its queue, uploads
%comfy run FILE [key=value …]   run a workflow; values are JSON, else text; seed=7 sets every seed
%comfy panel [FILE]             a panel to change inputs, run, and see
%comfy runs [NUMBER]            the latest runs
A path or value with spaces goes in quotes: %comfy run "my flow.json" "6.text=a red cat"\
"""

RUNS = 10
"""How many runs ``%comfy runs`` shows."""


@magics_class
class ComfyMagics(Magics):
    """The magic ``%comfy``."""

    _comfy: Comfy | None = None

    @line_magic
    def comfy(self, line: str) -> Any:
        """Run the command of a line; an error is shown as one line without a traceback.

        Raises
        ------
        UsageError
            For every error, since IPython shows it without a traceback.
        """
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
        commands: dict[str, Callable[[list[str]], Any]] = {
            "status": self._status,
            "run": self._run,
            "panel": self._panel,
            "runs": self._runs,
        }
        if not words or words[0] in {"help", "--help", "-h", "?"}:
            return Page(HELP)
        name, *arguments = words
        if name not in commands:
            close = difflib.get_close_matches(name, commands, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"%comfy: there is no command {name!r}{hint}\n{HELP}")
        return commands[name](arguments)

    @property
    def _client(self) -> Comfy:
        """The client: the user's own ``comfy`` if there is one, else a new connection."""
        from . import connect
        from .client import Comfy

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
        inputs = dict(map(parse_pair, pairs))
        seed = inputs.pop("seed", None)
        if seed is not None and type(seed) is not int:
            raise UsageError(f"%comfy run: seed must be a whole number, not {seed!r}")
        source = Source(Path(path))
        return self._client.run(source.graph, inputs, seed=seed)

    def _panel(self, arguments: list[str]) -> Any:
        _no_more(arguments[1:], "panel")
        for path in arguments:
            Source(Path(path))  # raises if it is not a workflow
        from .widgets import default_panel

        return default_panel(self._client, *arguments)

    def _runs(self, arguments: list[str]) -> Page:
        _no_more(arguments[1:], "runs")
        number = RUNS
        if arguments:
            if not arguments[0].isdecimal() or int(arguments[0]) < 1:
                raise UsageError(f"%comfy runs: must be a number, not {arguments[0]!r}")
            number = int(arguments[0])
        return runs_page([run.known for run in self._client.runs(limit=number)])


class Page:
    """A text for terminals and its HTML for notebooks.

    Parameters
    ----------
    text : str
        The text.
    page : str, optional
        The HTML; by default the text in ``<pre>``.
    """

    def __init__(self, text: str, page: str | None = None) -> None:
        self._text = text
        self._page = f"<pre>{html.escape(text)}</pre>" if page is None else page

    @classmethod
    def table(cls, heads: tuple[str, ...], rows: list[tuple[str, ...]], *, empty: str) -> Page:
        """Return a table."""
        if not rows:
            return cls(empty)
        return cls(text_table([heads, *rows]), html_table(heads, rows))

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._page


def status_page(status: dict[str, Any]) -> Page:
    """Return the reply of ``check-status`` as a small table."""
    rows: list[tuple[str, ...]] = []
    for name, value in status.items():
        facts = value if isinstance(value, dict) else {"": value}
        label = name
        for key, item in facts.items():
            if item is not None and item not in ("", []):
                rows.append((label, key.replace("_", " "), _plain(item)))
                label = ""  # only in the first of its rows
    return Page.table(("part", "fact", "value"), rows, empty="Nothing is known")


def runs_page(records: list[dict[str, Any]]) -> Page:
    """Return records of runs as a table: short ids, local times, durations, files."""
    heads = ("id", "status", "started", "took", "files")
    rows = [_run_row(record) for record in records]
    if not rows:
        return Page("No runs yet")
    lines = [(row[0][:SHORT_ID], *row[1:]) for row in rows]
    return Page(text_table([heads, *lines]), html_table(heads, rows))


def parse_pair(pair: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``; a value that is not JSON is text.

    Raises
    ------
    UsageError
        There is no ``=``, or no key.
    """
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise UsageError(
            f"%comfy run: {pair!r} is not key=value; put quotes around what has spaces"
        )
    try:
        return key, json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return key, text


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _no_more(arguments: list[str], command: str) -> None:
    if arguments:
        raise UsageError(f"%comfy {command}: there is no argument {' '.join(arguments)!r}\n{HELP}")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _run_row(record: dict[str, Any]) -> tuple[str, ...]:
    took = record.get("execution_time")
    outputs = record.get("outputs")
    files = [
        str(item["filename"])
        for output in (outputs.values() if isinstance(outputs, dict) else ())
        for items in (output.values() if isinstance(output, dict) else ())
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("filename")
    ]
    more = [f"and {len(files) - NAMED_FILES} more"] if len(files) > NAMED_FILES else []
    return (
        str(record.get("prompt_id", "")),
        str(record.get("status", "")),
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
