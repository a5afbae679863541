"""Each sentence of docs/security.md has a test, or is listed as one that no test can check.

A sentence that is added or changed has to be assigned here.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache

import pytest

from tests.helpers.processes import REPOSITORY

from .sentences import ADVICE, HELD


def sentences() -> list[str]:
    """Return the sentences of the document; of a table each row is one."""
    found = []
    text = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")
    for block in re.split(r"\n\n|\n(?=[-|] ?)", text):
        line = " ".join(block.split()).removeprefix("- ")
        if line.startswith("|"):
            found += [] if re.match(r"\|-", line) else [line]
        elif line and not line.startswith("#"):
            found += re.split(r"(?<=[.:])\s+(?=[A-Z`*\[])", line)
    return found


def test_every_sentence_has_its_tests():
    known = [*HELD, *ADVICE]
    assert len(known) == len(set(known))
    for sentence in sentences():
        fitting = [start for start in known if sentence.startswith(start)]
        assert len(fitting) == 1, f"{sentence!r} is to be in tests/security/sentences.py: {fitting}"
    for start in known:
        assert any(sentence.startswith(start) for sentence in sentences()), f"not there: {start}"


@lru_cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / "tests" / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("start", HELD, ids=lambda start: start[:30])
def test_every_sentence_names_existing_tests(start):
    assert HELD[start]
    for test in HELD[start]:
        path, _, name = test.partition("::")
        assert f"test_{name}" in functions(path), test
