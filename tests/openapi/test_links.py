"""The links in the specification: the values of a reply are valid in the next request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.jupyter import check_reply

if TYPE_CHECKING:
    import requests

    from .conftest import Specified

JSON = "application/json"
FORM = "multipart/form-data"
EXPRESSION = re.compile(r"\$response\.body#/(\w+)")
ROOTS = (
    "run",
    "uploadFile",
    "changeModels",
    "saveWorkflow",
    "createMachine",
    "startTunnel",
    "createJob",
    "uploadAsset",
)
ADDED = {
    "action": "add",
    "source": "local",
    "path": "input/a.png",
    "folder": "checkpoints",
    "filename": "b.safetensors",
}
# What has ended cannot be cancelled, and what has not failed not be retried.
NOT_200 = {"interruptRun": 409, "retryUploads": 409, "deleteAsset": 204}


class Walk:
    """Sends all requests to which links lead."""

    def __init__(self, server: Specified) -> None:
        self.server = server
        self.operations = {
            operation["operationId"]: (method, path, operation)
            for path, item in server.specification["paths"].items()
            for method, operation in item.items()
        }
        self.followed: set[tuple[str, str]] = set()

    def links(self) -> set[tuple[str, str]]:
        """Return where links lead from and to."""
        return {(source, target) for source in self.operations for target in self._links(source)}

    def begin(self, name: str) -> None:
        """Send the example of an operation, and follow its links."""
        contents = self.operations[name][2]["requestBody"]["content"]
        if FORM in contents:
            example = dict(contents[FORM]["example"])
            files = {"file": ("a.txt", example.pop("file"))}
            answer = self._request(name, files=files, data=example)
        else:
            body = ADDED if name == "changeModels" else contents[JSON]["example"]
            answer = self._request(name, json=body)
        assert answer.status_code in (200, 201), answer.text
        self._follow(name, answer.json())

    def _links(self, name: str) -> dict[str, dict[str, Any]]:
        replies = self.operations[name][2]["responses"]
        found = [replies.get(status, {}).get("links", {}) for status in ("200", "201")]
        return {**found[0], **found[1]}

    def _follow(self, source: str, answered: dict[str, Any]) -> None:
        for target, link in self._links(source).items():
            if (source, target) in self.followed:
                continue
            self.followed.add((source, target))
            given = _filled(link.get("parameters", {}), answered)
            path = self.operations[target][1]
            in_path = {name: given.pop(name) for name in list(given) if f"{{{name}}}" in path}
            request: dict[str, Any] = {"params": given, "in_path": in_path}
            if "requestBody" in link:
                request["json"] = _filled(link["requestBody"], answered)
            answer = self._request(target, **request)
            expected = NOT_200.get(target, 200)
            assert answer.status_code == expected, (source, target, answer.text)
            if answer.ok and JSON in answer.headers.get("Content-Type", ""):
                self._follow(target, answer.json())

    def _request(
        self, name: str, *, in_path: dict[str, str] | None = None, **kwargs: Any
    ) -> requests.Response:
        method, path, _ = self.operations[name]
        path = path.format(**in_path or {})
        answer = self.server.request(method.upper(), path, **kwargs)
        kind = answer.headers.get("Content-Type", "")
        check_reply(method, path, answer.status_code, kind, answer.content)
        return answer


def _filled(template: Any, answered: dict[str, Any]) -> Any:
    """Return a template with the values of its runtime expressions."""
    if isinstance(template, dict):
        return {key: _filled(value, answered) for key, value in template.items()}
    if not isinstance(template, str):
        return template
    whole = EXPRESSION.fullmatch(template)
    if whole is not None:
        return answered[whole[1]]
    return re.sub(r"\{([^}]+)\}", lambda part: str(_filled(part[1], answered)), template)


@pytest.mark.timeout(300)
def test_every_link_of_a_reply_can_be_followed(specified: Specified) -> None:
    walk = Walk(specified)
    for name in ROOTS:
        walk.begin(name)
    assert walk.followed == walk.links()
