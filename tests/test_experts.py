"""The scripted experts solve what they claim to solve."""

from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest

import vp_agent  # noqa: F401
from vp_agent.envs.experts import expert_for
from vp_agent.errors import UnknownNameError

pytestmark = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")


def solved(task: str, seeds: range, noise: float = 0.0) -> int:
    """How many of the seeds the expert solves."""
    env, expert, wins = gym.make(f"Robosuite-{task}-v0", views=()), expert_for(task), 0
    for seed in seeds:
        env.reset(seed=seed)
        expert.reset(env)
        generator, ended = np.random.default_rng(seed), False
        while not ended:
            action = expert.act(env)
            assert action.shape == (7,)
            assert action.dtype == np.float32
            action[:6] += generator.normal(0, noise, 6)
            _, _, terminated, truncated, _ = env.step(np.clip(action, -1, 1))
            ended, wins = terminated or truncated, wins + terminated
    env.close()
    return wins


def test_lift_expert_lifts_in_spite_of_noise():
    assert solved("Lift", range(2), noise=0.2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Lift", "Stack", "Door"])
def test_experts_solve_five_of_five_seeds(task):
    assert solved(task, range(1000, 1005)) == 5


def test_a_task_without_expert_is_refused_with_a_hint():
    with pytest.raises(UnknownNameError, match="did you mean 'Stack'"):
        expert_for("Stakc")
