"""The routes, a module for each section of them.

A route is declared at the method that handles it: see `route`. Jupyter waits while it imports an
extension, and the modules of the handlers need packages such as pydantic and aiohttp, which take
long to import. So this module imports none of them: `Mount` takes the place of all routes in
Jupyter's application, and imports them after Jupyter's start, in a thread.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import PathMatches, Router, Rule, RuleRouter

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine

    from .route import Route

SECTIONS = (
    *(
        "runs",
        "batches",
        "proofs",
        "deployments",
        "files",
        "transfers",
        "workflows",
        "ws",
        "status",
        "overview",
    ),
    *("machines", "tunnel", "cloud", "comfy_api", "comfyui_page", "app", "base"),
)
PATHS = r"tunnel/status|(?:comfyui-deploy|comfydeploy|comfyui)(?:/.*)?"


def _classes() -> list[type[web.RequestHandler]]:
    modules = [import_module(f".{name}", __package__) for name in SECTIONS]
    return [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and thing.__module__ == module.__name__
        if issubclass(thing, web.RequestHandler)
    ]


@cache
def operations() -> tuple[Route, ...]:
    """Return the routes that are described, in the order of the documents."""
    from .route import routes_of

    return tuple(one for kind in _classes() for one in routes_of(kind) if one.id)


@cache
def all_routes() -> tuple[tuple[str, type[web.RequestHandler]], ...]:
    """Return pattern and handler of each path; the first pattern that matches counts.

    It takes a second or more: call it in a thread.
    """
    from .route import handlers_of

    found = [pair for kind in _classes() for pair in handlers_of(kind)]
    found.sort(key=lambda pair: (pair[0].endswith(".*"), "(" in pair[0], -len(pair[0])))
    return tuple(found)


class _Routes(RuleRouter):
    """Finds the handler of a request."""

    def __init__(self, application: web.Application) -> None:
        base_url, found = application.settings["base_url"], all_routes()
        plain = {path: kind for path, kind in found if "(" not in path and ".*" not in path}
        super().__init__(
            [
                Rule(PathMatches(url_path_join(base_url, path)), kind)
                for path, kind in found
                if path not in plain
            ]
        )
        self._plain = {url_path_join(base_url, path): kind for path, kind in plain.items()}
        self._application = application

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> HTTPMessageDelegate | None:
        kind = self._plain.get(request.path)
        if kind is None:
            return super().find_handler(request, **more)
        return self._application.get_handler_delegate(request, kind)

    def get_target_delegate(
        self, target: Any, request: HTTPServerRequest, **target_params: Any
    ) -> HTTPMessageDelegate:
        return self._application.get_handler_delegate(request, target, **target_params)


class Mount(Router):
    """All routes below Jupyter's base URL; `load` imports them."""

    def __init__(self, application: web.Application) -> None:
        self._application = application
        self._routes: _Routes | None = None
        pattern = url_path_join(application.settings["base_url"], f"(?:{PATHS})")
        # Jupyter's own `add_handlers` looks for the methods of handlers, which are not known yet.
        web.Application.add_handlers(application, ".*$", [Rule(PathMatches(pattern), self)])

    def load(self) -> Router:
        """Import the handlers, which takes long; the second time, nothing is left to do."""
        if self._routes is None:
            self._routes = _Routes(self._application)
        return self._routes

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate | None:
        if self._routes is None:
            return _Early(self, request)
        return self._routes.find_handler(request)


class _Early(HTTPMessageDelegate):
    """A request that has come before the handlers are imported: it waits for them."""

    def __init__(self, mount: Mount, request: HTTPServerRequest) -> None:
        self._mount = mount
        self._request = request
        self._found: HTTPMessageDelegate | None = None
        self._left = False

    async def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        routes = await asyncio.to_thread(self._mount.load)
        if self._left:
            return
        self._found = routes.find_handler(self._request)
        assert self._found is not None
        begun = self._found.headers_received(start_line, headers)
        if begun is not None:
            await begun

    def data_received(self, chunk: bytes) -> Any:
        return None if self._found is None else self._found.data_received(chunk)

    def finish(self) -> None:
        if self._found is not None:
            self._found.finish()

    def on_connection_close(self) -> None:
        self._left = True
        if self._found is not None:
            self._found.on_connection_close()
