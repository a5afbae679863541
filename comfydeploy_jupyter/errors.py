"""The error tree of the project.

Each error has the HTTP status and the ``code`` of the route contract. The handlers convert an error
to a JSON reply; the Python client converts the reply back to the same error::

    ComfyDeployError                 500 internal_error
    ├── InvalidJSONError             400 invalid_json
    ├── InvalidRequestError          400 invalid_request     details name the field
    │   ├── UnknownInputError        400 unknown_input       details hold the candidates
    │   └── InvalidInputError        400 invalid_input       details hold what is wrong with each
    ├── PromptInvalidError           400 prompt_invalid      details hold ComfyUI's error object
    ├── NoAPIKeyError                401 no_api_key
    ├── UnauthorizedError            403 unauthorized
    ├── ForbiddenPathError           403 forbidden_path
    ├── ForbiddenAPIURLError         403 forbidden_api_url
    ├── OfflineError                 403 offline             the setting `offline` forbids it
    ├── NotFoundError                404 not_found
    ├── MethodNotAllowedError        405 method_not_allowed
    ├── ConflictError                409 conflict
    ├── TooLargeError                413 too_large
    ├── UnsupportedPlatformError     501 unsupported_platform  on Windows
    ├── CloudError                   502 cloud_error         or the service's own 4xx
    ├── TunnelFailedError            502 tunnel_failed
    ├── DockerFailedError            502 docker_failed       details hold the last lines of the log
    ├── ComfyUIUnavailableError      503 comfyui_unavailable with a hint
    ├── DockerUnavailableError       503 docker_unavailable  with the path of the build context
    ├── StoreUnavailableError        503 store_unavailable   with a hint; details hold the reason
    ├── RunTimeoutError              504 timeout             with the prompt_id
    ├── NoSpaceError                 507 no_space            of the disk, for records and the like
    ├── ServerUnreachableError       raised by the Python client only, never a reply
    └── RunError                     likewise
        ├── RunFailedError           a node failed; names the node
        └── RunCancelledError
"""

from __future__ import annotations

import errno
import os
import re
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)
C = TypeVar("C", bound="ComfyDeployError")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of the operating system for a full disk, quota or file."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    r"""Return a text with its control characters replaced by escapes such as ``\x1b``.

    Names and messages may come from workflows and services of unknown
    authors, and a terminal executes control sequences in them. Line feeds and tabs stay.
    """
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def traceback_lines(error: BaseException) -> list[str]:
    """Return what IPython shows for an error that this package explains: its message.

    The frames of this package are left out. The others are shown if the user's code has functions
    of its own, and all with ``%xmode Verbose``.
    """
    shell = sys.modules["IPython"].get_ipython()
    frames: list[TracebackType] = []
    following = error.__traceback__
    while following is not None:
        frames.append(following)
        following = following.tb_next
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    theirs = f"{os.sep}IPython{os.sep}"
    begin = next((index for index, file in enumerate(files) if theirs not in file), 0)
    own = f"{Path(__file__).parent}{os.sep}"
    end = next((i for i, file in enumerate(files) if file.startswith(own)), len(frames))
    verbose = shell.InteractiveTB.mode == "Verbose"
    if end - begin > 1 or verbose:
        for frame in reversed(frames[begin : len(frames) if verbose else end]):
            following = TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        return list(shell.InteractiveTB.structured_traceback(type(error), error, following))
    name = type(error).__name__
    if str(shell.colors).lower() != "nocolor":
        name = f"\x1b[31m{name}\x1b[39m"
    return [f"{name}: {error}"]


def brief(error: E) -> E:
    """Return an error of another class, which IPython shows by `traceback_lines` from now on."""
    shown = partial(traceback_lines, error)
    error._render_traceback_ = shown  # type: ignore[attr-defined]  # of IPython
    return error


def _restored(kind: type[ComfyDeployError], args: tuple[Any, ...]) -> ComfyDeployError:
    """Return an error of another process, without its attributes."""
    return kind.__new__(kind, *args)


class ComfyDeployError(Exception):
    """Base of all errors of this package.

    Parameters
    ----------
    message : str
        One sentence for the user.
    details : dict, optional
        JSON-serialisable facts about the error, sent as ``details``.
    extra : dict, optional
        Further top-level keys of the JSON reply, such as ``prompt_id`` or ``hint``.
    """

    status: int = 500
    code: ClassVar[str] = "internal_error"
    _by_code: ClassVar[dict[str, type[ComfyDeployError]]] = {}

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None) -> None:
        if status is not None:
            cls.status = status
        if code is not None:
            cls.code = code
            cls._by_code[code] = cls

    def __init__(
        self,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.say(message)
        self.details = details or {}
        self.extra = extra or {}

    @classmethod
    def of_field(cls: type[C], field: str, problem: str, /, **details: Any) -> C:
        """Return the error for one field, e.g. ``of_field("timeout", "must be positive")``."""
        return cls(f"{field}: {problem}", details={"field": field, **details})

    def _render_traceback_(self) -> list[str]:
        return traceback_lines(self)

    def say(self, message: str) -> None:
        """Replace the message."""
        self.message = printable(message)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make it again in another process, whatever its class is made with."""
        return _restored, (type(self), self.args), self.__dict__

    def to_reply(self) -> dict[str, Any]:
        """Return the JSON body that the routes send for this error."""
        return {
            **self.extra,
            "success": False,
            "error": self.sentence,
            "code": self.code,
            "message": self.sentence,
            "details": self.details,
        }

    @property
    def sentence(self) -> str:
        """The message in one line; texts of ComfyUI may have a line for each node."""
        return "; ".join(line.strip() for line in self.message.splitlines() if line.strip())

    @classmethod
    def from_reply(cls, status: int | None, reply: dict[str, Any]) -> ComfyDeployError:
        """Return the error for a JSON error reply of the routes.

        Without a status, as in a stream, the error has that of its class.
        """
        kind = cls._by_code.get(str(reply.get("code")), ComfyDeployError)
        message = reply.get("error") or reply.get("message") or f"the server answered {status}"
        if reply.get("hint"):
            message = f"{message} ({reply['hint']})"
        details = reply.get("details")
        known = {"success", "error", "code", "message", "details"}
        error = kind(
            str(message),
            details=details if isinstance(details, dict) else {},
            extra={key: value for key, value in reply.items() if key not in known},
        )
        if status is not None:
            error.status = status
        return error


