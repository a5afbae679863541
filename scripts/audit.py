"""Look for known vulnerabilities in what this environment has installed, with pip-audit and OSV.

    python scripts/audit.py [--url https://api.osv.dev/v1/query] [--required]

Ends with 1 if there are any, and says so if nothing could be audited because no service answers
(from a machine without internet); with ``--required`` that is a failure too.
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
"""What every service that deserves the name knows vulnerabilities of."""


def answers(url: str) -> str | None:
    """Return why a service cannot be relied on; None if it can."""
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
    """Return what is installed here, this project aside, as pinned requirements."""
    command = [sys.executable, "-m", "pip", "list", "--exclude-editable", "--format=freeze"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Do it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default=SERVICE, help="where OSV's API is")
    parser.add_argument("--required", action="store_true", help="fail where no service answers")
    options = parser.parse_args(arguments)
    reason = answers(options.url)
    if reason is not None:
        print(f"SKIPPED: nothing was audited, {options.url} is not to be had: {reason}")
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
