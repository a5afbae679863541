"""The fixtures of the run tests: the server, its routes, and the watch over hidden errors."""

from __future__ import annotations

from tests.runs import conftest as runs

api = runs.api
chain_fixture = runs.chain_fixture
events = runs.events
extension = runs.extension
jp_server_config = runs.jp_server_config
no_hidden_errors = runs.no_hidden_errors
