"""One camera's image as a vector: ResNet18 or CLIP, as Diffusion Policy (UMI) uses them."""

# B batch, C channels, H W pixels, h w of the feature map, L = 1 + h w tokens, D feature width

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ResNetConfig, ResNetModel

from vp_agent.diffusion_policy_config import DiffusionPolicyConfig

# Of the images that the pretrained weights saw, in 0..1.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CHANNELS_PER_GROUP = 16
HEAD_WIDTH = 64


class AttentionPool(nn.Module):
    """A feature map's mean attends to its cells (as CLIP's ResNets do, and UMI)."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        start = torch.randn(1 + cells, width, dtype=torch.float32, device="cpu")
        self.position_LD = nn.Parameter(start / width**0.5)
        self.attention = nn.MultiheadAttention(width, max(1, width // HEAD_WIDTH), batch_first=True)

    def forward(self, features_BDhw: Tensor) -> Tensor:
        cells_BLD = rearrange(features_BDhw, "b d h w -> b (h w) d")
        tokens_BLD = torch.cat([cells_BLD.mean(1, keepdim=True), cells_BLD], dim=1)
        tokens_BLD = tokens_BLD + self.position_LD
        pooled, _ = self.attention(tokens_BLD[:, :1], tokens_BLD, tokens_BLD, need_weights=False)
        return pooled[:, 0]


class ViewEncoder(nn.Module):
    """Images in [-1, 1] (B, 3, H, W) to features (B, width)."""

    def __init__(self, config: DiffusionPolicyConfig) -> None:
        super().__init__()
        self.crop, height = config.crop, config.resolution[0]
        mean, std = CLIP if config.policy == "dp-clip" else IMAGENET
        self.register_buffer("mean_C11", _per_channel(mean), persistent=False)
        self.register_buffer("std_C11", _per_channel(std), persistent=False)
        self.pool: AttentionPool | None = None
        self.backbone: CLIPVisionModel | ResNetModel
        if config.policy == "dp-clip":
            vision = CLIPVisionConfig(image_size=height, **config.vision)
            self.backbone, self.width = CLIPVisionModel(vision), vision.hidden_size
        else:
            self.backbone = ResNetModel(ResNetConfig(**config.vision))
            if config.norm == "group":
                _use_group_norm(self.backbone)
            self.width = config.vision["hidden_sizes"][-1]
            halvings = 1 + len(config.vision["hidden_sizes"])
            h, w = (-(-side // 2**halvings) for side in config.resolution)
            self.pool = AttentionPool(self.width, h * w)

    def train(self, mode: bool = True) -> "ViewEncoder":
        """The statistics of pretrained batch norms stay as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images_BCHW: Tensor, shift_B2: Tensor | None = None) -> Tensor:
        """Sees the cut whose middle lies `shift_B2` (x, y) from the image's, in -1..1 of the room.

        None is the middle itself.
        """
        if self.crop < 1:
            images_BCHW = _cut(images_BCHW, self.crop, shift_B2)
        pixels = ((images_BCHW + 1) / 2 - self.mean_C11) / self.std_C11  # type: ignore[operator]
        out = self.backbone(pixels.to(self.backbone.dtype))
        return out.pooler_output if self.pool is None else self.pool(out.last_hidden_state)


def _per_channel(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")[:, None, None]


def _cut(images_BCHW: Tensor, crop: float, shift_B2: Tensor | None) -> Tensor:
    """A part of every image, drawn to its full size again."""
    transform_B23 = images_BCHW.new_zeros(len(images_BCHW), 2, 3)
    transform_B23[:, 0, 0] = transform_B23[:, 1, 1] = crop
    if shift_B2 is not None:
        transform_B23[:, :, 2] = (1 - crop) * shift_B2
    grid = F.affine_grid(transform_B23, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, align_corners=False)


def _use_group_norm(backbone: nn.Module) -> None:
    """Batch statistics and averaged weights do not go together (Diffusion Policy)."""
    for parent in list(backbone.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                channels = module.num_features
                setattr(parent, name, nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels))
