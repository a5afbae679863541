"""Jupyter's log as JSON: one object in each line, for any message."""

import io
import json
import logging
import time
from datetime import datetime, timezone

import pytest

from comfydeploy_jupyter.logs import JSONFormatter


@pytest.fixture
def lines():
    """A logger with the formatter as Jupyter sets it up, and a function that reads its lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    text = "%(color)s[%(levelname)1.1s]%(end_color)s %(message)s"
    handler.setFormatter(JSONFormatter(text, "%H"))
    logger = logging.getLogger("test-of-json")
    logger.setLevel("DEBUG")
    logger.addHandler(handler)

    def read():
        assert stream.getvalue().isascii()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield logger, read
    logger.removeHandler(handler)


def test_fields(lines):
    logger, read = lines
    begin = time.time()
    fields = {"prompt_id": "p-1", "execution_time": 1.5, "node_id": None, "color": "\x1b[32m"}
    logger.info("Run %s ended", "p-1", extra=fields)
    (line,) = read()
    logged_at = datetime.fromisoformat(line.pop("time"))
    assert logged_at.tzinfo == timezone.utc
    assert begin - 1 <= logged_at.timestamp() <= time.time() + 1
    assert line == {
        "level": "INFO",
        "logger": "test-of-json",
        "message": "Run p-1 ended",
        "prompt_id": "p-1",
        "execution_time": 1.5,
        "node_id": None,
    }


def test_newlines_exceptions_and_values_that_json_cannot_hold(lines):
    logger, read = lines
    logger.warning("two\nlines\u2028and \ud800 half a pair", extra={"what": {1, "set"}})
    try:
        raise ValueError("with\na newline")
    except ValueError:
        logger.exception("It failed", stack_info=True)
    first, second = read()
    assert first["message"] == "two\nlines\u2028and \ud800 half a pair"
    assert "set" in str(first["what"])
    assert second["exception"].startswith("Traceback (most recent call last):\n")
    assert second["exception"].endswith("ValueError: with\na newline")
    assert second["level"] == "ERROR"


def test_the_record_stays_as_it_is_for_other_handlers():
    record = logging.LogRecord("name", logging.INFO, "file", 1, "%s is %d", ("a", 1), None)
    assert json.loads(JSONFormatter().format(record))["message"] == "a is 1"
    assert logging.Formatter("%(levelname)s %(message)s").format(record) == "INFO a is 1"
