"""Executes a Dockerfile like a Docker engine, in a folder instead of an image."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    joined = re.sub(r"\\\n", " ", dockerfile)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


class Replay:
    """Executes the steps of a build context, with a folder of the test instead of ``/opt``.

    Parameters
    ----------
    context : pathlib.Path
        The build context.
    root : pathlib.Path
        The folder that replaces ``/opt``.
    env : dict
        The environment of the commands; its ``PATH`` defines their Python.
    """

    def __init__(self, context: Path, root: Path, env: dict[str, str]) -> None:
        self.context = context
        self.root = root
        self.env = dict(env)
        self.folder = root
        self.command: list[str] = []
        self.output = ""

    def run(self) -> None:
        for name, rest in instructions((self.context / "Dockerfile").read_text()):
            getattr(self, f"_{name.lower()}")(rest)

    def _here(self, text: str) -> str:
        return text.replace("/opt/", f"{self.root}/")

    def _from(self, rest: str) -> None:
        assert re.fullmatch(r"python:3\.\d+-slim-bookworm", rest)

    def _env(self, rest: str) -> None:
        self.env.update(pair.split("=", 1) for pair in rest.split())

    def _arg(self, rest: str) -> None:
        assert "=" not in rest

    def _expose(self, rest: str) -> None:
        assert rest == "8188"

    def _workdir(self, rest: str) -> None:
        self.folder = Path(self._here(rest))
        self.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        for source in sources:
            place = self.folder / self._here(target)
            if source.endswith("/"):
                shutil.copytree(self.context / source, place, dirs_exist_ok=True, symlinks=True)
            else:
                shutil.copy(self.context / source, place)

    def _run(self, rest: str) -> None:
        if rest.startswith("apt-get"):
            return  # these programs are installed on the machine of the test
        rest = self._here(re.sub(r"--mount=\S+ ", "", rest))
        command = json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, text=True, capture_output=True, timeout=300
        )
        self.output += done.stdout + done.stderr
        assert done.returncode == 0, f"{rest}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)
