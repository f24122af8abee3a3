"""One agent for several lanes: plans that wait together are one call of the network."""

# N plans in a call, K action steps, A action dim

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from vp_agent.agent import Plan, VideoPolicyAgent
from vp_agent.evaluation.policy import LoadedPolicy


@dataclass(frozen=True)
class _Request:
    obs: Mapping[str, Any]
    seed: int
    video: bool
    answer: "Future[Plan]" = field(default_factory=Future)


class Planner:
    """Plans for any number of threads, `batch` at a time.

    Every call has exactly `batch` rows, the last request filling up what nobody asked for: the
    network's rounding depends on the shape of its input, and a plan must not depend on who else
    was waiting. With the same `batch` a plan is the same bit for bit, whatever its row.
    """

    def __init__(self, agent: VideoPolicyAgent, *, batch: int = 1, threads: int = 1) -> None:
        """Takes the agent for itself.

        Args:
            agent: what plans.
            batch: rows of every call.
            threads: CPU threads of a call; the caller's own setting stays.
        """
        self.agent, self.batch = agent, batch
        self._waiting: deque[_Request] = deque()
        # OpenMP counts threads for each thread that calls it, so this does not concern others.
        self._thread = ThreadPoolExecutor(1, "planner", torch.set_num_threads, (threads,))

    @property
    def execute(self) -> int:
        return self.agent.config.execute

    def reset(self, env: gym.Env, *, seed: int) -> None:
        """Nothing to forget: a plan is a function of observation and seed."""

    def plan(self, obs: Mapping[str, Any], *, seed: int, video: bool = False) -> Plan:
        """`agent.plan`; waits for its turn."""
        request = _Request(obs, seed, video)
        self._waiting.append(request)
        self._thread.submit(self._serve)  # finds nothing left if an earlier call took this one
        return request.answer.result()

    def _serve(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
        if not taken:
            return
        rows = taken + [taken[-1]] * (self.batch - len(taken))
        try:
            plan = self.agent.plan(
                _stacked([row.obs for row in rows]),
                seed=[row.seed for row in rows],
                video=any(row.video for row in rows),
            )
        except BaseException as error:
            for request in taken:
                request.answer.set_exception(error)
            return
        for row, request in enumerate(taken):
            frames = plan.video if request.video else None
            request.answer.set_result(
                Plan(
                    actions=plan.actions[row],
                    video=None if frames is None else {view: x[row] for view, x in frames.items()},
                    latency_s=plan.latency_s,
                )
            )


def _stacked(observations: list[Mapping[str, Any]]) -> dict[str, Any]:
    views = observations[0]["pixels"]
    stacked: dict[str, Any] = {
        "pixels": {view: np.stack([obs["pixels"][view] for obs in observations]) for view in views},
        "task": tuple(obs["task"] for obs in observations),
    }
    if all("agent_pos" in obs for obs in observations):
        stacked["agent_pos"] = np.stack([obs["agent_pos"] for obs in observations])
    return stacked


def load_agent(
    name: str,
    *,
    tier: str = "default",
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "auto",
    batch: int = 1,
    threads: int = 1,
) -> LoadedPolicy:
    """A `VideoPolicyAgent` ready to fly; see its `from_pretrained` for the arguments."""
    agent = VideoPolicyAgent.from_pretrained(
        name, device=device, tier=tier, steps=steps, guidance=guidance
    )
    planner, config = Planner(agent, batch=batch, threads=threads), agent.config
    where = agent.model.device
    return LoadedPolicy(
        identity={
            "agent": agent.fingerprint,
            "tier": agent.tier,
            "sampler": asdict(agent.sampler),
            "batch": batch,
        },
        lane=lambda: planner,
        env_kwargs=agent.env_kwargs,
        image_transform=config.image_transform,
        action_dim=config.action_dim,
        frame_stride=config.frame_stride or None,  # 0: copies of the current frame, no imagination
        control_hz=config.control_hz,
        device=where.type,
        torch=str(torch.__version__),
        gpu=torch.cuda.get_device_name(where) if where.type == "cuda" else "none",
        facts={"execute": config.execute, "horizon": config.horizon},
    )
