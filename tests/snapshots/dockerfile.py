"""Executes a Dockerfile like a Docker engine, in a folder instead of an image."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments.

    Those of ``COPY`` with a text in the Dockerfile are the target, a line feed and the text.
    """
    found: list[tuple[str, str]] = []
    lines = iter(dockerfile.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1] + " " + next(lines)
        name, _, rest = line.partition(" ")
        if text := re.fullmatch(r'<<"([\w-]+)" (\S+)', rest):
            inner = list(takewhile(lambda each: each != text[1], lines))
            rest = "\n".join([text[2], *inner, ""])
        if line and not line.startswith("#"):
            found.append((name, rest.strip(" ")))
    return found


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
        self.context = context  # or a Dockerfile that needs no other file
        self.root = root
        self.env = dict(env)
        self.folder = root
        self.command: list[str] = []
        self.output = ""

    def run(self) -> None:
        is_file = self.context.is_file()
        dockerfile = self.context if is_file else self.context / "Dockerfile"
        for name, rest in instructions(dockerfile.read_text()):
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
        if "\n" in rest:
            target, _, text = rest.partition("\n")
            (self.folder / target).write_text(text)
            return
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
