"""Try this package with a checkout of ComfyUI, and write a report.

    python scripts/try_comfyui.py /path/to/ComfyUI [--python …/bin/python] [--to FOLDER] [ARGS …]

The report names what a new version changes: classes of nodes, kinds and options of inputs, launch
options, its replies to the recorded prompts, what its editor queues for the recorded workflows, how
this package converts and validates its templates, and the tests that fail with it. ARGS go to
pytest. The checkout is not changed: its ComfyUI gets a base directory of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import traceback
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from comfydeploy_jupyter import __version__
from comfydeploy_jupyter.comfyui.definitions import BUNDLE, core_classes
from comfydeploy_jupyter.comfyui.find import OTHER_VERSIONS, installed_version, launch_options
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from comfydeploy_jupyter.graphs.validation import validate_prompt
from comfydeploy_jupyter.graphs.versions import BUNDLED, NEWEST_TESTED, OLDEST_TESTED
from scripts.bundle_definitions import TEXTS, without_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("definitions", "prompts", "workflows", "templates", "tests")
# The launch options that this package gives, or reads.
OPTIONS = {
    *("--base-directory", "--cpu", "--database-url", "--directml", "--extra-model-paths-config"),
    *("--input-directory", "--listen", "--output-directory", "--port", "--preview-method"),
    *("--temp-directory", "--user-directory"),
}
SHOWN = 400  # characters of an answer


class Report:
    """A report in Markdown."""

    def __init__(self, title: str) -> None:
        self.lines = [f"# {title}", ""]
        self.summary: list[str] = []

    def part(self, heading: str, what: str, rows: Iterable[str]) -> None:
        """Add a section with a list, and its number to the summary."""
        rows = list(rows)
        self.summary.append(f"{what}: {len(rows)}")
        print(self.summary[-1], flush=True)
        self.lines += [f"## {heading}", "", f"{what}: {len(rows)}", "", *(f"- {r}" for r in rows)]
        self.lines.append("")

    def write(self, path: Path) -> None:
        """Write the report, the summary first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        summary = [f"- {line}" for line in self.summary]
        path.write_text("\n".join([*self.lines[:2], *summary, "", *self.lines[2:]]))


def main() -> int:
    """Try the ComfyUI of the command line; return 1 only if there is no report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("path", type=Path, help="the folder of the ComfyUI")
    parser.add_argument("--python", type=Path, help="default: venv/bin/python in that folder")
    parser.add_argument("--to", type=Path, help="default: build/try-comfyui-<version>")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--templates", type=int, default=100, help="how many; default: 100")
    given, arguments = parser.parse_known_args()
    path = given.path.expanduser().resolve()
    python = given.python or path / "venv" / "bin" / "python"
    version, commit = installed_version(path)
    unknown = set(given.parts.split(",")) - set(PARTS)
    if version is None or not python.exists() or unknown:
        why = (
            f"there is no part {', '.join(sorted(unknown))}"
            if unknown
            else f"no interpreter {python}"
        )
        parser.error(f"there is no ComfyUI in {path}" if version is None else why)
    os.environ |= {"COMFYUI_TEST_PATH": str(path), "COMFYUI_TEST_PYTHON": str(python.absolute())}
    to = (given.to or REPOSITORY / "build" / f"try-comfyui-{version}").absolute()
    of = f" at {commit[:12]}" if commit else ""
    report = Report(f"ComfyUI {version}{of} with comfydeploy-jupyter {__version__}")
    report.lines += [f"Tested before: {OLDEST_TESTED} to {NEWEST_TESTED}.", ""]
    parts = given.parts.split(",")
    try:
        if set(parts) - {"tests"}:
            try_server(report, parts, path, given.templates)
        if "tests" in parts:
            try_suite(report, to, arguments)
    finally:
        report.write(to / "report.md")
    print(f"The report is {to / 'report.md'}")
    return 0


def try_server(report: Report, parts: list[str], path: Path, templates: int) -> None:
    """Compare one running ComfyUI with what is recorded."""
    import pytest

    from tests.graphs.validation_prompts import make_files
    from tests.helpers.comfyui import ComfyUIServer

    with tempfile.TemporaryDirectory() as folder:
        server = ComfyUIServer(Path(folder), partner_nodes=True)
        try:
            server.start()
        except pytest.fail.Exception as error:
            report.part("Start", "It does not start", str(error).splitlines()[-30:])
            return
        try:
            version, _ = installed_version(path)
            replaced = ask(f"{server.url}/node_replacements")

            def nodes() -> NodeDefinitions:
                make_files(Path(folder))  # which the recorded prompts name
                info = ask(f"{server.url}/object_info")
                return NodeDefinitions(info, version=version, replacements=replaced)

            comparisons: dict[str, Callable[[], None]] = {
                "definitions": lambda: compare_definitions(
                    report, path, ask(f"{server.url}/object_info"), replaced
                ),
                "workflows": lambda: compare_workflows(report, server.url),
                "prompts": lambda: compare_prompts(report, server.url, nodes()),
                "templates": lambda: compare_templates(report, server.url, nodes(), templates),
            }
            for part, compare in comparisons.items():
                if part in parts:
                    try:
                        compare()
                    except Exception:  # of any type: the other parts are tried nevertheless
                        lines = traceback.format_exc().splitlines()
                        report.part(part, f"Not tried to the end: {part}", lines[-5:])
        finally:
            server.kill()


def ask(url: str) -> Any:
    """Return the JSON at a URL; an empty object if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return {}


