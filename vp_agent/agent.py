"""The agent: observation in, action out; a plan is an imagined video and a chunk of actions."""

# B lanes, V views, T frames per view, S slots, C latent channels, h w latent height/width
# K action steps, A action dim, H W image height/width

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub import HfApi
from torch import Tensor

from vp_agent.card import model_card
from vp_agent.config import TierConfig
from vp_agent.device import choose_device
from vp_agent.diffusion.draw import draw
from vp_agent.diffusion_policy_config import DdimConfig
from vp_agent.errors import ConfigError
from vp_agent.folder import AnyConfig, fingerprint, load_any_agent, save_agent
from vp_agent.locate import hub_source, locate
from vp_agent.model.compile import compile_model
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.observation import Observation, read_observation
from vp_agent.randomness import lane_seeds, mix, read_lanes, read_noise, read_seeds
from vp_agent.torch_defaults import normal, planning


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the sampler.

    Attributes:
        actions: float32 (K, A) in the environment's units; (B, K, A) for a batched observation.
        video: imagined frames per view, uint8 (T, H, W, 3) or (B, T, H, W, 3); None unless asked.
        latency_s: wall time of the plan.
    """

    actions: np.ndarray
    video: dict[str, np.ndarray] | None
    latency_s: float


@dataclass
class _Lane:
    """One environment's chunk in execution."""

    seed: int
    plans: int = 0
    actions: np.ndarray | None = None
    position: int = 0


