"""A real JupyterHub: its proxy, a Jupyter server with this extension for each user, the culler."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
import requests
from jupyter_server.auth.authorizer import Authorizer

from tests.helpers.comfyui import free_port
from tests.helpers.fake_comfydeploy import FakeComfyDeploy
from tests.helpers.processes import PYTHONPATH, REPOSITORY, ServerProcess
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

PASSWORD = "open sesame"
ADMIN_TOKEN = "0123456789abcdef" * 2
PROXY = REPOSITORY / ".hub-proxy" / "node_modules" / ".bin" / "configurable-http-proxy"
USERS = ("ada", "bob")

CONFIG = """
import json
from pathlib import Path

given = json.loads(Path("hub.json").read_text())
c = get_config()
for name, values in given.items():
    for key, value in values.items():
        c[name][key] = value
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
"""


class JupyterHubProcess(ServerProcess):
    def __init__(
        self,
        folder: Path,
        *,
        users: tuple[str, ...] = USERS,
        cull_after: int | None = None,
        config: dict[str, dict[str, Any]],
    ) -> None:
        super().__init__("JupyterHub", folder / "jupyterhub.log")
        self.folder = folder
        self.users = users
        self.homes = folder / "homes"
        self.url = f"http://127.0.0.1:{free_port()}/"
        self._cull_after = cull_after
        self._config = config

    def start(self) -> None:
        """Start it and wait until it replies; fail with its log otherwise."""
        if not PROXY.is_file():
            pytest.fail(f"JupyterHub needs its proxy at {PROXY}: make hub-proxy", pytrace=False)
        self._configure()
        # node may be installed from the package index
        paths = [os.environ["PATH"], str(PROXY.parent), os.fspath(sys.prefix) + "/bin"]
        env = {**os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": PYTHONPATH}
        for name in [name for name in env if name.startswith(("JUPYTER", "JPY_"))]:
            del env[name]
        command = [sys.executable, "-m", "jupyterhub", "--config=jupyterhub_config.py"]
        self._spawn(command, self._answers, self.stop, cwd=self.folder, env=env)

    def stop(self) -> None:
        """End it, its proxy and all servers of its users."""
        if self._process is None:
            return
        family = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()
        self._process = None

    def user_url(self, user: str) -> str:
        """Return the address of a user's Jupyter server, with a slash at its end."""
        return f"{self.url}user/{quote(user)}/"

    def start_servers(self, *users: str) -> None:
        """Start the servers of users and wait until they reply."""
        for user in users:
            self.api("POST", f"users/{user}/server")
        until(
            lambda: [self.server(user) or {} for user in users],
            lambda servers: all(server.get("ready") for server in servers),
            what=self.log,
        )

    def server(self, user: str) -> dict[str, Any] | None:
        """Return the hub's data of a user's server; None if it does not run."""
        servers: dict[str, dict[str, Any]] = self.api("GET", f"users/{user}")["servers"]
        return servers.get("")

    def direct_url(self, user: str) -> str:
        """Return the address of a user's server itself; the proxy does not record its requests."""
        routes = self.api("GET", "proxy")
        target: str = routes[f"/user/{user}/"]["target"]
        return f"{target.rstrip('/')}/user/{quote(user)}/"

    def token(self, user: str) -> str:
        return str(self.api("POST", f"users/{user}/tokens", {"note": "tests"})["token"])

    def sign_in(self, user: str) -> requests.Session:
        """Sign in as a browser does, at the hub and thereby at the user's running server."""
        session = requests.Session()
        page = session.get(f"{self.url}hub/login", timeout=30)
        xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert xsrf is not None, page.text
        form = {"username": user, "password": PASSWORD, "_xsrf": xsrf[1]}
        answer = session.post(
            f"{self.url}hub/login?next=%2Fhub%2Fhome", data=form, timeout=30, allow_redirects=False
        )
        assert answer.status_code == 302, answer.text
        session.get(f"{self.user_url(user)}lab", timeout=30)  # redirects to the hub, and back
        return session

    def api(self, method: str, path: str, body: Any = None) -> Any:
        url, headers = f"{self.url}hub/api/{path}", {"Authorization": f"token {ADMIN_TOKEN}"}
        answer = requests.request(method, url, headers=headers, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _configure(self) -> None:
        self.homes.mkdir(parents=True, exist_ok=True)
        servers = self.folder / "servers"
        servers.mkdir(exist_ok=True)
        server = {"jpserver_extensions": {"comfydeploy_jupyter": True}}
        config = {**self._config, "ServerApp": {**server, **self._config.get("ServerApp", {})}}
        (servers / "jupyter_server_config.json").write_text(json.dumps(config))
        services: list[dict[str, Any]] = [{"name": "tests", "api_token": ADMIN_TOKEN}]
        scopes = ["admin:users", "admin:servers", "tokens", "proxy"]
        roles: list[dict[str, Any]] = [{"name": "tests", "scopes": scopes, "services": ["tests"]}]
        if self._cull_after is not None:
            culler = [f"--timeout={self._cull_after}", "--cull-every=1"]
            command = [sys.executable, "-m", "jupyterhub_idle_culler", *culler]
            services.append({"name": "idle-culler", "command": command})
            scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
            roles.append({"name": "idle-culler", "scopes": scopes, "services": ["idle-culler"]})
        given = {
            "JupyterHub": {
                "bind_url": self.url,
                "hub_port": free_port(),
                "db_url": f"sqlite:///{self.folder / 'hub.sqlite'}",
                "cookie_secret_file": str(self.folder / "cookie_secret"),
                "last_activity_interval": 1,
                "load_roles": roles,
                "services": services,
            },
            "ConfigurableHTTPProxy": {
                "api_url": f"http://127.0.0.1:{free_port()}",
                "auth_token": ADMIN_TOKEN,
                "command": [str(PROXY)],
                "pid_file": str(self.folder / "proxy.pid"),
            },
            "DummyAuthenticator": {"allow_all": False, "password": PASSWORD},
            "Authenticator": {"allowed_users": list(self.users)},
            "SimpleLocalProcessSpawner": {"home_dir_template": f"{self.homes}/{{username}}"},
            "Spawner": {
                "cmd": [sys.executable, "-m", "jupyterhub.singleuser"],
                "args": ["--allow-root"],
                "environment": {
                    "JUPYTER_CONFIG_DIR": str(servers),
                    "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
                },
            },
        }
        (self.folder / "hub.json").write_text(json.dumps(given))
        (self.folder / "jupyterhub_config.py").write_text(CONFIG)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}hub/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False


