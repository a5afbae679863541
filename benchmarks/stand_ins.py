"""Write small models with random weights, in place of those that templates of ComfyUI need.

    cd ComfyUI && python .../stand_ins.py FOLDER

ComfyUI's interpreter runs this file. The models for pictures have the architecture of Stable
Diffusion 1.5 with one level instead of four, those for videos that of Hunyuan Video with one block
of each kind and of Wan's VAE with few channels, and CLIP vision is a whole ViT-L. So nothing useful
is made with them; what they compute, the real ones do, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])
sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads it at import
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402 - the path is set above

comfy.options.enable_args_parsing()

import comfy.clip_model  # noqa: E402 - the path is set above
import comfy.ops  # noqa: E402 - the same
import torch  # noqa: E402 - the same
from comfy.cldm.cldm import ControlNet  # noqa: E402 - the same
from comfy.ldm.hunyuan_video.model import HunyuanVideo, HunyuanVideoParams  # noqa: E402 - the same
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402 - the same
from comfy.ldm.wan.vae import WanVAE  # noqa: E402 - the same
from comfy.taesd.taesd import TAESD  # noqa: E402 - the same
from safetensors.torch import save_file  # noqa: E402 - the same

SHAPE = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "legacy": False,
}
LINEAR = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"


def weights(module: torch.nn.Module, seed: int, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the random weights of a module: the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.03
            is_norm = tensor.ndim == 1 and name.endswith("weight")
            found[prefix + name] = (values + 1 if is_norm else values).half().contiguous()
    return found


def keep(name: str, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, FOLDER / f"{name}.safetensors")


operations = {"operations": comfy.ops.manual_cast}
config = json.loads(Path("comfy/sd1_clip_config.json").read_text())
text = comfy.clip_model.CLIPTextModel(config, torch.float32, "cpu", comfy.ops.manual_cast)
unet = UNetModel(**SHAPE, out_channels=4, transformer_depth_output=[1, 1], **operations)
vae = weights(TAESD(), 3)
keep(
    "checkpoints",
    {
        **weights(unet, 1, "model.diffusion_model."),
        **weights(text, 2, "cond_stage_model.transformer."),
        **{f"first_stage_model.{name}": tensor for name, tensor in vae.items()},
    },
)
keep("diffusion_models", weights(unet, 1))
keep("text_encoders", weights(text, 2))
keep("vae", vae)
keep("controlnet", weights(ControlNet(**SHAPE, hint_channels=3, **operations), 4))
layers = [torch.nn.Conv2d(3, 16, 3), torch.nn.PReLU(16), torch.nn.Conv2d(16, 16, 3)]
layers += [torch.nn.PReLU(16), torch.nn.Conv2d(16, 48, 3)]
upscaler = weights(torch.nn.ModuleDict({"body": torch.nn.Sequential(*layers)}), 5)
keep("upscale_models", upscaler)
down, up = (torch.nn.Linear(*size, bias=False) for size in ((320, 4), (4, 320)))
lora = torch.nn.ModuleDict({"lora_down": down, "lora_up": up})
keep("loras", weights(lora, 6, f"{LINEAR}."))
vision = json.loads(Path("comfy/clip_vision_config_vitl.json").read_text())
encoder = comfy.clip_model.CLIPVisionModelProjection(
    vision, torch.float32, "cpu", comfy.ops.manual_cast
)
keep("clip_vision", weights(encoder, 7))
config = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": 768,  # of the text encoder, as the next one
    "context_in_dim": 768,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": True,
}
parts = {name: config.get(name) for name in HunyuanVideoParams.__dataclass_fields__}
video = HunyuanVideo(**parts, **operations)
keep("diffusion_models-video", weights(video, 8))
shape = {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
keep("vae-video", weights(WanVAE(dim=16, z_dim=16, **shape), 9))
