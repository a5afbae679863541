"""A formatter that writes Jupyter's log as JSON, for programs that read logs.

Users name it in ``ServerApp.logging_config``; see ``docs/monitoring.md``.
"""

from __future__ import annotations

from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

_COLOURS = ("color", "end_color", "highlevel")  # other formatters add these to a record


class JSONFormatter(JsonFormatter):
    """Formats a record as a line of JSON: ``time``, ``level``, ``logger``, ``message`` and more.

    The further fields are the ``extra`` fields of the record, such as ``prompt_id`` and
    ``machine``, and for an exception its traceback as ``exception``. Text formats in the
    configuration are ignored.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, *_COLOURS],
            timestamp="time",
        )
