"""Validate the settings of a machine; each error names the field.

Functions that read files are to be called in a thread.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..comfyui.client import PLAIN, Access
from ..comfyui.find import (
    INSTALL_COMMAND,
    has_gpu,
    is_comfyui_tree,
    launch_options,
    what_answers,
)
from ..comfyui.folders import Folders
from ..comfyui.process import option_value, port_number
from ..errors import ComfyUIUnavailableError, InvalidRequestError
from ..util.secrets import unmasked_arguments
from .hardware import gpus_of_driver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..schemas import MachineConfig
    from ..util.peers import Peers

_SHELL = re.compile(r"[;|&$`<>\x00-\x1f\x7f]")
_OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(=.*)?", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GPU = re.compile(r"\d{1,3}(,\d{1,3})*|(GPU|MIG)-[0-9A-Za-z/-]+(,(GPU|MIG)-[0-9A-Za-z/-]+)*")
MOST_ARGUMENTS = 200
LONGEST = 4096  # characters of one argument
OF_CLUSTERS = ("cluster", "scheduler", "security", "workers", "shared_dir")
PROBE_TIMEOUT = 5.0  # seconds that a process at an address has to answer


def check_without_cluster(request: MachineConfig, kind: str) -> None:
    """Raise if a request for a machine of another kind has fields of a pool on a cluster."""
    for name in OF_CLUSTERS:
        if getattr(request, name) is not None:
            raise InvalidRequestError.of_field(
                name, f"is for a pool on a Dask cluster (kind dask), not for the kind {kind}"
            )


def split_arguments(given: Sequence[str] | str) -> tuple[str, ...]:
    """Return launch arguments as a tuple; a text is split like shell words, without expansions."""
    try:
        arguments = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise InvalidRequestError.of_field("launch_args", f"cannot be split: {error}") from None
    if len(arguments) > MOST_ARGUMENTS:
        raise InvalidRequestError.of_field("launch_args", f"are more than {MOST_ARGUMENTS}")
    for argument in arguments:
        found = _SHELL.search(argument)
        if found is not None:
            raise InvalidRequestError.of_field(
                "launch_args",
                f"{argument[:80]!r} has {found[0]!r} in it; no shell reads the arguments, so"
                " this has no effect",
            )
        if not argument or len(argument) > LONGEST:
            raise InvalidRequestError.of_field("launch_args", "an argument is empty or too long")
    if arguments and not arguments[0].startswith("-"):
        raise InvalidRequestError.of_field(
            "launch_args", f"{arguments[0][:80]!r} is not an option; options begin with --"
        )
    return tuple(arguments)


def check_options(arguments: Sequence[str], place: str | Path) -> None:
    """Raise if ComfyUI cannot parse its options; without a list of its options, do not raise."""
    port = option_value(arguments, "--port")
    if port is not None and port_number(port) is None:
        raise InvalidRequestError.of_field("launch_args", f"--port {port[:80]!r} is not a port")
    path = Path(place).expanduser()
    Folders(path, argv=arguments)  # validates the options of folders, as ComfyUI does
    known = launch_options(path)
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if not known or option is None or option[1] in {"-h", "--help"}:
            continue
        # argparse accepts a unique prefix of an option.
        if not any(name == option[1] or name.startswith(option[1]) for name in known):
            raise InvalidRequestError.of_field(
                "launch_args", f"the ComfyUI in {path} has no option {option[1][:80]!r}"
            )


def check_tree(given: str) -> Path:
    """Return the folder of a ComfyUI."""
    if "\0" in given:
        raise InvalidRequestError.of_field("comfyui_path", "contains a NUL")
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise InvalidRequestError.of_field("comfyui_path", "must be absolute, or begin with ~")
    if not is_comfyui_tree(path):
        raise InvalidRequestError.of_field(
            "comfyui_path",
            f"there is no ComfyUI in {path}; `{INSTALL_COMMAND} --path {path}` installs one",
        )
    return path


def check_python(given: str) -> None:
    """Raise unless the interpreter exists."""
    path = Path(given).expanduser() if "\0" not in given else Path()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise InvalidRequestError.of_field("comfyui_python", f"there is no program at {given!r}")


def check_environment(given: Mapping[str, str | int | float | None]) -> dict[str, str | None]:
    """Return environment variables as text; None for those that are to be removed."""
    found: dict[str, str | None] = {}
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequestError.of_field(
                "env", f"{name[:80]!r} is not the name of a variable"
            )
        text = None if value is None else str(value)
        if text is not None and ("\0" in text or len(text) > 128 * 1024):
            raise InvalidRequestError.of_field("env", f"{name} contains a NUL or is too long")
        found[name] = text
    return found


def with_secrets(given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return launch arguments in which masked secrets are replaced by the stored ones."""
    try:
        return tuple(unmasked_arguments(given, known))
    except KeyError as error:
        raise InvalidRequestError.of_field(
            "launch_args",
            f"{error.args[0]!r} is the mask of a secret that this server does not have:"
            " send its value",
        ) from None


def check_gpu(given: str | int) -> str:
    """Return the selected GPUs as a value for ``CUDA_VISIBLE_DEVICES``; empty: all of them."""
    text = str(given).replace(" ", "")
    if not text:
        return ""
    if not _GPU.fullmatch(text):
        raise InvalidRequestError.of_field(
            "gpu", "must be the number of a GPU, several as 0,1, or a UUID that begins with GPU-"
        )
    there = gpus_of_driver()
    if not there and not has_gpu():
        raise InvalidRequestError.of_field("gpu", "no GPU was found on this machine")
    known = {str(gpu["index"]) for gpu in there} | {gpu["uuid"] for gpu in there}
    for name in text.split(","):
        if there and name not in known and not name.startswith("MIG-"):
            names = ", ".join(f"{gpu['index']} ({gpu['name']})" for gpu in there)
            raise InvalidRequestError.of_field("gpu", f"there is no GPU {name}; there are {names}")
    return text


async def check_address(url: str, peers: Peers | None = None, access: Access = PLAIN) -> str:
    """Return the validated address of a ComfyUI, which need not answer now."""
    url = url.rstrip("/")
    if "?" in url or "#" in url:
        raise InvalidRequestError.of_field("comfyui_url", "must not contain ? or #")
    if "@" in urlsplit(url).netloc:
        raise InvalidRequestError.of_field("comfyui_url", "must not contain a user or a password")
    try:
        answer = await what_answers(url, PROBE_TIMEOUT, peers=peers, access=access)
    except ComfyUIUnavailableError as error:
        if error.details.get("foreign"):
            reason = f"{url} is not used: {error.details['reason']}"
            raise InvalidRequestError.of_field("comfyui_url", reason) from None
        return url
    if answer is not None:
        raise InvalidRequestError.of_field(
            "comfyui_url", f"the server at {url} is not ComfyUI: {answer}"
        )
    return url