@pytest.fixture(scope="module")
def start_jupyterhub(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., JupyterHubProcess]]:
    """A function that starts a JupyterHub, with ``users``, ``cull_after`` and configuration.

    The configuration is for the users' Jupyter servers, by class.
    """
    hubs: list[JupyterHubProcess] = []

    def start(*, users: Any = USERS, cull_after: Any = None, **config: Any) -> JupyterHubProcess:
        folder = tmp_path_factory.mktemp("jupyterhub")
        hubs.append(JupyterHubProcess(folder, users=users, cull_after=cull_after, config=config))
        hubs[-1].start()
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.stop()


@pytest.fixture(scope="module")
def comfydeploy_of_hub() -> Iterator[FakeComfyDeploy]:
    """The ComfyDeploy that the users' servers of `jupyterhub` use."""
    service = FakeComfyDeploy()
    yield service
    service.close()


@pytest.fixture(scope="module")
def jupyterhub(start_jupyterhub, comfyui, comfydeploy_of_hub) -> JupyterHubProcess:
    """A JupyterHub whose users' servers use the real ComfyUI that all tests share."""
    hub: JupyterHubProcess = start_jupyterhub(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "cloud_url": comfydeploy_of_hub.url,
            "allowed_api_urls": [comfydeploy_of_hub.root],
        }
    )
    hub.start_servers(*hub.users)
    return hub


ACTIONS = frozenset({"read", "write", "execute"})


class RecordingAuthorizer(Authorizer):
    """Records user, action and resource of each call, and allows the actions that the test permits.

    Jupyter creates the instance, so tests use the attributes of the class.
    """

    calls: list[tuple[str, str, str]] = []  # noqa: RUF012 - the one list that the test reads
    allowed: Collection[str] = ACTIONS

    @classmethod
    def reset(cls) -> None:
        cls.calls.clear()
        cls.allowed = ACTIONS

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.calls.append((user.username, action, resource))
        return action in self.allowed
