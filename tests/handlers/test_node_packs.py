"""``workflow/install-packs``: which packs are missing, and what ComfyUI-Manager does about it."""

import json
import os
import subprocess

import pytest

from comfydeploy_jupyter.workflows import node_packs
from tests.helpers.comfyui import REPOSITORY
from tests.helpers.selection import few
from tests.helpers.waiting import until_async
from tests.machines.conftest import managed  # noqa: F401 - a fixture

NODE = """
class Node:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "packs"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (1,)


NODE_CLASS_MAPPINGS = {"Grain+": Node}
"""
PACKS = {
    "film-grain": {"classes": ["Grain+"], "title": "Film Grain", "code": NODE},
    "https://github.com/ada/Blur.Pack": {"classes": ["Blur"], "code": "raise OSError('no blur')"},
    "gone-pack": {"classes": ["Gone"]},
    "patterned": {"classes": [], "pattern": r"Zoom\$"},
}


def node(id_, class_type, **properties):
    return {"id": id_, "type": class_type, "properties": properties, "widgets_values": []}


def workflow(*nodes):
    return {"last_node_id": 9, "nodes": list(nodes), "links": [], "version": 0.4}


GRAPH = workflow(
    node(1, "Grain+", cnr_id="film-grain"),
    node(2, "Blur", aux_id="ada/Blur.Pack"),
    node(3, "Zoom$1"),
    node(4, "Nobody's"),
    node(5, "FutureNode", cnr_id="comfy-core", ver="99.0.0"),
)


def with_manager(tmp_path, **config):
    base = tmp_path / "base"
    (base / "manager.json").write_text(json.dumps({"packs": PACKS, **config}))
    link = base / "custom_nodes" / "manager"
    link.symlink_to(REPOSITORY / "tests" / "comfyui" / "manager")


@pytest.fixture
def extension_config(request, managed, tmp_path):  # noqa: F811 - the fixture
    with_manager(tmp_path, **request.param)
    return managed


async def ask(api, graph=GRAPH, **fields):
    code, body = await api.post("workflow/install-packs", {"workflow": graph, **fields})
    assert code == 200, body
    return body


def states(body):
    return {each["pack"]: (each["state"], each["problem"]) for each in body["packs"]}


async def ended(api):
    def are_done(answer):
        return all(each["state"] not in ("waiting", "installing") for each in answer[1])

    _, found = await until_async(lambda: api.get("node-packs"), are_done)
    return {each["pack"]: (each["state"], each["problem"]) for each in found}


VERSIONS = [{"version": "4"}, {"version": "3", "delay": 1}, {"version": "4-pages", "delay": 1}]


@pytest.mark.parametrize("extension_config", few(VERSIONS), indirect=True)
@pytest.mark.timeout(300)
async def test_missing_packs_are_installed_and_loaded_after_a_restart(api, tmp_path):
    body = await ask(api, dry_run=True)
    assert body["manager"][0] in "34"
    assert (body["managed"], body["machine"], body["offline"]) == (True, "local", False)
    titles = {each["pack"]: (each["title"], each["url"], each["classes"]) for each in body["packs"]}
    blur = "https://github.com/ada/Blur.Pack"
    assert titles == {
        "film-grain": ("film-grain", "https://registry.comfy.org/nodes/film-grain", ["Grain+"]),
        blur: (blur, blur, ["Blur"]),
        "patterned": ("patterned", "https://registry.comfy.org/nodes/patterned", ["Zoom$1"]),
    }
    others = {each["class_type"]: each.get("needs") for each in body["others"]}
    assert others == {"Nobody's": None, "FutureNode": "ComfyUI 99.0.0 or newer"}
    assert set(states(body).values()) == {("missing", None)}
    assert (await api.get("node-packs"))[1] == []

    code, refused = await api.post(
        "workflow/install-packs", {"workflow": GRAPH, "packs": ["no-such"]}
    )
    assert (code, refused["details"]["field"]) == (400, "packs")
    body = await ask(api)
    assert {state for state, _ in states(body).values()} == {"waiting"}
    found = await ended(api)
    assert (found["film-grain"], found[blur]) == (("installed", None), ("installed", None))
    state, problem = found["patterned"]
    assert (state, bool(problem)) == ("failed", True)
    body = await ask(api, dry_run=True)
    assert states(body) == found
    again = await ask(api, packs=["film-grain"])  # there is nothing left to do
    assert states(again) == found

    code, _ = await api.post("machine/update", {"machine_id": "local", "restart": True})
    assert code == 200
    body = await ask(api, dry_run=True)
    assert "film-grain" not in states(body)
    state, problem = states(body)[blur]
    assert state == "failed"
    assert problem.startswith("It is installed, but ComfyUI could not load it")
    code, run = await api.post(
        "run", {"workflow_api": {"1": {"class_type": "Grain+", "inputs": {}}}}
    )
    assert (code, run["status"]) == (200, "success")


