"""A replacement for NVIDIA's ``nvidia-smi``: prints the GPUs of a JSON file in its format.

Its first argument is the path of the program that it replaces; the file is beside that.

``nvidia-smi -L`` and ``nvidia-smi --query-gpu=<fields> --format=csv[,noheader][,nounits]`` behave
like those of driver 550; values that a GPU does not have are ``[N/A]``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

UNITS = {
    "memory.total": " MiB",
    "memory.used": " MiB",
    "memory.free": " MiB",
    "utilization.gpu": " %",
}


def main(arguments: list[str]) -> int:
    found: list[dict[str, Any]] | None = json.loads(
        Path(sys.argv[1]).with_suffix(".json").read_text()
    )
    if found is None:
        print(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make"
            " sure that the latest NVIDIA driver is installed and running.\n"
        )
        return 9
    if arguments == ["-L"]:
        for gpu in found:
            print(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
        return 0
    options = dict(argument.split("=", 1) for argument in arguments)
    fields = options["--query-gpu"].split(",")
    form = options["--format"].split(",")
    if "noheader" not in form:
        print(", ".join(fields))
    for gpu in found:
        row = []
        for name in fields:
            if name not in gpu:
                row.append("[N/A]")
            else:
                row.append(f"{gpu[name]}{'' if 'nounits' in form else UNITS.get(name, '')}")
        print(", ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
