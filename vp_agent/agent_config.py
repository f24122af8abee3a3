"""What the configurations of all kinds of agents share, and how they become JSON and back."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_origin

import cattrs
from cattrs.v import format_exception

from vp_agent.config_bounds import LARGEST_CLIP, check_bounds
from vp_agent.errors import ConfigError, UnknownNameError, closest, require, short

Config = TypeVar("Config", bound="AgentConfig")


@dataclass(frozen=True, kw_only=True)
class ActionHeadConfig:
    """The 1-D action U-Net (adapted from Diffusion Policy)."""

    widths: tuple[int, ...] = (256, 512, 1024)
    step_width: int = 256
    kernel: int = 5
    groups: int = 8


@dataclass(frozen=True, kw_only=True)
class ActionStats:
    """Per-dimension range of the training actions; the policy works in [-1, 1] between them."""

    min: tuple[float, ...]
    max: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.min) == len(self.max), "action statistics: min and max differ in width")
        for i, (low, high) in enumerate(zip(self.min, self.max, strict=True)):
            require(
                low < high and math.isfinite(high - low),  # also refuses NaN
                f"action statistics: dimension {i} has min {low}, max {high}; "
                "expected finite numbers with min < max",
            )


class AgentConfig:
    """What the configuration of every kind of agent has; the frozen dataclasses list the fields.

    Attributes:
        policy: which kind: "video" (`VideoPolicyConfig`) or a Diffusion Policy.
        views: cameras in canvas order.
        horizon: actions of one chunk (K).
        execute: how many of them are executed before the next plan.
        resolution: (height, width) of the images.
        text_encoder: arguments of the transformers class.
        action_stats: None until a stage with actions has seen a dataset.
        action_names: what the action's dimensions are, by that dataset; empty if it did not say.
        clip_actions: to the training range.
        render_quality: how the simulator drew the training images.
        image_transform: how they were turned: "flip_v" upright, "raw" and "rot180" as LIBERO's
            demonstrations and LeRobot's processor have them (`LiberoEnv`).
        training: what trained it, stage by stage.
        origin: the weights this agent began with and their licence; empty if trained from scratch.
    """

    policy: Any
    views: tuple[str, ...]
    frames_per_view: int
    frame_stride: int
    horizon: int
    execute: int
    action_dim: int
    control_hz: float
    resolution: tuple[int, int]
    text_encoder: dict[str, Any]
    action_head: ActionHeadConfig
    tiers: Any
    default_tier: str
    action_stats: ActionStats | None
    action_names: tuple[str, ...]
    clip_actions: bool
    render_quality: Literal["full", "fast"]
    image_transform: Literal["flip_v", "raw", "rot180"]
    training: tuple[str, ...]
    origin: str

    def check_common(self) -> None:
        """Raises `ConfigError` where fields that every kind has do not fit together."""
        require(len(self.views) > 0, "views must name at least one camera")
        require(len(set(self.views)) == len(self.views), f"views repeat: {self.views}")
        require(min(self.resolution) > 0, f"resolution must be positive, got {self.resolution}")
        require(
            0 < self.execute <= self.horizon,
            f"execute must be in 1..horizon={self.horizon}, got {self.execute}",
        )
        lengths = 2 ** (len(self.action_head.widths) - 1)
        require(
            self.horizon % lengths == 0, f"horizon must be a multiple of {lengths}: {self.horizon}"
        )
        require(
            self.default_tier in self.tiers,
            f"default_tier {self.default_tier!r} is not among tiers {sorted(self.tiers)}",
        )
        if self.action_stats is not None:
            require(
                len(self.action_stats.min) == self.action_dim,
                f"action statistics have {len(self.action_stats.min)} dimensions, "
                f"action_dim is {self.action_dim}",
            )
        require(
            len(self.action_names) in (0, self.action_dim),
            f"{len(self.action_names)} action_names for action_dim {self.action_dim}",
        )
        pixels = len(self.views) * self.frames_per_view * math.prod(self.resolution)
        require(
            pixels <= LARGEST_CLIP,
            f"{len(self.views)} views of {self.frames_per_view} frames at {self.resolution} are "
            f"{pixels} pixels; at most {LARGEST_CLIP} fit",
        )

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments for `gym.make` that give the images the policy is trained on."""
        turned = self.image_transform != "flip_v"  # only LIBERO's environments can
        return {
            "views": list(self.views),
            "resolution": list(self.resolution),
            "render_quality": self.render_quality,
            **({"transform": self.image_transform} if turned else {}),
        }

    def tier(self, name: str) -> Any:
        """The sampler setting called `name` ("default" is the configuration's own choice)."""
        name = self.default_tier if name == "default" else name
        if not isinstance(name, str) or name not in self.tiers:
            raise UnknownNameError(
                f"no tier {short(name)}{closest(str(name), self.tiers)}; "
                f"tiers: {', '.join(self.tiers)}"
            )
        return self.tiers[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary."""
        values = cattrs.unstructure(self)
        if not self.action_names:  # agents without it keep their bytes, and so their fingerprint
            del values["action_names"]
        return values

    @classmethod
    def from_dict(cls: "type[Config]", values: Mapping[str, Any]) -> "Config":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown or has a value that does not fit.
        """
        check_bounds(values)
        return structure(values, cls)

    def replace(self: "Config", **changes: Any) -> "Config":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _strictly(kind: Any, words: str) -> Any:
    """A hook that takes what is of this kind already: cattrs would make 1 of True and of "1"."""

    def hook(value: Any, wanted: type) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"expected {words}, got {value!r}")
        return wanted(value)

    return hook


_converter = cattrs.Converter(forbid_extra_keys=True)
for _wanted, _kind, _words in (
    (int, Integral, "a whole number"),
    (float, Real, "a number"),
    (bool, bool, "true or false"),
    (str, str, "text"),
):
    _converter.register_structure_hook(_wanted, _strictly(_kind, _words))
_any_tuple = _converter.get_structure_hook(tuple[str, ...])


def _list(value: Any, wanted: Any) -> Any:
    if not isinstance(value, list | tuple):  # of a text, cattrs would take the letters
        raise ConfigError(f"expected a list, got {value!r}")
    return _any_tuple(value, wanted)


_converter.register_structure_hook_func(lambda kind: get_origin(kind) is tuple, _list)


def structure(values: Mapping[str, Any], cls: type[Any]) -> Any:
    """Builds the frozen dataclass `cls` from JSON values, refusing unknown fields."""
    try:
        return _converter.structure(values, cls)
    except ConfigError:
        raise
    except Exception as error:  # cattrs raises exception groups; their messages name the field
        details = "; ".join(cattrs.transform_error(error, format_exception=_in_words))
        raise ConfigError(f"{cls.__name__} does not fit: {details}") from error


def _in_words(error: BaseException, cls: type | None) -> str:
    # cattrs would call our own checks' words "invalid value"
    return str(error) if isinstance(error, ConfigError) else format_exception(error, cls)
