"""What the CNN adapter is made of: which feature maps it taps, and its layers."""

from dataclasses import dataclass

from vp_agent.errors import require


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """A stack of bottleneck blocks; the first one strides.

    Attributes:
        channels: output channels; the inner width is channels / expansion.
        groups: normalisation groups of the inner width (the output has groups * expansion).
    """

    channels: int
    groups: int
    blocks: int = 2
    expansion: int = 4
    stride_t: int = 1
    stride_s: int = 1

    def __post_init__(self) -> None:
        require(
            self.channels % self.expansion == 0
            and self.channels // self.expansion % self.groups == 0,
            f"adapter layer: {self.channels} channels do not divide by expansion {self.expansion} "
            f"and groups {self.groups}",
        )


@dataclass(frozen=True, kw_only=True)
class TapConfig:
    """One feature map of the U-Net and the adapter layers that take it in.

    Attributes:
        module: dotted name of the diffusers module whose output is tapped.
        channels: its channels.
        factor: latent side / feature side.
        side: layer between the tap and the concatenation with the trunk (none for the first tap).
        trunk: layer after the concatenation.
    """

    module: str
    channels: int
    factor: int
    trunk: LayerConfig
    side: LayerConfig | None = None


def _layer(channels: int, groups: int = 10, **kwargs: int) -> LayerConfig:
    return LayerConfig(channels=channels, groups=groups, **kwargs)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The CNN adapter (paper section 3.2): taps from shallow to deep, each view, then all views.

    Attributes:
        grid: (frames, height, width) that the output is averaged to, so that one action head serves
            every resolution and number of frames; None keeps the output as it is (published).
    """

    taps: tuple[TapConfig, ...] = (
        TapConfig(
            module="up_blocks.3.attentions.1", channels=320, factor=1, trunk=_layer(320, stride_s=2)
        ),
        TapConfig(
            module="up_blocks.2.attentions.1",
            channels=640,
            factor=2,
            side=_layer(320),
            trunk=_layer(640, stride_s=2),
        ),
        TapConfig(
            module="up_blocks.1.attentions.1",
            channels=1280,
            factor=4,
            side=_layer(640),
            trunk=_layer(1280, stride_s=2),
        ),
        TapConfig(
            module="up_blocks.0.resnets.1",
            channels=1280,
            factor=8,
            side=_layer(640),
            trunk=_layer(1280),
        ),
        TapConfig(
            module="down_blocks.2.downsamplers.0",
            channels=1280,
            factor=8,
            side=_layer(640),
            trunk=_layer(1280),
        ),
    )
    view_layers: tuple[LayerConfig, ...] = (_layer(864, 8), _layer(576, 6))
    fused_layers: tuple[LayerConfig, ...] = (
        _layer(1280),
        _layer(960, 8),
        _layer(720, 6),
        _layer(540, 5),
        _layer(420, 5),
        _layer(420, 7, expansion=2),
        _layer(420, 7, expansion=2),
        _layer(420, 7, expansion=2, blocks=4, stride_t=2),
        _layer(420, 7, expansion=2, blocks=4, stride_t=2),
        _layer(420, 7, expansion=2, blocks=4, stride_t=2),
    )
    norm_groups: int = 14
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        require(
            self.grid is None or min(self.grid) >= 1, f"adapter.grid must be positive: {self.grid}"
        )
        require(len(self.taps) > 0, "adapter.taps must name at least one U-Net module")
        require(
            self.taps[0].side is None, "adapter.taps[0] has no trunk to join: side must be null"
        )
        require(
            all(tap.side is not None for tap in self.taps[1:]),
            "every adapter tap after the first needs a side layer",
        )
