"""An error message beside a control."""

from __future__ import annotations

import html
import re

import ipywidgets as w

from ..errors import ComfyDeployError


# ipywidgets has no types
class Problem(w.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """An error message beside the control that caused it; hidden while there is no error."""

    def __init__(self) -> None:
        super().__init__(layout=w.Layout(display="none", margin="0", width="auto"))

    def show(self, error: Exception | str) -> None:
        """Show an error until the next `clear`."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if isinstance(error, ComfyDeployError):
            text = error.message
        self.value = f'<div class="comfydeploy-error" role="alert">{unbroken(text)}</div>'
        self.layout.display = ""

    def clear(self) -> None:
        """Remove the error."""
        self.value = ""
        self.layout.display = "none"


def unbroken(text: str) -> str:
    """Return a text as HTML; options in it, such as ``--lowvram``, are not broken into lines."""
    return re.sub(r"--\w[\w-]*", r'<span class="cd-unbroken">\g<0></span>', html.escape(text))
