"""Jupyter's log as JSON, for programs that read it.

Named in ``ServerApp.logging_config``, see ``docs/monitoring.md``; nothing else needs it.
"""

from __future__ import annotations

from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

_COLOURS = ("color", "end_color", "highlevel")  # other formatters leave these in a record


class JSONFormatter(JsonFormatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message`` and all else it has.

    That is for our lines e.g. ``prompt_id`` and ``machine``; for an exception ``exception``, its
    traceback. It takes the place of a formatter for people: formats for text are left aside.

    Parameters
    ----------
    *_ : object
        What `logging.config` hands to every formatter.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, *_COLOURS],
            timestamp="time",
        )