@dataclass
class VideoPolicyAgent:
    """A Video Policy that flies: `act` for receding-horizon control, `plan` for one chunk.

    Make one with `from_pretrained`. The paper's baselines fly the same way: their `model` is a
    `DiffusionPolicy`, and they imagine no video.
    """

    model: Any  # VideoPolicy or DiffusionPolicy; unchecked, for those who know which they hold
    tier: str
    sampler: TierConfig | DdimConfig  # of the model's kind
    fingerprint: str = "unsaved"
    source: str = ""  # "owner/name@commit" of what came from the Hub
    current_plan: Plan | None = field(default=None, init=False)
    _lanes: dict[int, _Lane] = field(default_factory=dict, init=False)
    _seeds: int | Sequence[int] = field(default=0, init=False)
    _texts: dict[str, Tensor] = field(default_factory=dict, init=False)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str = "auto",
        tier: str = "default",
        steps: int | None = None,
        guidance: float | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        compile: bool = False,
        revision: str | None = None,
    ) -> "VideoPolicyAgent":
        """Loads an agent.

        Args:
            name: a folder, "packaged:NAME" for an agent inside this package, or a Hub repository
                ("owner/name" or "owner/name@revision").
            device: "auto" takes a GPU if there is one.
            tier: name of one of the configuration's sampler settings.
            steps: network evaluations, instead of the tier's.
            guidance: classifier-free guidance scale, instead of the tier's.
            dtype: of the weights; the VAE and the sampler's state stay in float32.
            compile: for GPUs: channels-last and torch.compile; the first plan is slow.
            revision: branch, tag or commit of a Hub repository.

        Raises:
            AgentFolderError: the folder is incomplete, altered, or makes no agent that plans
                (`AgentConfigError`, which is a `ConfigError`, too: because of its config.json).
            ConfigError: there is no such device.
            UnknownNameError: there is no such tier.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype must be float32 or bfloat16, not {dtype!r}")
        device, folder = choose_device(device), locate(name, revision=revision)
        model = load_any_agent(folder, device=device, dtype=getattr(torch, dtype))
        if compile:
            if not isinstance(model, VideoPolicy):
                raise ConfigError(f"compile is for Video Policies, {name} is {model.config.policy}")
            compile_model(model)
        sampler = model.config.tier(tier).changed(steps=steps, guidance=guidance)
        tier = model.config.default_tier if tier == "default" else tier
        source = hub_source(name, folder, revision=revision)
        return cls(model, tier, sampler, fingerprint=fingerprint(folder), source=source)

    @property
    def config(self) -> AnyConfig:
        """A `VideoPolicyConfig`, or the `DiffusionPolicyConfig` of a baseline."""
        return self.model.config

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments for `gym.make` that give the images this agent was trained on."""
        return self.config.env_kwargs

    def reset(
        self, lanes: Sequence[int] | None = None, *, seed: int | Sequence[int] | None = None
    ) -> None:
        """Forgets the chunks in execution, of all lanes or of some.

        Call it for every lane that shows the first observation of a new episode: `act` cannot
        know, and would go on with the old episode's chunk.

        Args:
            lanes: indices in the vector environment; None for all.
            seed: the plans' randomness from here on; lane i gets seed + i (or seed[i]).

        Raises:
            ConfigError: lanes or seeds are something else.
        """
        chosen = list(self._lanes) if lanes is None else read_lanes(lanes)
        if seed is not None:
            self._seeds = read_seeds(seed)
        for lane in chosen:
            self._lanes.pop(lane, None)
        if lanes is None:
            self.current_plan = None

    def act(
        self, obs: Mapping[str, Any] | Observation, *, video: bool = False, chunk: bool = False
    ) -> np.ndarray:
        """The next action, float32 (A,), or (B, A) for a vector environment's observation.

        Plans again in every lane whose executed part of the chunk is used up; `video` asks those
        plans for the imagined video (see `current_plan`). With `chunk` all actions until the next
        plan, (k, A) or (B, k, A): for `ActionChunk`, which draws no image in between.

        Raises:
            ObservationError: a part of the observation is missing or malformed.
            ConfigError: a chunk is asked for of lanes that are not equally far in theirs.
        """
        observation = read_observation(obs, self.config)
        lanes = [self._lane(i) for i in range(len(observation.tasks))]
        due = [i for i, lane in enumerate(lanes) if lane.actions is None]
        if due:
            seeds = [mix(lanes[i].seed, lanes[i].plans) for i in due]
            self.current_plan = plan = self._plan(observation.take(due), seeds, video=video)
            chunks = plan.actions if observation.batched else plan.actions[None]
            for i, planned in zip(due, chunks, strict=True):
                lanes[i].actions, lanes[i].position = planned.copy(), 0  # the plan is the caller's
                lanes[i].plans += 1
        positions = {lane.position for lane in lanes}
        if chunk and len(positions) > 1:
            raise ConfigError(
                f"the lanes are at steps {sorted(positions)} of their chunks, and act(chunk=True) "
                "needs them together: reset all lanes, or take single actions"
            )
        actions = []
        for lane in lanes:
            assert lane.actions is not None
            end = self.config.execute if chunk else lane.position + 1
            actions.append(lane.actions[lane.position : end])
            lane.position = end
            if end == self.config.execute:
                lane.actions = None
        taken = np.stack(actions) if chunk else np.concatenate(actions)
        return taken if observation.batched else taken[0]

    def plan(
        self,
        obs: Mapping[str, Any] | Observation,
        *,
        seed: int | Sequence[int],
        video: bool = False,
        video_noise: np.ndarray | None = None,
        action_noise: np.ndarray | None = None,
    ) -> Plan:
        """One run of the sampler: a pure function of (obs, seed).

        Args:
            obs: an environment's observation, or a vector environment's batched one.
            seed: of the start noise; for a batch one per lane, or one number s for s, s + 1, ...
                (numpy's integers too).
            video: also decode the imagined video.
            video_noise: start noise to use instead, (S, C, h, w) or (B, S, C, h, w), unit variance.
            action_noise: the same for the actions, (K, A) or (B, K, A).

        Raises:
            ObservationError: a part of the observation is missing or malformed.
            ConfigError: the agent has no action statistics (its action stage was not trained), is
                given video noise and imagines no video, or noise or seeds do not fit.
        """
        observation = read_observation(obs, self.config)
        count = len(observation.tasks)
        seeds = lane_seeds(read_seeds(seed), count)
        shapes = self.config.noise_shapes
        if video_noise is not None and 0 in shapes[0]:
            raise ConfigError(f"{self.config.policy} imagines no video: drop video_noise")
        noises = [
            None if noise is None else read_noise(noise, shape, lanes=count)
            for noise, shape in zip((video_noise, action_noise), shapes, strict=True)
        ]
        return self._plan(observation, seeds, video=video, noises=noises)

    def save_pretrained(self, folder: str | Path, *, results: Sequence[str | Path] = ()) -> None:
        """Writes the agent folder, whole or not at all; an existing agent is replaced.

        Args:
            folder: where to.
            results: `results.json` files of this agent's evaluations, for its model card.

        Raises:
            OutputExistsError: the folder holds something that is no agent.
        """
        about = {"Loaded from": self.source} if self.source else {}
        card = model_card(self.config, results=[Path(path) for path in results], about=about)
        save_agent(self.model, Path(folder), card=card)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, results: Sequence[str | Path] = ()
    ) -> str:
        """Uploads the agent folder to the Hugging Face Hub; returns the commit's address.

        Args:
            repo_id: "owner/name"; made if there is no such repository.
            private: whether a new repository is.
            results: as of `save_pretrained`.
        """
        hub = HfApi()
        with TemporaryDirectory() as tmp:
            self.save_pretrained(Path(tmp) / "agent", results=results)
            hub.create_repo(repo_id, private=private, exist_ok=True)
            return str(hub.upload_folder(repo_id=repo_id, folder_path=Path(tmp) / "agent"))

    def _lane(self, index: int) -> _Lane:
        if index not in self._lanes:
            seeds = self._seeds
            if not isinstance(seeds, int) and index >= len(seeds):
                raise ConfigError(f"reset was given {len(seeds)} seeds; there is a lane {index}")
            seed = seeds + index if isinstance(seeds, int) else seeds[index]
            self._lanes[index] = _Lane(seed=seed)
        return self._lanes[index]

    def _plan(
        self,
        observation: Observation,
        seeds: Sequence[int],
        *,
        video: bool,
        noises: Sequence[np.ndarray | None] = (None, None),
    ) -> Plan:
        started = time.perf_counter()
        if self.config.action_stats is None:
            raise ConfigError(
                "this agent has no action statistics, so it cannot act; train its action stage: "
                "vp-agent train --stage action --init RUN (or, for a released agent, convert it "
                "with --action-stats)"
            )
        with planning(self.model):
            actions, frames = self._drawn(observation, seeds, video=video, noises=noises)
        if not observation.batched:
            actions = actions[0]
            frames = None if frames is None else {view: x[0] for view, x in frames.items()}
        return Plan(actions=actions, video=frames, latency_s=time.perf_counter() - started)

    def _drawn(
        self,
        observation: Observation,
        seeds: Sequence[int],
        *,
        video: bool,
        noises: Sequence[np.ndarray | None],
    ) -> tuple[np.ndarray, dict[str, np.ndarray] | None]:
        config, device, on_cpu = self.config, self.model.device, torch.device("cpu")
        stats = config.action_stats
        assert stats is not None  # _plan has looked
        # Every lane draws from its own seed, so a row does not depend on its batch.
        generators = [torch.Generator(on_cpu).manual_seed(seed) for seed in seeds]
        drawn = [
            torch.stack([normal(shape, generator) for generator in generators])
            for shape in config.noise_shapes
        ]
        video_noise, action_noise = (
            (own if given is None else torch.from_numpy(given)).to(device)
            for own, given in zip(drawn, noises, strict=True)
        )
        drawn = draw(
            self.model,
            self._images(observation, generators),
            self._text(observation.tasks),
            sampler=self.sampler,
            video_noise=video_noise,
            action_noise_BKA=action_noise,
            with_video=video,
        )
        low, high = (
            torch.tensor(v, dtype=torch.float32, device=device) for v in (stats.min, stats.max)
        )
        actions = drawn.actions_BKA.float()
        if config.clip_actions:
            actions = actions.clamp(-1, 1)
        actions = ((actions + 1) / 2 * (high - low) + low).cpu().numpy()
        frames = None if drawn.frames_BVTCHW is None else self._pixels(drawn.frames_BVTCHW)
        return actions, frames

    def _images(self, observation: Observation, generators: Sequence[torch.Generator]) -> Tensor:
        images = torch.from_numpy(observation.images_BVHW3).float() / 127.5 - 1
        images = images.movedim(-1, -3)
        strength = self.config.image_noise
        if strength:
            noise = [normal(images.shape[1:], g) for g in generators]
            images = images + strength * torch.stack(noise)
        return images.to(self.model.device)

    def _text(self, tasks: Sequence[str]) -> Tensor:
        for task in set(tasks) - self._texts.keys():
            self._texts[task] = self.model.encode_text([task])
        return torch.cat([self._texts[task] for task in tasks])

    def _pixels(self, frames_BVTCHW: Tensor) -> dict[str, np.ndarray]:
        frames = frames_BVTCHW.clamp(-1, 1)
        pixels = ((frames + 1) * 127.5).round().byte().movedim(-3, -1).cpu().numpy()
        return {view: pixels[:, v] for v, view in enumerate(self.config.views)}
