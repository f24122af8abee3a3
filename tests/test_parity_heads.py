"""Adapter and action U-Net at the published size give the published outputs.

The bars are eight to ten times the float32 rounding that remains between two orders of the same
sums: 1.2e-5 of the adapter, 2e-6 of the action U-Net, and of one after the other the adapter's,
magnified by the second.
"""

import pytest
import torch
from golden_formula import farthest, golden, manifest, tensor, weights

from vp_agent.checkpoints.keys import convert
from vp_agent.model.action_unet import ActionUNet
from vp_agent.model.adapter import Adapter, output_width
from vp_agent.presets import preset

pytestmark = pytest.mark.slow  # 367 million weights by formula
GOLDEN = golden("heads.npz")
CONFIG = preset("svd-robocasa")


@pytest.fixture(scope="module")
def heads():
    prefix = "model.diffusion_model."  # the formula sees the names without it
    state = {prefix + k: v for k, v in weights(manifest("heads_manifest.json")).items()}
    parts = convert(state)
    with torch.device("meta"):
        adapter = Adapter(CONFIG.adapter, views=3, time_width=1280)
        width = output_width(CONFIG.adapter, frames=8, latent_hw=(32, 32))
        head = ActionUNet(CONFIG.action_head, action_dim=7, condition_width=width, time_width=1280)
    adapter.load_state_dict(parts["adapter"], assign=True)
    head.load_state_dict(parts["action_head"], assign=True)
    return adapter, head


def run_adapter(adapter: Adapter, tag: str, *, batch: int, frames: int, height: int, width: int):
    taps = [
        torch.stack(
            [
                tensor(
                    f"in.{tag}.tap{i}.view{view}",
                    (batch, tap.channels, frames, height // tap.factor, width // tap.factor),
                    4.0,
                )
                for view in (1, 2, 3)
            ],
            dim=1,
        )
        for i, tap in enumerate(CONFIG.adapter.taps)
    ]
    with torch.no_grad():
        return adapter(taps, tensor(f"in.{tag}.emb", (batch, 1280), 4.0))


@pytest.mark.parametrize(
    ("tag", "batch", "frames", "height", "width"),
    [("a448x320", 1, 8, 40, 56), ("a256x192", 1, 8, 24, 32), ("t12", 1, 12, 32, 32)],
)
def test_the_adapter_agrees_at_other_sizes(heads, tag, batch, frames, height, width):
    ours = run_adapter(heads[0], tag, batch=batch, frames=frames, height=height, width=width)
    assert farthest(ours, GOLDEN[f"adapter_{tag}"]) <= 1e-4


def test_the_action_unet_agrees(heads):
    sample = tensor("in.act.sample", (2, 32, 7), 3.0)
    time, condition = tensor("in.act.emb", (2, 1280), 4.0), tensor("in.act.cond", (2, 6720), 3.4)
    with torch.no_grad():
        ours = heads[1](sample, time, condition)
    assert farthest(ours, GOLDEN["action_unet"]) <= 2e-5


def test_adapter_and_chained_action_unet_agree_at_256(heads):
    grid = run_adapter(heads[0], "a256", batch=2, frames=8, height=32, width=32)
    assert farthest(grid, GOLDEN["adapter_a256"]) <= 1e-4
    sample = tensor("in.act.sample", (2, 32, 7), 3.0)
    with torch.no_grad():
        ours = heads[1](sample, tensor("in.a256.emb", (2, 1280), 4.0), grid.flatten(1))
    assert farthest(ours, GOLDEN["chain_action"]) <= 2e-4