@pytest.mark.parametrize(
    "extension_config",
    [{"version": version, "security_level": "strong"} for version in few(("3", "4", "4-pages"))],
    indirect=True,
)
@pytest.mark.thorough
@pytest.mark.timeout(300)
async def test_what_manager_refuses_is_said_in_its_words(api, tmp_path):
    await ask(api, packs=["film-grain"])
    found = await ended(api)
    assert found.keys() == {"film-grain"}
    state, problem = found["film-grain"]
    assert state == "failed"
    assert "security_level must be any value other than 'strong'" in problem
    assert states(await ask(api, dry_run=True))["film-grain"] == (state, problem)
    assert not (tmp_path / "base" / "custom_nodes" / "film-grain").exists()


@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("extension_config", [{"version": "3", "delay": 3}], indirect=True)
async def test_waiting_installations_are_cancelled_and_failures_said(api):
    graph = workflow(
        node(1, "Grain+", cnr_id="film-grain"),
        node(2, "Gone", cnr_id="gone-pack"),
        node(3, "Evil", aux_id="eve/evil"),
        node(4, "Hostile", cnr_id="../../<b>@x"),
    )
    body = await ask(api, graph)
    assert [each["class_type"] for each in body["others"]] == ["Hostile"]
    code, reply = await api.post("cancel-node-packs", {"pack": "gone-pack"})
    assert (code, reply["state"]) == (200, "cancelled")
    for pack, expected in (("gone-pack", 409), ("film-grain", 409), ("no-such", 404)):
        assert (await api.post("cancel-node-packs", {"pack": pack}))[0] == expected
    said = ("film-grain", "installing", "Collecting film-grain")
    await until_async(
        lambda: api.get("node-packs"),
        lambda answer: said in {(one["pack"], one["state"], one["progress"]) for one in answer[1]},
    )
    found = await ended(api)
    assert {one["progress"] for one in (await api.get("node-packs"))[1]} == {None}
    assert (found["film-grain"][0], found["gone-pack"][0]) == ("installed", "cancelled")
    state, problem = found["https://github.com/eve/evil"]
    assert (state, "allow_git_url_install" in problem) == ("failed", True)
    await ask(api, graph, packs=["gone-pack"])
    assert (await ended(api))["gone-pack"] == (
        "failed",
        "[ComfyUI-Manager] Installation failed:\nfailed to fetch the archive",
    )


class TestWithoutManager:
    @pytest.fixture
    def extension_config(self, config_with_folders):
        return config_with_folders

    async def test_the_packs_are_named(self, api):
        body = await ask(api, dry_run=True)
        assert body["manager"] is None
        blur = "https://github.com/ada/Blur.Pack"
        assert states(body) == {"film-grain": ("no_manager", None), blur: ("no_manager", None)}
        others = {each["class_type"] for each in body["others"]}
        assert others == {"Zoom$1", "Nobody's", "FutureNode"}
        code, refused = await api.post("workflow/install-packs", {"workflow": GRAPH})
        assert (code, refused["code"]) == (409, "conflict")
        body = await ask(api, workflow(), dry_run=True)
        assert (body["packs"], body["others"]) == ([], [])


def git(folder, *arguments):
    """Run git in a folder, and return what it prints."""
    about = {f"GIT_{role}_{fact}": "ada@h" for role in ("AUTHOR", "COMMITTER") for fact in FACTS}
    env = {**os.environ, **about}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


FACTS = ("NAME", "EMAIL")


