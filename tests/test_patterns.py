"""Every regular expression of the package takes time that grows with the text, not with its square.

The patterns are read from the source, with the ways in which each is used. The tested texts are
made from the patterns: texts that match a part of them over and over, and then do not.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import comfydeploy_jupyter
from tests.helpers.waiting import grows_too_fast

if sys.version_info >= (3, 11):
    from re import _constants as sre
    from re import _parser as parser
else:
    import sre_constants as sre
    import sre_parse as parser


pytestmark = pytest.mark.slow

PACKAGE = Path(comfydeploy_jupyter.__file__).parent
USES = {"search", "match", "fullmatch", "sub", "split", "findall", "finditer"}
SIZE = 1500


@dataclass(frozen=True)
class Pattern:
    """A regular expression, where it stands and how it is used."""

    place: str
    text: str
    flags: int
    use: str


class Words(dict[str, Any]):
    """What is put into a pattern at run time counts as a word."""

    def __missing__(self, name):
        return "word"


def value_of(node):
    """Return the value of a pattern or of flags; None if it is not in the source."""
    with suppress(Exception):
        return eval(ast.unparse(node), {}, Words(re=re))
    return None


def calls_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name):
                yield owner.id, node.func.attr, node


def names_in(tree):
    """Return the names that the results of calls are given."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AnnAssign))]
    return {
        call: target.id
        for node in assigned
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
    }


def every_pattern():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    calls = {path: [*calls_of(tree)] for path, tree in trees.items()}
    uses = defaultdict(set)
    for owner, use, _ in chain.from_iterable(calls.values()):
        if use in USES:
            uses[owner].add(use)
    found = []
    for path, tree in trees.items():
        names = names_in(tree)
        for owner, use, call in calls[path]:
            if owner != "re" or use not in USES | {"compile"} or not call.args:
                continue
            text = value_of(call.args[0])
            if not isinstance(text, str):
                continue
            others = [*call.args[1:], *(word.value for word in call.keywords)]
            flags = [value for value in map(value_of, others) if isinstance(value, re.RegexFlag)]
            place = f"{path.relative_to(PACKAGE)}:{call.lineno}"
            chosen = (uses.get(names.get(call, "")) or {"search"}) if use == "compile" else {use}
            found += [Pattern(place, text, int(sum(flags)), one) for one in chosen]
    return found


def sample(items, repeats=1):
    """Return a text that a parsed pattern matches."""
    written = []
    for kind, value in items:
        if kind is sre.LITERAL:
            written.append(chr(value))
        elif kind is sre.NOT_LITERAL:
            written.append("a" if value != ord("a") else "b")
        elif kind is sre.ANY:
            written.append("a")
        elif kind is sre.IN:
            written.append(one_of(value))
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = value
            count = max(int(least), min(int(most), repeats))
            written.append(sample(inner, repeats) * count)
        elif kind is sre.SUBPATTERN:
            written.append(sample(value[-1], repeats))
        elif kind is sre.BRANCH:
            written.append(sample(value[1][0], repeats))
    return "".join(written)


def one_of(choices):
    """Return a character that a set matches, rather one that other sets match, too."""
    pattern = re.compile(_set_text(choices))
    return next(c for c in map(chr, [97, 48, 32, 10, 45, 46, 95, *range(127)]) if pattern.match(c))


def _set_text(choices):
    written = ["["]
    for kind, value in choices:
        if kind is sre.NEGATE:
            written.append("^")
        elif kind is sre.LITERAL:
            written.append(re.escape(chr(value)))
        elif kind is sre.RANGE:
            written.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        elif kind is sre.CATEGORY:
            written.append(CATEGORIES[value])
    return "".join([*written, "]"])


CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


def pieces(pattern):
    """Return texts to repeat: every beginning, every part and every end of the pattern."""
    parsed = list(parser.parse(pattern.text, pattern.flags))
    inner = [parsed]
    for kind, value in parsed:
        if kind is sre.SUBPATTERN:
            inner.append(list(value[-1]))
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            inner.append(list(value[2]))
    found = dict.fromkeys(["a", " ", "\n"])
    for items in inner:
        for start, end in itertools.combinations(range(len(items) + 1), 2):
            found[sample(items[start:end])] = None
    return [piece for piece in found if piece][:40]


def run(pattern, text):
    compiled = re.compile(pattern.text, pattern.flags)
    if pattern.use == "sub":
        compiled.sub("", text)
    elif pattern.use == "finditer":
        list(compiled.finditer(text))
    else:
        getattr(compiled, pattern.use)(text)


def slow_texts(pattern):
    """Yield what makes a pattern slow: how the text begins, and what is repeated then."""
    parsed = list(parser.parse(pattern.text, pattern.flags))
    heads = ["", *dict.fromkeys(sample(parsed[:end]) for end in range(1, len(parsed)))][:6]
    for head, piece in itertools.product(heads, pieces(pattern)):
        if grows_too_fast(partial(run_repeated, pattern, head, piece), SIZE):
            yield head, piece


def run_repeated(pattern, head, piece, size):
    run(pattern, head + piece * (size // len(piece)) + "\0")


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_time_grows_with_the_text():
    patterns = every_pattern()
    assert len(patterns) > 60
    assert [(pattern, *slow) for pattern in patterns for slow in slow_texts(pattern)] == []