# --- definitions


def compare_definitions(report: Report, path: Path, info: dict[str, Any], replaced: Any) -> None:
    """Report what differs from the bundled definitions of the newest tested version."""
    bundle = gzip.decompress((REPOSITORY / "comfydeploy_jupyter" / "comfyui" / BUNDLE).read_bytes())
    before = json.loads(bundle)["object_info"]
    now = {
        name: without_texts(entry)
        for name, entry in info.items()
        if not str(entry.get("python_module")).startswith("custom_nodes.")
    }
    news = sorted(now.keys() - before.keys())
    report.part(
        "Node classes",
        f"New node classes since {core_classes()[0]}",
        (f"`{name}` ({now[name].get('python_module')})" for name in news),
    )
    report.part(
        "Removed", "Removed classes", (f"`{n}`" for n in sorted(before.keys() - now.keys()))
    )
    report.part(
        "Changed",
        "Changed classes",
        (
            f"`{name}`: {'; '.join(changes)}"
            for name in sorted(now.keys() & before.keys())
            if (changes := list(differences(before[name], now[name])))
        ),
    )
    kinds = defaultdict(list)
    options = defaultdict(list)
    known_kinds = {kind for entry in before.values() for _, kind, _ in inputs_in(entry)}
    known_kinds |= {kind for entry in now.values() for kind in strings(entry.get("output"))}
    known_options = {
        (kind, key) for entry in before.values() for _, kind, o in inputs_in(entry) for key in o
    }
    for name, entry in now.items():
        for place, kind, given in inputs_in(entry):
            if kind not in known_kinds:
                kinds[kind].append(f"{name}.{place}")
            for key in given:
                if kind in known_kinds and (kind, key) not in known_options and key not in TEXTS:
                    options[f"{key} of {kind}"].append(f"{name}.{place}")
    for heading, what, found in (
        ("Kinds of inputs", "Unknown kinds of inputs that no node gives", kinds),
        ("Options of inputs", "Options of inputs that were not there before", options),
    ):
        rows = (f"`{key}`: {', '.join(places[:3])}" for key, places in sorted(found.items()))
        report.part(heading, what, rows)
    keys = {key for entry in now.values() for key in entry} - {
        k for e in before.values() for k in e
    }
    report.part(
        "Fields of definitions", "New fields of definitions", (f"`{k}`" for k in sorted(keys))
    )
    useful = ("new_node_id", "input_mapping", "output_mapping")
    rows = {
        old: [{k: r[k] for k in useful if r.get(k)} for r in new] for old, new in replaced.items()
    }
    changed = sorted(k for k in {*rows, *BUNDLED} if rows.get(k) != BUNDLED.get(k))
    report.part("Replacements", "Changed replacements of nodes", (f"`{name}`" for name in changed))
    there = launch_options(path)
    report.part(
        "Launch options",
        "Options that this package gives, and this ComfyUI does not have",
        (f"`{name}`" for name in sorted(OPTIONS - there)),
    )
    named = sorted(there & OTHER_VERSIONS.keys())
    report.lines += [f"Of the options that versions differ in, it has {', '.join(named)}.", ""]


