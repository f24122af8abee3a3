"""The 1-D U-Net that denoises the action chunk (after Diffusion Policy; paper section 3.3).

With Mish for SiLU it is Diffusion Policy's own, which the baselines use.
"""

# B batch, K action steps, A action dim, L length at a level, G condition width

from collections.abc import Callable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from vp_agent.config import ActionHeadConfig

Activation = Callable[[], nn.Module]


class ConvBlock(nn.Sequential):
    """Convolution, group norm, activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        config: ActionHeadConfig,
        activation: Activation,
    ) -> None:
        super().__init__(
            nn.Conv1d(channels_in, channels_out, config.kernel, padding=config.kernel // 2),
            nn.GroupNorm(config.groups, channels_out),
            activation(),
        )


class ResidualBlock(nn.Module):
    """Two convolutions; the condition scales and shifts between them (FiLM, without 1 +)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition: int,
        config: ActionHeadConfig,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.block1 = ConvBlock(channels_in, channels_out, config, activation)
        self.block2 = ConvBlock(channels_out, channels_out, config, activation)
        self.activation = activation()
        self.film = nn.Linear(condition, 2 * channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x_BCL: Tensor, condition_BG: Tensor) -> Tensor:
        scale, shift = self.film(self.activation(condition_BG))[:, :, None].chunk(2, dim=1)
        h = scale * self.block1(x_BCL) + shift
        return self.block2(h) + self.shortcut(x_BCL)


class ActionUNet(nn.Module):
    """Noisy actions, time embedding and context vector to the network's prediction."""

    def __init__(
        self,
        config: ActionHeadConfig,
        *,
        action_dim: int,
        condition_width: int,
        time_width: int,
        activation: Activation = nn.SiLU,
    ) -> None:
        super().__init__()
        self.step = nn.Sequential(activation(), nn.Linear(time_width, config.step_width))
        condition = config.step_width + condition_width
        widths = (action_dim, *config.widths)
        pairs = list(pairwise(widths))

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, condition, config, activation)

        self.down = nn.ModuleList(
            nn.ModuleList(
                [
                    block(a, b),
                    block(b, b),
                    nn.Conv1d(b, b, 3, 2, 1) if i + 1 < len(pairs) else nn.Identity(),
                ]
            )
            for i, (a, b) in enumerate(pairs)
        )
        self.mid = nn.ModuleList([block(widths[-1], widths[-1]) for _ in range(2)])
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * b, a), block(a, a), nn.ConvTranspose1d(a, a, 4, 2, 1)])
            for a, b in reversed(pairs[1:])
        )
        self.out = nn.Sequential(
            ConvBlock(widths[1], widths[1], config, activation), nn.Conv1d(widths[1], action_dim, 1)
        )

    def forward(self, actions_BKA: Tensor, time_BE: Tensor, features_BG: Tensor) -> Tensor:
        condition_BG = torch.cat([self.step(time_BE), features_BG], dim=-1)
        x = rearrange(actions_BKA, "b k a -> b a k")
        skips = []
        for first, second, shrink in self.down:  # type: ignore[misc]
            x = second(first(x, condition_BG), condition_BG)
            skips.append(x)
            x = shrink(x)
        for block in self.mid:
            x = block(x, condition_BG)
        for first, second, grow in self.up:  # type: ignore[misc]
            x = torch.cat([x, skips.pop()], dim=1)
            x = grow(second(first(x, condition_BG), condition_BG))
        return rearrange(self.out(x), "b a k -> b k a")
