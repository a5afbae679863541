"""The tab of UploadPanel that adds a model from a link. It makes no requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from .parts import button, note, row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LABEL_WIDTH = "100px"

USUAL_FOLDERS = ("checkpoints", "loras", "vae", "controlnet", "embeddings", "upscale_models")
"""The folders that can be chosen until ComfyUI's own folders are known."""


class AddModelTab:
    """The fields for the link, the folder, the file name and the hash of a model.

    Parameters
    ----------
    on_add : callable
        Called on a click of Add model.
    """

    def __init__(self, on_add: Callable[[], object]) -> None:
        style = {"description_width": LABEL_WIDTH}
        half = {"width": "auto", "flex": "1 1 290px", "margin": "0"}
        full = {**half, "flex": "1 1 100%"}
        self.link = w.Text(
            description="Link",
            placeholder="https://huggingface.co/…, https://civitai.com/models/… or any other",
            style=style,
            layout=w.Layout(**full),
        )
        self.folder = w.Dropdown(
            description="Models folder",
            options=USUAL_FOLDERS,
            style=style,
            layout=w.Layout(**half),
        )
        self.filename = w.Text(
            description="File name",
            placeholder="as in the link",
            style=style,
            layout=w.Layout(**half),
        )
        self.sha256 = w.Text(
            description="SHA-256",
            placeholder="checked, if given",
            style=style,
            layout=w.Layout(**full),
        )
        self.add = button(
            "Add model",
            on_add,
            icon="download",
            style="primary",
            hint="Download the model into ComfyUI's folder",
        )
        self._state = w.HTML(layout=w.Layout(margin="0", flex="1 1 auto", width="auto"))
        self.box = w.VBox(
            [
                row(self.link),
                row(self.folder, self.filename),
                row(self.sha256),
                row(self.add, self._state),
            ],
            layout=w.Layout(width="100%", grid_gap="8px", padding="4px 0 0"),
        )

    def offer(self, folders: Sequence[str]) -> None:
        """Offer the folders of ComfyUI; keep the chosen one if it is among them."""
        chosen = self.folder.value
        self.folder.options = folders
        self.folder.value = chosen if chosen in folders else next(iter(folders), None)

    def show_text(self, text: str) -> None:
        """Show the result of the last click."""
        self._state.value = note(text, live=True) if text else ""

    def clear(self) -> None:
        """Empty the fields that belong to one model."""
        for field in (self.link, self.filename, self.sha256):
            field.value = ""