def inputs_in(entry: Any, place: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, kind and options of each input in a definition, also of nested ones."""
    if isinstance(entry, dict):
        for section in ("required", "optional"):
            found = entry.get(section)
            for name, given in found.items() if isinstance(found, dict) else ():
                if isinstance(given, list) and given:
                    kind = given[0] if isinstance(given[0], str) else "COMBO"
                    options = given[1] if len(given) > 1 and isinstance(given[1], dict) else {}
                    yield f"{place}{name}", kind, options
                    yield from inputs_in(options, f"{place}{name}.")
        for key, value in entry.items():
            if key not in ("required", "optional"):
                yield from inputs_in(value, place)
    elif isinstance(entry, list):
        for each in entry:
            yield from inputs_in(each, place)


def strings(value: Any) -> list[str]:
    """Return the texts in a list, and the parts of those that name several types."""
    return [part for v in value or () if isinstance(v, str) for part in (v, *v.split(","))]


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield where two definitions differ, shortly; lists of choices by their number of changes."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            where = f"{place}.{key}" if place else key
            if key not in now:
                yield f"without `{where}`"
            elif key not in before:
                yield f"new `{where}`"
            else:
                yield from differences(before[key], now[key], where)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now) < 10:
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{place}[{number}]")
    elif before != now:
        if isinstance(before, list) and isinstance(now, list):
            yield f"`{place}` has {len(now)} entries, had {len(before)}"
        else:
            yield f"`{place}` is {short(now)}, was {short(before)}"


def short(value: Any) -> str:
    """Return a value as JSON, cut to a length."""
    text = json.dumps(value)
    return f"`{text if len(text) <= SHOWN else text[:SHOWN] + ' …'}`"


# --- recorded and new answers


def compare_prompts(report: Report, url: str, nodes: NodeDefinitions) -> None:
    """Report the recorded prompts to which it replies otherwise than the newest tested version."""
    from tests.graphs.validation_prompts import comparable, post_prompt
    from tests.helpers.graphs import recorded

    lines = recorded("validate_today.jsonl.gz")
    rows = []
    for line in lines:
        prompt = line.pop("prompt")
        name = line.pop("name")
        now = post_prompt(url, prompt)
        same = line.keys() == now.keys()
        if same and "raises" not in line:
            same = comparable(**line) == comparable(**now)
        if not same:
            agreed = "so do we" if agrees(prompt, nodes, now) else "we say something else"
            rows.append(f"{name}: {short(now)} ({agreed}), was {short(line)}")
    report.part("Recorded prompts", f"Changed replies to {len(lines)} recorded prompts", rows)


def agrees(prompt: Any, nodes: NodeDefinitions, reply: dict[str, Any]) -> bool:
    """Return whether the validation of this package has the result of ComfyUI's reply."""
    from tests.graphs.validation_prompts import comparable, comparable_result

    result = validate_prompt(prompt, nodes)
    if reply.get("raises") or result.raises is not None:
        return bool(reply.get("raises")) == (result.raises is not None)
    return bool(comparable_result(result) == comparable(**reply))


def compare_workflows(report: Report, url: str) -> None:
    """Report the recorded workflows for which its editor queues what no recorded editor does."""
    from tests.golden.record_ui_to_api import record, without_titles
    from tests.helpers.graphs import recorded

    lines = {line["name"]: line for line in recorded("ui_to_api.jsonl.gz")}
    found = record(url, {name: line["ui"] for name, line in lines.items()})
    rows = []
    for name, line in lines.items():
        now = without_titles(found[name])
        known = [(line.get(f"api{end}"), line.get(f"error{end}")) for end in ("", "_new")]
        if (now.get("api"), now.get("error")) not in known:
            rows.append(
                f"{name}: {'; '.join(differences(known[-1][0] or known[0][0], now.get('api')))}"
            )
    report.part(
        "Recorded workflows", f"Changed conversions of {len(lines)} recorded workflows", rows
    )


def compare_templates(report: Report, url: str, nodes: NodeDefinitions, number: int) -> None:
    """Report the templates of this ComfyUI that this package converts or validates otherwise."""
    from tests.golden.record_ui_to_api import record, without_titles
    from tests.graphs.validation_prompts import post_prompt

    names = [
        row["name"] for group in ask(f"{url}/templates/index.json") for row in group["templates"]
    ]
    names = names[:: max(1, len(names) // max(1, number))]
    workflows = {name: ui for name in names if (ui := ask(f"{url}/templates/{name}.json"))}
    found = record(url, workflows, None)
    converted, validated = [], []
    for name, ui in workflows.items():
        theirs = without_titles(found[name]).get("api")
        ours = {
            node_id: {key: node[key] for key in ("class_type", "inputs") if key in node}
            for node_id, node in ui_to_api(ui, nodes).graph.items()
        }
        if changes := list(differences(theirs, ours)):
            converted.append(f"{name} (ours against the editor's): {'; '.join(changes[:5])}")
        reply = post_prompt(url, ours)
        if not agrees(ours, nodes, reply):
            result = validate_prompt(ours, nodes)
            answer = {
                "valid": result.valid,
                "error": result.error,
                "node_errors": result.node_errors,
            }
            validated.append(f"{name}: {short(reply)}, we say {short(answer)}")
    report.part("Templates", f"Other conversions of {len(workflows)} of its templates", converted)
    report.part(
        "Checks of templates", f"Other checks of {len(workflows)} of its templates", validated
    )


# --- tests


def try_suite(report: Report, to: Path, arguments: list[str]) -> None:
    """Run the tests that use a ComfyUI, and report those that fail."""
    to.mkdir(parents=True, exist_ok=True)
    results = to / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "comfyui", "-q", "--junitxml", str(results)]
    with (to / "tests.log").open("wb") as log:
        subprocess.run([*command, *arguments], cwd=REPOSITORY, stdout=log, stderr=log, check=False)
    if not results.exists():
        report.part("Tests", "The tests did not run", [f"see {to / 'tests.log'}"])
        return
    cases = list(ET.parse(results).iter("testcase"))
    failed = []
    for case in cases:
        fault = next((each for each in case if each.tag in ("failure", "error")), None)
        if fault is not None:
            first = (fault.get("message") or "").partition("\n")[0]
            failed.append(f"`{case.get('classname')}.{case.get('name')}`: {first[:SHOWN]}")
    skipped = sum(each.tag == "skipped" for case in cases for each in case)
    report.part("Tests", f"Failed tests of {len(cases) - skipped}", failed)


if __name__ == "__main__":
    sys.exit(main())
