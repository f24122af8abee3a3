"""Any policy as an evaluation flies it, and the yardsticks to hold it against."""

# K action steps, A action dim

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from vp_agent.envs.experts import expert_for
from vp_agent.randomness import mix


class PlanLike(Protocol):
    """What an episode reads of a plan."""

    @property
    def actions(self) -> np.ndarray:
        """(K, A), in the environment's units."""
        ...

    @property
    def video(self) -> dict[str, np.ndarray] | None:
        """Imagined frames, view -> uint8 (T, H, W, 3)."""
        ...

    @property
    def latency_s(self) -> float: ...


class Policy(Protocol):
    """One lane's policy."""

    @property
    def execute(self) -> int:
        """How many actions of a plan are executed."""
        ...

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Begins an episode."""
        ...

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> PlanLike:
        """The next actions; `seed` is the plan's own."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedPolicy:
    """A policy that is ready to fly.

    Attributes:
        identity: what journals of it agree on.
        lane: makes the policy of one lane; what is heavy is shared between lanes.
        env_kwargs: of the environment, so that it shows what the policy was trained on.
        image_transform: how the images it wants are turned; None if it does not look.
        action_dim: of its actions.
        frame_stride: control steps between imagined frames; None if it imagines nothing.
        control_hz: rate of its actions.
        device: type of the device it plans on.
        gpu: name of that device; "none" if it is not a GPU.
        torch: version of what it plans with; None if that is not known or not torch.
        sees_simulator: it reads the simulator's state, so the environment must be in this process.
        facts: more for results.json.
    """

    identity: Mapping[str, Any]
    lane: Callable[[], Policy]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    image_transform: str | None = None
    action_dim: int = 7
    frame_stride: int | None = None
    control_hz: float = 20.0
    device: str = "cpu"
    gpu: str = "none"
    torch: str | None = None
    sees_simulator: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Actions:
    """A plan that is actions alone."""

    actions: np.ndarray
    video: None = None
    latency_s: float = 0.0


class HoldStill:
    """Never moves: what the task gives without a policy."""

    execute = 16

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Nothing to forget."""

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Actions:
        """No motion, open hand."""
        still = np.array([0.0] * 6 + [-1.0], np.float32)
        return Actions(actions=np.tile(still, (self.execute, 1)))


class Random:
    """Uniform actions."""

    execute = 16

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Nothing to forget."""

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Actions:
        """The chunk of this seed."""
        generator = np.random.default_rng(seed)
        return Actions(actions=generator.uniform(-1, 1, (self.execute, 7)).astype(np.float32))


class Scripted:
    """The task's scripted expert, which sees the simulator's state."""

    execute = 1

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Looks up the expert of the environment's task."""
        self._env = env
        self._expert = expert_for(getattr(env.unwrapped, "task"))  # noqa: B009
        self._expert.reset(env)

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Actions:
        """The expert's next action."""
        return Actions(actions=self._expert.act(self._env)[None])


class ByStep:
    """Any object with `act(obs)` and `reset()` as a policy of one action per plan."""

    execute = 1

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Resets the object; with the seed if it takes one."""
        takes_seed = "seed" in inspect.signature(self._policy.reset).parameters
        self._policy.reset(**({"seed": seed} if takes_seed else {}))

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Actions:
        """One action."""
        return Actions(actions=np.asarray(self._policy.act(obs), np.float32)[None])


YARDSTICKS: Mapping[str, Callable[[], Policy]] = {
    "hold-still": HoldStill,
    "random": Random,
    "expert": Scripted,
}


def yardstick(name: str) -> LoadedPolicy:
    """The yardstick called `name`; it looks at one small view, because environments draw some."""
    return LoadedPolicy(
        identity={"agent": name, "tier": None, "sampler": None},
        lane=YARDSTICKS[name],
        env_kwargs={"resolution": [64, 64], "render_quality": "fast"},
        sees_simulator=name == "expert",
    )


def plan_seed(policy_seed: int, number: int) -> int:
    """Seed of an episode's plan: a function of suite, task, episode and plan number alone."""
    return mix(policy_seed, number)
