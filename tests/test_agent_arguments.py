"""Arguments of an agent's methods of any kind: taken for what they are, or one typed line."""

from typing import Any

import numpy as np
import pytest
import torch
from small import small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.errors import ConfigError, ObservationError, UnknownNameError, VPAgentError


class Hostile:
    """Raises wherever it is touched."""

    def __repr__(self) -> str:
        raise RuntimeError("hostile")

    __index__ = __iter__ = __len__ = __array__ = __repr__  # type: ignore[assignment]


class HostileDict(dict):
    """A mapping whose look-ups raise."""

    def __contains__(self, key: object) -> bool:
        raise RuntimeError("hostile")


NO_NUMBER = [Hostile(), torch.tensor(3, device="meta"), np.ma.array([1], mask=[1]), "3", 1.5]


def _one_line(error: pytest.ExceptionInfo[VPAgentError]) -> None:
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", NO_NUMBER)
def test_what_is_no_seed_is_refused_in_one_line(agent, seed):
    with pytest.raises(ConfigError, match="a seed is a whole number") as error:
        agent.reset(seed=seed)
    _one_line(error)


@pytest.mark.parametrize(
    "lanes", [*NO_NUMBER, 1, [True, False], np.array([False, True]), [-1], [1.0], [[1]], ["0"]]
)
def test_what_is_no_lane_is_refused_and_forgets_nothing(agent, lanes):
    agent.reset(seed=0)
    agent.act(small_observation(lanes=2))
    with pytest.raises(ConfigError, match="lanes are indices") as error:
        agent.reset(lanes=lanes, seed=5)
    _one_line(error)
    assert agent._seeds == 0
    assert sorted(agent._lanes) == [0, 1]


@pytest.mark.parametrize("lanes", [[1], (1,), np.array([1]), torch.tensor([1]), range(1, 2)])
def test_lanes_of_any_kind_of_whole_numbers_are_reset(agent, lanes):
    agent.reset(seed=0)
    agent.act(small_observation(lanes=2))
    agent.reset(lanes=lanes)
    assert sorted(agent._lanes) == [0]


def test_an_observation_that_raises_when_touched_is_refused(agent):
    whole = small_observation()
    for obs in (HostileDict(whole), {**whole, "pixels": HostileDict(whole["pixels"])}):
        with pytest.raises(ObservationError, match="cannot be read"):
            agent.plan(obs, seed=0)


def test_a_caller_who_writes_into_a_plan_does_not_steer_the_arm(agent):
    agent.reset(seed=0)
    agent.act(small_observation())
    second = agent.act(small_observation())
    agent.reset(seed=0)
    agent.act(small_observation())
    agent.current_plan.actions[:] = 7
    assert np.array_equal(agent.act(small_observation()), second)


WRONG: list[tuple[dict[str, Any], type[VPAgentError], str]] = [
    ({"steps": 1.5}, ConfigError, "steps must be a whole number"),
    ({"steps": "2"}, ConfigError, "steps must be a whole number"),
    ({"steps": True}, ConfigError, "steps must be a whole number"),
    ({"guidance": float("nan")}, ConfigError, "guidance must be a finite number"),
    ({"guidance": "x"}, ConfigError, "guidance must be a finite number"),
    ({"guidance": 10**400}, ConfigError, "guidance must be a finite number"),
    ({"guidance": [2.0]}, ConfigError, "guidance must be a finite number"),
    ({"tier": None}, UnknownNameError, "no tier None"),
    ({"tier": ["fast"]}, UnknownNameError, "no tier \\['fast'\\]"),
    ({"device": None}, ConfigError, "no device None"),
    ({"device": "meta"}, ConfigError, "no device 'meta'"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), WRONG)
def test_an_argument_of_another_kind_is_named_at_load(agent_folder, arguments, error, words):
    with pytest.raises(error, match=words) as raised:
        VideoPolicyAgent.from_pretrained(agent_folder, **{"device": "cpu"} | arguments)
    _one_line(raised)


def test_the_cpu_may_have_a_number(agent_folder):
    for device in ("cpu:0", torch.device("cpu")):
        agent = VideoPolicyAgent.from_pretrained(agent_folder, device=device)  # type: ignore[arg-type]
        assert agent.model.device.type == "cpu"
