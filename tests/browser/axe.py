"""axe-core, which checks a page for users of screen readers and for users with low vision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Locator

MODULES = REPOSITORY / "js" / "node_modules"
SCRIPT = MODULES / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

RUN = """async (panel, tags) => {
    const { violations } = await window.axe.run(panel, {
        runOnly: { type: "tag", values: tags },
        resultTypes: ["violations"],
    });
    return violations.flatMap(({ id, nodes }) =>
        nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}: ${failureSummary}`));
}"""


def install() -> None:
    """Install what js/package.json names, unless it is there."""
    if not SCRIPT.is_file() or not (MODULES / "dejavu-fonts-ttf").is_dir():
        npm = [str(REPOSITORY / "scripts" / "node.sh"), str(Path(sys.prefix)), "npm"]
        where = ["--prefix", str(REPOSITORY / "js"), "ci", "--silent", "--ignore-scripts"]
        subprocess.run([*npm, *where], check=True, timeout=300)


def violations(panel: Locator) -> list[Any]:
    """Return what axe finds in a panel by the rules of WCAG 2.2 up to AA."""
    install()
    panel.page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    return list(panel.evaluate(RUN, RULES))
