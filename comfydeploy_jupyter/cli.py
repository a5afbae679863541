"""The command ``comfydeploy-jupyter``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ComfyDeployError, printable
from .receipts import MAX_SIZE, Receipt, ReceiptError, UnknownReceiptError, read

if TYPE_CHECKING:
    from collections.abc import Sequence

IDENTICAL, DIFFERS, CANNOT = 0, 1, 2  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: the receipt is whole and, with ``--run``, everything was made again; 1: the receipt was
    changed, or what is made differs; 2: this cannot be said.
    """
    parser = argparse.ArgumentParser("comfydeploy-jupyter")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check a receipt, and make its run again")
    verify.add_argument("file", type=Path, help="the receipt")
    verify.add_argument("--key", help="the public key with which it must be signed")
    verify.add_argument("--run", action="store_true", help="make the run again and compare")
    verify.add_argument(
        "--fetch", action="store_true", help="fetch what is missing before, and make the run again"
    )
    verify.add_argument("--nodes", action="store_true", help="name the first node that differs")
    verify.add_argument("--machine", help="the machine that executes it")
    verify.add_argument("--url", help="the address of the Jupyter server, by default found")
    verify.add_argument("--token", help="its token")
    given = parser.parse_args(arguments)
    try:
        receipt = _checked(given.file, given.key)
    except (ReceiptError, OSError) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return CANNOT if isinstance(error, (OSError, UnknownReceiptError)) else DIFFERS
    print(_described(receipt))
    return _repeat(receipt, given) if given.run or given.nodes or given.fetch else IDENTICAL


def _checked(file: Path, key: str | None) -> Receipt:
    with file.open("rb") as source:
        receipt = read(source.read(MAX_SIZE + 1))
    if key is not None and receipt.public_key != key:
        signed = "it is not signed" if receipt.public_key is None else "it has another key"
        raise ReceiptError(f"it was not signed with the key {key}: {signed}")
    return receipt


def _described(receipt: Receipt) -> str:
    record = receipt.record
    comfyui = (record.get("environment") or {}).get("comfyui") or {}
    signed = f"signed with the key {receipt.public_key}" if receipt.public_key else "not signed"
    version = f"ComfyUI {comfyui.get('version') or 'unknown'}"
    lines = [
        f"The receipt is whole; it is {signed}.",
        f"Run {record.get('prompt_id')}, {record.get('finished_at')}, {version}",
    ]
    for kind in ("models", "node_packs"):
        for entry in record.get(kind) or ():
            told = entry.get("sha256") or entry.get("commit") or entry.get("version") or "unknown"
            lines.append(f"  {entry.get('name')}: {told}")
    about = record.get("receipt") or {}
    if about.get("redacted"):
        lines.append(f"Hidden in it: {', '.join(about['redacted'])}")
    if about.get("left_out"):
        names = ", ".join(about["left_out"])
        lines.append(f"Left out, for they tell a secret or a home folder, or are gone: {names}")
    return printable("\n".join(lines))


def _repeat(receipt: Receipt, given: argparse.Namespace) -> int:
    from .client.discovery import connect

    try:
        comfy = connect(given.url, given.token)
        found = comfy.verify(receipt, machine=given.machine, nodes=given.nodes, fetch=given.fetch)
    except ComfyDeployError as error:
        print(error.message, file=sys.stderr)
        return CANNOT
    print(found)
    return {"identical": IDENTICAL, "differs": DIFFERS}.get(str(found.verdict), CANNOT)


if __name__ == "__main__":
    sys.exit(main())
