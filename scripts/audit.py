"""Look for known vulnerabilities of the installed packages, with pip-audit and OSV.

    python scripts/audit.py [--url https://api.osv.dev/v1/query] [--required]

The exit code is 1 if there are any. If no service replies, because the machine has no internet, a
message is printed; with ``--required`` the exit code is then 1 too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

SERVICE = "https://api.osv.dev/v1/query"
VULNERABLE = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "2.4.1"}
"""A package with known vulnerabilities, which every usable service reports."""


def answers(url: str) -> str | None:
    """Return the reason why a service is not usable, None if it is."""
    request = urllib.request.Request(
        url, json.dumps(VULNERABLE).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            found = json.loads(response.read(8 * 1024 * 1024))
    except (OSError, ValueError) as error:
        return str(error)
    if not isinstance(found, dict) or not found.get("vulns"):
        return "it knows no vulnerability of a package that is known to have some"
    return None


def installed() -> str:
    """Return the installed packages except this project as pinned requirements."""
    command = [sys.executable, "-m", "pip", "list", "--exclude-editable", "--format=freeze"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Audit the environment, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default=SERVICE, help="where OSV's API is")
    parser.add_argument("--required", action="store_true", help="fail where no service answers")
    options = parser.parse_args(arguments)
    reason = answers(options.url)
    if reason is not None:
        print(f"SKIPPED: nothing was audited, {options.url} is not available: {reason}")
        return int(options.required)
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(installed(), encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv"),
            *("--osv-url", options.url, "--cache-dir", folder, "--progress-spinner", "off"),
            *("--strict", "--no-deps", "--disable-pip", "--requirement", str(pinned)),
        ]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
