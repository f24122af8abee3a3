"""Trial of a loaded agent: a few steps of its sampler, so that one that cannot plan is refused.

Weights that fit every shape do not make a network that runs: a tap may name no module, heads may
not divide a width, an instruction may have more words than the table. The libraries say so in the
middle of a plan; here it is said at load.
"""

import copy

import torch
from torch import nn

from vp_agent.diffusion.draw import draw
from vp_agent.errors import PlanError
from vp_agent.model.diffusion_policy import DiffusionPolicy
from vp_agent.model.video_policy import VideoPolicy, parameter_count

# Steps of a trial: what overflows does so when the network sees its own output again.
STEPS = 3
LARGEST_ACTION = 1e6  # normalised; trained ones are within [-1, 1] or little beyond
# Above it a step takes seconds on a CPU: shapes alone are tried, on weights that have no values.
LARGEST_REAL = 50_000_000


def is_small(model: nn.Module) -> bool:
    """Whether the trial is a real plan, which the model has to be loaded for."""
    return parameter_count(model) <= LARGEST_REAL


@torch.no_grad()
def try_shapes(model: VideoPolicy | DiffusionPolicy) -> None:
    """The trial of a large model, which may be blank; raises what its libraries raise."""
    _try(copy.deepcopy(model).to("meta").eval())


@torch.no_grad()
def try_plan(model: VideoPolicy | DiffusionPolicy) -> None:
    """The trial of a small model; raises what its libraries raise, or a `PlanError`."""
    _try(model)


def _try(model: VideoPolicy | DiffusionPolicy) -> None:
    config, device = model.config, model.device
    generator = torch.Generator("cpu").manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        return drawn.to(device)

    video, actions = config.noise_shapes
    tier = config.tier("default")
    drawn = draw(
        model,
        noise(1, len(config.views), 3, *config.resolution).clamp(-1, 1),
        model.encode_text(["lift the cube " * 40]),  # the longest that is read
        sampler=tier.changed(steps=min(tier.steps, STEPS), guidance=None),
        video_noise=noise(1, *video),
        action_noise_BKA=noise(1, *actions),
        with_video=True,
    )
    if not drawn.actions_BKA.is_meta and drawn.actions_BKA.abs().max() > LARGEST_ACTION:
        raise PlanError(f"the planned actions are beyond {LARGEST_ACTION:g} times their range")