class InvalidJSONError(ComfyDeployError, status=400, code="invalid_json"):
    """The body is not JSON, or not a JSON object."""


class InvalidRequestError(ComfyDeployError, status=400, code="invalid_request"):
    """A field is missing or wrong; ``details["field"]`` names it."""

    @classmethod
    def of_field(cls: type[C], field: str, problem: str, /, **details: Any) -> C:
        return super().of_field(field, problem, problem=problem, **details)


class UnknownInputError(InvalidRequestError, code="unknown_input"):
    """A key of ``inputs`` matches no input of the graph, or several."""


class InvalidInputError(InvalidRequestError, code="invalid_input"):
    """A value for an input of a workflow is of the wrong type, out of range, or no choice."""


class PromptInvalidError(ComfyDeployError, status=400, code="prompt_invalid"):
    """ComfyUI refused the graph; ``details`` is its error object, ``node_errors`` its own."""


class NoAPIKeyError(ComfyDeployError, status=401, code="no_api_key"):
    """The request is for ComfyDeploy, but no API key is known."""


class UnauthorizedError(ComfyDeployError, status=403, code="unauthorized"):
    """The request has no valid Jupyter credentials, or its user may not do this."""


class ForbiddenPathError(ComfyDeployError, status=403, code="forbidden_path"):
    """A path is outside of the folders that the routes may access."""


class ForbiddenAPIURLError(ComfyDeployError, status=403, code="forbidden_api_url"):
    """An address is not on the list ``allowed_api_urls``."""


class OfflineError(ComfyDeployError, status=403, code="offline"):
    """A file would have to be downloaded, which the setting ``offline`` forbids."""


class NotFoundError(ComfyDeployError, status=404, code="not_found"):
    """The requested object does not exist."""


class MethodNotAllowedError(ComfyDeployError, status=405, code="method_not_allowed"):
    """The route exists, but not with this HTTP method."""


class ConflictError(ComfyDeployError, status=409, code="conflict"):
    """The request conflicts with the present state; for example, an id is in use."""


class TooLargeError(ComfyDeployError, status=413, code="too_large"):
    """The body is larger than the configured limit, ComfyUI's limit, or the space on the disk."""


class UnsupportedPlatformError(ComfyDeployError, status=501, code="unsupported_platform"):
    """The operating system lacks what this needs; the message says what works on it."""


class CloudError(ComfyDeployError, status=502, code="cloud_error"):
    """The ComfyDeploy service failed or refused."""


class TunnelFailedError(ComfyDeployError, status=502, code="tunnel_failed"):
    """The tunnel could not be started; ``details`` holds the last lines of its log."""


class DockerFailedError(ComfyDeployError, status=502, code="docker_failed"):
    """An image could not be built; ``details`` holds the last lines of the log."""


class DockerUnavailableError(ComfyDeployError, status=503, code="docker_unavailable"):
    """There is no Docker engine; ``path`` is the folder of the build context, which exists."""


class ComfyUIUnavailableError(ComfyDeployError, status=503, code="comfyui_unavailable"):
    """No ComfyUI answers; ``hint`` says how to start or configure one."""


class StoreUnavailableError(ComfyDeployError, status=503, code="store_unavailable"):
    """The records cannot be read or written now; ``details.reason`` says why.

    It is ``locked``, ``read_only``, ``disk``, ``damaged`` or ``newer``.
    """


class RunTimeoutError(ComfyDeployError, status=504, code="timeout"):
    """The timeout of the request has expired; the run ``prompt_id`` continues."""


class NoSpaceError(ComfyDeployError, status=507, code="no_space"):
    """The disk has no space left for the data of the request; nothing was stored."""


class ServerUnreachableError(ComfyDeployError, status=503, code="server_unreachable"):
    """The Jupyter server with the routes does not answer. Raised by the Python client."""


class RunError(ComfyDeployError):
    """A run did not end with success. Raised by the Python client.

    Attributes
    ----------
    result : object
        The result of the run, with the outputs that it made before its end.
    """

    def __init__(self, message: str, *, result: Any = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.result = result


class RunFailedError(RunError, code="run_failed"):
    """A node failed while running; ``details`` has its ``node_id`` and ``node_type``."""


class RunCancelledError(RunError, code="run_cancelled"):
    """The run was cancelled before it ended."""
