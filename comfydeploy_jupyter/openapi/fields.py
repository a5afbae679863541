"""What the fields of requests mean, with an example each.

A field means the same wherever it is, unless it is here under the name of its model too. Examples
are None where a field has none of its own: those of the whole body show it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """What a field is.

    Attributes
    ----------
    text : str
        One sentence.
    example : object
        A value that it may have.
    """

    text: str
    example: Any


_UPLOADS_OF = "The run whose uploads are meant; without it and `id` all uploads."
_TRANSFER = "One transfer, an upload or a download, as upload-queue-status names it."
RUN_ID = "8ffd43a1-3ba2-4e02-9d9d-1a45b2f9b6f5"
WORKFLOW_ID = "5b0c7a30-5b39-4be7-9d3c-1f5f2f0f4f5e"
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
    },
    "2": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "example"},
    },
}
UI_GRAPH: dict[str, Any] = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [0, 0],
            "size": [270, 130],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "properties": {},
            "widgets_values": [64, 64, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "pos": [320, 0],
            "size": [270, 270],
            "flags": {},
            "order": 1,
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "properties": {},
            "widgets_values": ["example"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}

FIELDS: dict[str, Meaning] = {
    # graphs and runs
    "workflow_api": Meaning("A graph in ComfyUI's API format.", GRAPH),
    "workflow_api_raw": Meaning(
        "The graph in the form of the ComfyUI node, with that node's defaults.", GRAPH
    ),
    "workflow": Meaning("A graph as ComfyUI's editor saves it.", UI_GRAPH),
    "workflow_json": Meaning("Another name for `workflow`.", UI_GRAPH),
    "workflow_id": Meaning("The id of a stored workflow.", WORKFLOW_ID),
    "version": Meaning("The number of a version, or `latest`.", "latest"),
    "inputs": Meaning(
        "Values by name: an external input's `input_id`, `<node id>.<input>`,"
        " `<node title>.<input>`, or an input name that only one node has.",
        {"1.width": 128},
    ),
    "prompt_id": Meaning("The id of a run.", RUN_ID),
    "RunRequest.prompt_id": Meaning(
        "An id of your own for the run; each can be used once. Without it one is drawn.", None
    ),
    "UploadQueueQuery.prompt_id": Meaning("The run to tell of; without it all.", RUN_ID),
    "CancelUploadsRequest.prompt_id": Meaning(_UPLOADS_OF, RUN_ID),
    "RetryUploadsRequest.prompt_id": Meaning(_UPLOADS_OF, RUN_ID),
    "InterruptRequest.prompt_id": Meaning(
        "The run to cancel; without it the one that the machine executes.", RUN_ID
    ),
    "StatusQuery.prompt_id": Meaning("The run to tell of; without it the service.", RUN_ID),
    "StatusQuery.strict": Meaning(
        "Whether to ask ComfyUI, and to answer 503 unless runs can go to it now.", True
    ),
    "StatusQuery.in_use": Meaning(
        "Whether the client is at work: an idle server that is asked so does not count as idle.",
        True,
    ),
    "StatusQuery.timeout": Meaning("Seconds that ComfyUI then has to answer.", 2),
    "client_id": Meaning("Whose WebSocket hears of the run.", "notebook-1"),
    "clientId": Meaning("Whose runs' events are sent; without it those of all runs.", "notebook-1"),
    "machine": Meaning(
        "A machine's id or name, or `auto`: the one with the least work. Default: `local`.", "local"
    ),
    "wait": Meaning("Whether to answer only when the run has ended.", True),
    "timeout": Meaning(
        "Seconds to wait; then 504, or an `error` on the stream, and the run goes on.", 60
    ),
    "front": Meaning("Whether the run goes to the head of the queue.", False),
    "seed_mode": Meaning(
        "`saved`: seeds as they are; `auto`: as the editor's control-after-generate says;"
        " `random`: new ones.",
        "random",
    ),
    "strict_inputs": Meaning("Whether inputs that fit nothing are refused.", True),
    "previews": Meaning("Whether the sampler's previews are sent too.", False),
    "preview_method": Meaning("How ComfyUI makes previews in this run.", "auto"),
    "RunRequest.outputs": Meaning(
        "The ids of the output nodes to execute, and nothing that only others need.", ["2"]
    ),
    "extra_data": Meaning(
        "Keys of a Comfy account for partner nodes; they are not stored.",
        {"api_key_comfy_org": "comfyui-0123456789abcdef"},
    ),
    "api_key_comfy_org": Meaning("An API key of a Comfy account.", "comfyui-0123456789abcdef"),
    "auth_token_comfy_org": Meaning("The token of a browser's sign-in to a Comfy account.", None),
    "AccountRequest.api_key": Meaning(
        "The API key of a Comfy account; null: forget the one that is kept.",
        "comfyui-0123456789abcdef",
    ),
    "unload_models": Meaning("Whether models leave the memory of GPU and machine.", True),
    "free_memory": Meaning("Whether kept outputs of nodes leave the memory.", True),
    "status_endpoint": Meaning(
        "An address that is told of the run's states, events and outputs.", None
    ),
    "file_upload_endpoint": Meaning(
        "An address that is asked where the outputs are to be uploaded.", None
    ),
    "gpu_event_id": Meaning("Passed on to `status_endpoint`.", None),
    "cd_token": Meaning("The API key of ComfyDeploy; also the header X-ComfyDeploy-Token.", None),
    "token": Meaning("Another name for `cd_token`.", None),
    "is_native_run": Meaning(
        "Whether `native_run_api_endpoint` is asked for the body of the run.", None
    ),
    "native_run_api_endpoint": Meaning("Who is asked for the body of a native run.", None),
    "limit": Meaning("How many at most.", 10),
    "offset": Meaning("How many are left out before the first.", 0),
    "status": Meaning("Only runs in this state.", "success"),
    # converting
    "to": Meaning("The format to convert to; by default the other one of the two graphs.", "ui"),
    "object_info": Meaning("Node definitions that take the place of ComfyUI's.", None),
    "filename": Meaning("The name of a file.", "example_00001_.png"),
    "subfolder": Meaning("The folder of the file below that of its type.", ""),
    "type": Meaning("Which of ComfyUI's folders the file is in.", "output"),
    "thumbnail": Meaning("The longer side of a small copy of a picture, in pixels.", 256),
    "structure": Meaning(
        "Only runs of this workflow, whatever values were in it: the hash that the client makes.",
        "0123456789abcdef0123456789abcdef",
    ),
    "ConvertRequest.filename": Meaning(
        "A picture, video or sound that carries the workflow: an output, or a name relative to"
        " ComfyUI or to Jupyter's root.",
        None,
    ),
    "ConvertRequest.type": Meaning("Which of ComfyUI's folders the file is in.", None),
    # transfers and models
    "id": Meaning(_TRANSFER, "d41d8cd98f00b204"),
    "file_path": Meaning("A file of this machine.", "output/example_00001_.png"),
    "url": Meaning("An address.", "https://example.com/a.safetensors"),
    "SendFileRequest.url": Meaning(
        "ComfyDeploy's address that answers where the file is to be sent.",
        "https://api.comfydeploy.com/api/file-upload",
    ),
    "filePath": Meaning("A file of this machine.", "models/checkpoints/a.safetensors"),
    "uploadUrl": Meaning("The presigned address of the part.", "https://storage.example.com/part"),
    "start": Meaning("The first byte of the part.", 0),
    "end": Meaning("The byte after the last one of the part.", 1048576),
    "action": Meaning("What to do with models.", "list"),
    "source": Meaning("Where the model is from.", "link"),
    "path": Meaning("A path of this machine, for the source `local`.", None),
    "StatQuery.path": Meaning("A path; without it the folder of the models.", "models"),
    "folder": Meaning("A folder of models.", "checkpoints"),
    "to_folder": Meaning("The folder that a model moves to.", None),
    "to_filename": Meaning("The name that a moved model gets.", None),
    "sha256": Meaning("What the content must be, in hexadecimal.", None),
    "folderPath": Meaning("ComfyDeploy's name for `folder`.", None),
    "downloadLink": Meaning("ComfyDeploy's name for `url`.", None),
    "huggingface": Meaning("ComfyDeploy's form of a model of Hugging Face.", None),
    "civitai": Meaning("ComfyDeploy's form of a model of Civitai.", None),
    "repoId": Meaning("A repository of Hugging Face.", "owner/repo"),
    "format": Meaning("`folders`: by folder, in the form of the ComfyUI node.", "flat"),
    "search": Meaning("Only what has these words.", "portrait"),
    "FileQuery.filename": Meaning(
        "A name relative to ComfyUI or to Jupyter's root.", "input/a.png"
    ),
    "FileQuery.file_path": Meaning("Another name for `filename`.", "input/a.png"),
    # workflows
    "target": Meaning("Whether this is for the local store or for ComfyDeploy.", "local"),
    "api_url": Meaning(
        "The address of ComfyDeploy; it sends the request there.", "https://api.comfydeploy.com"
    ),
    "name": Meaning("A name.", "Portrait"),
    "comment": Meaning("What is new in the version.", "first light"),
    "machine_id": Meaning("A machine's id or name.", "local"),
    "force": Meaning("Whether a version is made even of the same graph.", False),
    # machines
    "kind": Meaning("What kind of machine; follows from the other fields.", "comfyui"),
    "comfyui_url": Meaning("The address of a ComfyUI.", "http://127.0.0.1:8189"),
    "comfyui_path": Meaning("The folder of a ComfyUI on this machine.", None),
    "comfyui_python": Meaning("The Python that runs ComfyUI.", None),
    "launch_args": Meaning("Further arguments for ComfyUI's main.py.", ["--lowvram"]),
    "env": Meaning("Environment variables of ComfyUI; null removes one.", {"HF_HUB_OFFLINE": "1"}),
    "gpu": Meaning("The GPU to use: a number here, a kind at ComfyDeploy.", None),
    "autostart": Meaning("Whether it is found or started together with Jupyter.", True),
    "docker_steps": Meaning("Another name for `docker_command_steps`.", None),
    "docker_command_steps": Meaning("What a machine of ComfyDeploy is built of.", None),
    "comfyui_version": Meaning("The version of ComfyUI, for a machine of ComfyDeploy.", None),
    "restart": Meaning("Whether ComfyUI is started again with the new settings.", False),
    "reset": Meaning("Whether all that was changed before is forgotten.", False),
    "snapshot": Meaning("An environment of before, or ComfyUI-Manager's; as object or text.", None),
    "SnapshotRequest.name": Meaning("The name of the build context.", "studio"),
    "models": Meaning(
        "The names of the models that are meant; without it all that are missing.",
        ["ae.safetensors"],
    ),
    "dry_run": Meaning("Whether only to tell what would be fetched.", True),
    "sizes": Meaning("Whether to ask the sites how large what is missing is.", True),
    "include_models": Meaning("Whether the image holds the models too.", False),
    "build": Meaning("Whether the image is built at once.", False),
    "lines": Meaning("How many lines at most.", 200),
    # tunnels and signing in
    "TunnelQuery.target": Meaning("Which tunnel; without it all.", "comfyui"),
    "TunnelStartRequest.target": Meaning("What is exposed.", "comfyui"),
    "TunnelStartRequest.machine": Meaning(
        "Whose ComfyUI is exposed, by id or name; not beside `port`, nor for Jupyter.", None
    ),
    "TunnelStartRequest.token": Meaning("The token of a named tunnel.", None),
    "TunnelStartRequest.wait": Meaning("Whether to answer only when the tunnel is up.", True),
    "port": Meaning("The port of what is exposed.", 8188),
    "hostname": Meaning("The public name of a named tunnel.", None),
    "protect": Meaning("False exposes a bare ComfyUI to everybody.", True),
    "request_id": Meaning("The id that was drawn for the sign-in.", "c1f4a0d2"),
}


def meaning_of(model: str, field: str) -> Meaning:
    """Return what a field of a request model means.

    Raises
    ------
    KeyError
        If it is not described here.
    """
    return FIELDS.get(f"{model}.{field}") or FIELDS[field]
