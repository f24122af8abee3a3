"""The CNN adapter: U-Net feature maps to the vector that conditions the action head."""

# B batch, V views, T frames per view, C channels, H W height/width, E time-embedding width

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vp_agent.adapter_config import AdapterConfig, LayerConfig


class Bottleneck(nn.Module):
    """1x1x1 - 3x3x3 - 1x1x1 convolutions with a residual; the time embedding joins inside.

    The time term is added after the activation of the first convolution, as in the published model.
    """

    def __init__(
        self, channels_in: int, layer: LayerConfig, *, stride: tuple[int, int, int], time_width: int
    ) -> None:
        super().__init__()
        width = layer.channels // layer.expansion
        groups_out = layer.groups * layer.expansion
        self.time = nn.Linear(time_width, width)
        self.conv1 = nn.Conv3d(channels_in, width, 1, bias=False)
        self.norm1 = nn.GroupNorm(layer.groups, width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(layer.groups, width)
        self.conv3 = nn.Conv3d(width, layer.channels, 1, bias=False)
        self.norm3 = nn.GroupNorm(groups_out, layer.channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1, 1) or channels_in != layer.channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels_in, layer.channels, 1, stride, bias=False),
                nn.GroupNorm(groups_out, layer.channels),
            )

    def forward(self, x_BCTHW: Tensor, time_BE: Tensor) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x_BCTHW)))
        h = h + self.time(F.silu(time_BE))[:, :, None, None, None]
        h = F.silu(self.norm2(self.conv2(h)))
        h = self.norm3(self.conv3(h))
        return F.silu(h + self.shortcut(x_BCTHW))


class Layer(nn.Module):
    """A stack of bottlenecks, the first of which strides."""

    def __init__(self, channels_in: int, layer: LayerConfig, *, time_width: int) -> None:
        super().__init__()
        stride = (layer.stride_t, layer.stride_s, layer.stride_s)
        self.blocks = nn.ModuleList(
            Bottleneck(
                channels_in if i == 0 else layer.channels,
                layer,
                stride=stride if i == 0 else (1, 1, 1),
                time_width=time_width,
            )
            for i in range(layer.blocks)
        )

    def forward(self, x_BCTHW: Tensor, time_BE: Tensor) -> Tensor:
        for block in self.blocks:
            x_BCTHW = block(x_BCTHW, time_BE)
        return x_BCTHW


class ViewTrunk(nn.Module):
    """Takes the taps of one view in, from shallow to deep."""

    def __init__(self, config: AdapterConfig, *, time_width: int) -> None:
        super().__init__()
        self.sides = nn.ModuleList()
        self.trunks = nn.ModuleList()
        channels = 0
        for tap in config.taps:
            joined = tap.channels
            if tap.side is not None:
                self.sides.append(Layer(tap.channels, tap.side, time_width=time_width))
                joined = channels + tap.side.channels
            self.trunks.append(Layer(joined, tap.trunk, time_width=time_width))
            channels = tap.trunk.channels
        self.layers = nn.ModuleList()
        for layer in config.view_layers:
            self.layers.append(Layer(channels, layer, time_width=time_width))
            channels = layer.channels
        self.channels = channels

    def forward(self, taps_BCTHW: list[Tensor], time_BE: Tensor) -> Tensor:
        x = self.trunks[0](taps_BCTHW[0], time_BE)
        for tap, side, trunk in zip(taps_BCTHW[1:], self.sides, self.trunks[1:], strict=True):
            x = trunk(torch.cat([x, side(tap, time_BE)], dim=1), time_BE)
        for layer in self.layers:
            x = layer(x, time_BE)
        return x


class Adapter(nn.Module):
    """Feature maps of all views to one vector per sample."""

    def __init__(self, config: AdapterConfig, *, views: int, time_width: int) -> None:
        super().__init__()
        self.views = nn.ModuleList(ViewTrunk(config, time_width=time_width) for _ in range(views))
        channels = sum(view.channels for view in self.views)  # type: ignore[misc]
        self.fused = nn.ModuleList()
        for layer in config.fused_layers:
            self.fused.append(Layer(channels, layer, time_width=time_width))
            channels = layer.channels
        self.norm = nn.GroupNorm(config.norm_groups, channels)
        self.grid = config.grid

    def forward(self, taps: list[Tensor], time_BE: Tensor) -> Tensor:
        """Taps from shallow to deep, each (B, V, C, T, h, w), to a grid (B, C', T', h', w')."""
        x = torch.cat(
            [
                view([tap_BVCTHW[:, v] for tap_BVCTHW in taps], time_BE)
                for v, view in enumerate(self.views)
            ],
            dim=1,
        )
        for layer in self.fused:
            x = layer(x, time_BE)
        x = self.norm(x)
        return x if self.grid is None else F.adaptive_avg_pool3d(x, self.grid)


def output_width(config: AdapterConfig, *, frames: int, latent_hw: tuple[int, int]) -> int:
    """Length of the flattened adapter output for a clip of `frames` frames per view."""
    layers = [tap.trunk for tap in config.taps] + [*config.view_layers, *config.fused_layers]
    first = config.taps[0].factor
    height, width = (side // first for side in latent_hw)
    for layer in layers:  # a strided convolution with padding rounds up
        frames = -(-frames // layer.stride_t)
        height, width = -(-height // layer.stride_s), -(-width // layer.stride_s)
    return layers[-1].channels * prod(config.grid or (frames, height, width))
