"""The tested versions of ComfyUI: the documents name them, and the same ones everywhere."""

import pytest

from comfydeploy_jupyter.graphs.versions import (
    NEWEST_TESTED,
    OLDEST_TESTED,
    outside_tested_range,
)


@pytest.mark.parametrize(
    ("version", "how"),
    [
        *((version, None) for version in (OLDEST_TESTED, NEWEST_TESTED, "v0.4.0", None, "", "odd")),
        *(("0.3.74", "older"), ("0.2", "older"), ("0.99.1", "newer"), ("1.0", "newer")),
    ],
)
def test_older_and_newer_versions_give_a_note(version, how):
    said = outside_tested_range(version)
    if how is None:
        assert said is None
    else:
        assert said.startswith(f"ComfyUI {version} is {how} than")
        assert f"{OLDEST_TESTED} to {NEWEST_TESTED}" in said