def repository(folder, *codes):
    """Make a repository of a pack; return its commits."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commits = []
    for code in codes:
        (folder / "__init__.py").write_text(code)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", "code")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits


@pytest.fixture
def sharpen(tmp_path):
    """The commits of a pack that has been changed since."""
    return repository(tmp_path / "sharpen", NODE.replace("Grain+", "Sharpen"), NODE)


@pytest.fixture
def needy(tmp_path):
    """The first commit of a pack that needs a Python package since."""
    (commit,) = repository(tmp_path / "needy", NODE)
    (tmp_path / "needy/requirements.txt").write_text("numpy\n")
    git(tmp_path / "needy", "add", ".")
    git(tmp_path / "needy", "commit", "-q", "-m", "needs")
    return commit


class TestVersions:
    @pytest.fixture(params=few([*VERSIONS[1:], VERSIONS[0]]))
    def extension_config(self, request, managed, tmp_path, sharpen, needy):  # noqa: F811 - the fixture
        named = {"classes": [], "clone": str(tmp_path / "sharpen")}
        packs = {
            "film-grain": {**PACKS["film-grain"], "versions": {"1.0.0": NODE, "1.2": NODE}},
            "lost-version": {"classes": [], "code": NODE, "versions": {"3.0": NODE}},
            "https://github.com/ada/Sharpen": named,
            "https://github.com/ada/Other": named,
            "nightly-pack": named,
            "needy-pack": {"classes": [], "clone": str(tmp_path / "needy")},
        }
        with_manager(tmp_path, **request.param, packs=packs)
        return managed

    @pytest.mark.thorough
    @pytest.mark.timeout(300)
    async def test_packs_are_installed_in_the_version_that_was_asked_for(
        self, api, tmp_path, sharpen, needy
    ):
        graph = workflow(
            node(1, "Grain+", cnr_id="film-grain"),
            node(2, "Lost", cnr_id="lost-version"),
            node(3, "Sharpen", aux_id="ada/Sharpen"),
            node(4, "Other", aux_id="ada/Other"),
            node(5, "Nightly", cnr_id="nightly-pack"),
            node(6, "Needy", cnr_id="needy-pack"),
        )
        first, newest = sharpen
        foreign = "f" * 40
        wanted = {
            "film-grain": "1.0.0",
            "lost-version": "2.0",
            "https://github.com/ada/Sharpen": first,
            "https://github.com/ada/Other": foreign,
            "nightly-pack": first,
            "needy-pack": needy,
        }
        for wrong in ({"film-grain": "1; x"}, {"film-grain": ""}, {"no-such": "1"}):
            code, refused = await api.post(
                "workflow/install-packs", {"workflow": graph, "versions": wrong}
            )
            assert (code, refused["details"]["field"].partition(".")[0]) == (400, "versions"), wrong
        await ask(api, graph, versions=wanted)
        found = await ended(api)
        state, problem = found.pop("lost-version")
        assert state == "installed"
        assert problem.startswith("3.0 is installed instead of 2.0, which cannot be had (")
        assert found.pop("https://github.com/ada/Other") == (
            "installed",
            f"{newest} is installed instead of {foreign}, which cannot be had",
        )
        assert found.pop("needy-pack") == ("installed", node_packs.OTHER_NEEDS)
        assert set(found.values()) == {("installed", None)}
        nodes = tmp_path / "base/custom_nodes"
        assert json.loads((nodes / "film-grain/pack.json").read_text())["ver"] == "1.0.0"
        assert git(nodes / "needy-pack", "rev-parse", "HEAD") == needy
        for name in ("Sharpen", "nightly-pack"):
            assert git(nodes / name, "rev-parse", "HEAD") == first
            assert "Sharpen" in (nodes / name / "__init__.py").read_text()


def test_only_commits_of_the_clone_are_checked_out(tmp_path, sharpen):
    first, newest = sharpen
    fork = repository(tmp_path / "fork", "evil")[0]
    git(tmp_path / "sharpen", "fetch", "-q", "../fork", "main")  # as a server has those of forks
    git(tmp_path, "clone", "-q", f"file://{tmp_path}/sharpen", "clone")
    clone = tmp_path / "clone"
    hook = clone / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    assert node_packs._check_out(clone, fork) == newest
    assert node_packs._check_out(clone, first) == first
    assert not (clone / "ran").exists()
