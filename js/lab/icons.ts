/** The icon of ComfyUI. */

import { LabIcon } from "@jupyterlab/ui-components";
import svgstr from "../../comfydeploy_jupyter/static/comfyui.svg";

export const comfyIcon = new LabIcon({ name: "comfydeploy-jupyter:comfyui", svgstr });
