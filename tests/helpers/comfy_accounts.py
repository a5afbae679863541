"""A small server for Comfy accounts: Firebase's REST API for sign-ins, and Comfy's customers.

The paths begin with the host that they belong to, as those of the Firebase Auth emulator. Requests
and responses are as in https://firebase.google.com/docs/reference/rest/auth.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.helpers.servers import AppServer

if TYPE_CHECKING:
    from collections.abc import Iterator

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"
CONFIGURED = "comfyui-configured-1111111111111111"


class ComfyAccounts(AppServer):
    """The server; `answers` has status and body of the next responses, else they are the usual."""

    def __init__(self) -> None:
        self.reset()
        self._count = 0
        self.start()

    def reset(self) -> None:
        self.lifetime = "3600"
        self.id_tokens: list[str] = []
        self.refresh_tokens: list[str] = []
        self.customers: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.answers: deque[tuple[int, Any]] = deque()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._answered])
        sign_in = "/identitytoolkit.googleapis.com/v1/accounts:signInWithPassword"
        app.router.add_post(sign_in, self._sign_in)
        app.router.add_post("/securetoken.googleapis.com/v1/token", self._token)
        app.router.add_post("/api.comfy.org/customers", self._customer)
        return app

    @web.middleware
    async def _answered(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(request.path)
        if self.answers:
            status, body = self.answers.popleft()
            if isinstance(body, str):
                return web.Response(status=status, text=body, content_type="text/html")
            return web.json_response(body, status=status)
        return await handler(request)

    async def _sign_in(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert request.query["key"]
        assert body["returnSecureToken"] is True
        if (body["email"], body["password"]) != (EMAIL, PASSWORD):
            return web.json_response(error("INVALID_LOGIN_CREDENTIALS"), status=400)
        id_token, refresh_token = self._issue()
        tokens = {"idToken": id_token, "refreshToken": refresh_token, "expiresIn": self.lifetime}
        return web.json_response({"localId": "u1", "email": EMAIL, "registered": True, **tokens})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert request.query["key"]
        assert form["grant_type"] == "refresh_token"
        if form["refresh_token"] not in self.refresh_tokens:
            return web.json_response(error("INVALID_REFRESH_TOKEN"), status=400)
        id_token, refresh_token = self._issue()
        tokens = {"id_token": id_token, "refresh_token": refresh_token, "token_type": "Bearer"}
        return web.json_response({**tokens, "expires_in": self.lifetime, "user_id": "u1"})

    async def _customer(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if token not in self.id_tokens:
            return web.json_response({"message": "Unauthorized"}, status=401)
        self.customers.append({"token": token, "body": await request.json()})
        return web.json_response({"id": "c1", "email": EMAIL}, status=201)

    def _issue(self) -> tuple[str, str]:
        self._count += 1
        self.id_tokens.append(f"eyJhbGciOi.s3cret-id-{self._count}.c2ln")
        self.refresh_tokens.append(f"AMf-s3cret-refresh-{self._count}")
        return self.id_tokens[-1], self.refresh_tokens[-1]


def error(message: str, code: int = 400) -> dict[str, Any]:
    """Return an error as Google's APIs write it."""
    errors = [{"message": message, "domain": "global", "reason": "invalid"}]
    return {"error": {"code": code, "message": message, "errors": errors}}


@pytest.fixture(scope="session")
def shared_comfy_accounts() -> Iterator[ComfyAccounts]:
    """The server that all tests share."""
    server = ComfyAccounts()
    yield server
    server.close()


@pytest.fixture
def comfy_accounts(shared_comfy_accounts: ComfyAccounts) -> ComfyAccounts:
    shared_comfy_accounts.reset()
    return shared_comfy_accounts


@pytest.fixture
def account_config(newer, comfy_accounts: ComfyAccounts, tmp_path) -> dict[str, Any]:
    """The configuration of a server with a key, which can sign in at `comfy_accounts`."""
    return {
        "comfyui_url": newer.url,
        "comfy_account_proxy": comfy_accounts.url,
        "data_dir": str(tmp_path / "data"),
        "comfy_api_key": CONFIGURED,
    }
