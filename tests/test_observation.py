"""What is read of an observation, and what is refused by name."""

from typing import Any

import numpy as np
import pytest
from small import SMALL, small_observation

from vp_agent.errors import ObservationError
from vp_agent.observation import read_observation


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda o: o["pixels"].pop("left"), "no view 'left'"),
        (lambda o: o.pop("task"), "no 'task'"),
        (lambda o: o.update(task="  "), "instruction"),
        (lambda o: o["agent_pos"].fill(np.nan), "not finite"),
        (lambda o: o["pixels"].update(left=np.zeros((16, 16, 3), np.uint8)), "expected"),
        (lambda o: o["pixels"].update(left=np.zeros((32, 32, 3), np.float32)), "expected uint8"),
        (lambda o: o["pixels"].update(left=np.zeros((1, 32, 32, 3), np.uint8)), "batch axis"),
    ],
)
def test_a_malformed_observation_is_refused_by_name(damage, words):
    obs = small_observation()
    damage(obs)
    with pytest.raises(ObservationError, match=words):
        read_observation(obs, SMALL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": None}, "pixels must be a dict of views, got a NoneType"),
        ({"task": None}, "the task must be an instruction in words"),
        ({"agent_pos": "x"}, "agent_pos must be numbers, got a str"),
    ],
)
def test_a_part_of_another_kind_is_named(change, words):
    with pytest.raises(ObservationError, match=words):
        read_observation({**small_observation(), **change}, SMALL)


def test_what_reset_returns_is_told_from_an_observation():
    returned: Any = (small_observation(), {})
    with pytest.raises(ObservationError, match=r"got a tuple: `env.reset\(\)` gives"):
        read_observation(returned, SMALL)
