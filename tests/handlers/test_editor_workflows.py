"""The workflows in the folder of ComfyUI's editor."""

import json
import uuid


async def save_in_editor(api, extension, name, text):
    """Save a file as the editor does."""
    await api.get("editor/workflows")  # opens the services
    client = await extension.services.machines.get().ready()
    path = f"/api/userdata/workflows%2F{name}?overwrite=true&full_info=true"
    await client.request("POST", path, body=text.encode())


async def test_workflows_saved_by_the_editor_are_listed_and_read(api, extension):
    folder = uuid.uuid4().hex
    graph = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": [], "extra": {"name": "שם 🙂"}}
    await save_in_editor(api, extension, f"{folder}%2Fportrait.json", json.dumps(graph))
    await save_in_editor(api, extension, f"{folder}%2Fnotes.txt", "no workflow")
    path = f"{folder}/portrait.json"
    code, listed = await api.get("editor/workflows")
    assert code == 200, listed
    (found,) = [file for file in listed if file["path"].startswith(folder)]
    assert (found["path"], found["size"]) == (path, len(json.dumps(graph)))
    assert found["updated_at"].startswith("20")
    code, read = await api.get("editor/workflow", file=path)
    assert (code, read) == (200, {"path": path, "workflow": graph, "workflow_api": None})


async def test_other_and_damaged_files_are_not_read(api, extension):
    for file, code in (
        ("no such.json", 404),
        ("../comfy.settings.json", 400),
        ("a/../../b.json", 400),
        ("..\\comfy.settings.json", 400),
        ("/etc/x.json", 400),
        ("notes.txt", 400),
        ("", 400),
    ):
        answered, error = await api.get("editor/workflow", file=file)
        assert (answered, error["details"]["field"]) == (code, "file"), file
    for text in ("{ no json", "[]", '{"a": 1}', ""):
        name = f"{uuid.uuid4().hex}.json"
        await save_in_editor(api, extension, name, text)
        code, error = await api.get("editor/workflow", file=name)
        assert (code, error["code"]) == (400, "invalid_request"), error
