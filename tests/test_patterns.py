"""Every regular expression of the package takes time that grows with the text, not with its square.

The patterns are read from the source, with the ways in which each is used. The tested texts are
made from texts that match: a part of them is repeated, and then they match no more.
"""

import ast
import itertools
import re
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import comfydeploy_jupyter
from tests.helpers.waiting import grows_too_fast

PACKAGE = Path(comfydeploy_jupyter.__file__).parent
USES = ("search", "match", "fullmatch", "sub", "split", "findall", "finditer")
USE = re.compile(rf"\b(\w+)\.({'|'.join(USES)})\(")
ASSIGNED = re.compile(r"\s*(\w+)(?:: [^=]+)? = ")
SIZE = 1500


class Pattern(NamedTuple):
    place: str
    text: str
    flags: int
    use: str


class Words(dict):
    """What is put into a pattern at run time counts as a word."""

    def __missing__(self, name):
        return "word"


def value_of(node):
    """Return the value of a pattern or of flags; None if it is not in the source."""
    with suppress(Exception):
        return eval(ast.unparse(node), {}, Words(re=re))
    return None


def every_pattern():
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    uses = defaultdict(set)
    for name, use in itertools.chain.from_iterable(map(USE.findall, sources.values())):
        uses[name].add(use)
    for path, source in sources.items():
        lines = source.splitlines()
        for call in ast.walk(ast.parse(source)):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=use)):
                    text = value_of(call.args[0])
                case _:
                    continue
            if use not in ("compile", *USES) or not isinstance(text, str):
                continue
            others = [*call.args[1:], *(word.value for word in call.keywords)]
            flags = sum(f for f in map(value_of, others) if isinstance(f, re.RegexFlag))
            name = ASSIGNED.match(lines[call.lineno - 1])
            for one in uses[name[1] if name else ""] or {"search"} if use == "compile" else {use}:
                yield Pattern(f"{path.relative_to(PACKAGE)}:{call.lineno}", text, flags, one)


def matching(pattern):
    """Return some short texts that a pattern matches."""
    found = []

    @settings(max_examples=8, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.from_regex(re.compile(pattern.text, pattern.flags), fullmatch=True))
    def add(text):
        found.append(text[:12])

    add()
    return sorted(set(found), key=len)[-3:]


def run_repeated(pattern, head, piece, size):
    text = head + piece * (size // len(piece)) + "\0"
    compiled = re.compile(pattern.text, pattern.flags)
    if pattern.use == "sub":
        compiled.sub("", text)
    else:
        found = getattr(compiled, pattern.use)(text)
        if pattern.use == "finditer":
            list(found)


def slow_texts(pattern):
    """Yield what makes a pattern slow: how the text begins, and what is repeated then."""
    texts = matching(pattern)
    heads = dict.fromkeys(text[:end] for text in texts for end in range(len(text)))
    parts = (t[i:j] for t in texts for i, j in itertools.combinations(range(len(t) + 1), 2))
    pieces = dict.fromkeys(["a", " ", "\n", *sorted(parts, key=len)])
    for head, piece in itertools.product([*heads][:6], [*pieces][:40]):
        if grows_too_fast(partial(run_repeated, pattern, head, piece), SIZE):
            yield head, piece


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_time_grows_with_the_text():
    patterns = [*every_pattern()]
    assert len(patterns) > 60
    assert [(pattern, *slow) for pattern in patterns for slow in slow_texts(pattern)] == []
