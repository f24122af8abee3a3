"""The policy LeRobot trains and flies: our network, losses and agent behind LeRobot's names."""

# B batch, V views, T frames per view, C channels, H W pixels, K action steps, A action dim

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from safetensors import safe_open
from torch import Tensor

from vp_agent.agent import VideoPolicyAgent
from vp_agent.checkpoints.svd import start_from_svd
from vp_agent.errors import require
from vp_agent.folder import load_agent
from vp_agent.locate import LEROBOT_WEIGHTS, is_lerobot_policy, locate
from vp_agent.model.shortcuts import freeze_idle
from vp_agent.model.text import save_tokenizer
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.randomness import mix
from vp_agent.torch_defaults import normal
from vp_agent.train.batches import Batch
from vp_agent.train.dataset import Chunk
from vp_agent.train.latent_cache import encode_in_blocks
from vp_agent.train.lerobot.configuration_vp_agent import VPAgentConfig
from vp_agent.train.lerobot.film import film, imagined
from vp_agent.train.lerobot.frames import (
    read_flight,
    read_frames,
    read_instructions,
    read_mask,
    strided,
)
from vp_agent.train.lerobot.processor_vp_agent import make_vp_agent_pre_post_processors
from vp_agent.train.lerobot.training_data import (
    check_action_range,
    check_actions,
    check_images,
)
from vp_agent.train.losses import policy_losses
from vp_agent.train.stages import PARTS
from vp_agent.train.windows import action_range, to_signed
from vp_agent.wrappers.lerobot_keys import IMAGES


class VPAgentPolicy(PreTrainedPolicy):
    """A `VideoPolicy` with LeRobot's methods.

    Actions come out in the environment's units: LeRobot's normalisers are identities.

    Attributes:
        model: the network, under which name its weights are in `model.safetensors`.
        agent: the same network as it flies; one chunk per lane of the environment.
        last_predicted_latents: after `select_action` planned with `save_predicted_video`, the
            imagined frames, (B, 3, T, H, V W) uint8; LeRobot's evaluation takes them away.
    """

    config_class = VPAgentConfig  # type: ignore[assignment]
    name = "vp_agent"  # type: ignore[assignment]
    config: VPAgentConfig
    updates: Tensor

    def __init__(
        self,
        config: VPAgentConfig,
        *,
        model: VideoPolicy | None = None,
        dataset_stats: Mapping[str, Mapping[str, Any]] | None = None,
        dataset_meta: Any = None,
    ) -> None:
        """Makes it with `model`, or with what `config` says to start from.

        Raises:
            ConfigError: the action stage without a trained U-Net.
            DatasetError: the dataset has another rate, images that lie otherwise, or actions of
                another width, name or range.
        """
        super().__init__(config)
        config.validate_features()
        self.model = _start(config) if model is None else model
        self.model.config = config.video_policy
        if dataset_meta is not None:
            self._check(dataset_meta)
            # Products round by where in memory their factors lie, and tensors of a file lie
            # anywhere: a resumed run, which reads another file, would drift from a whole one.
            for parameter in self.model.parameters():
                parameter.data = parameter.data.clone()
        if dataset_stats is not None and config.stage != "video":
            where = "the dataset" if dataset_meta is None else dataset_meta.repo_id
            self._learn_range(dataset_stats, where=where)
        self.model.requires_grad_(False)
        for part in PARTS[config.stage]:
            getattr(self.model, part).requires_grad_(True)
        freeze_idle(self.model.unet)
        # The noise of a step is a function of its number, which therefore is in the checkpoint.
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.agent = VideoPolicyAgent(self.model, config.tier, config.sampler)
        self.last_predicted_latents: Tensor | None = None
        self._texts: dict[str, Tensor] = {}
        self._first_seed, self._lanes, self._chunks = config.seed, 0, 0
        self.reset()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        dataset_stats: Mapping[str, Mapping[str, Any]] | None = None,
        dataset_meta: Any = None,
    ) -> "VPAgentPolicy":
        """Reads what LeRobot saved, or an agent of ours (a folder, packaged:NAME, Hub)."""
        folder = locate(pretrained_name_or_path, revision=revision)
        from_lerobot = is_lerobot_policy(folder)
        if config is None and from_lerobot:
            config = PreTrainedConfig.from_pretrained(folder)
        config = config or VPAgentConfig(agent=str(pretrained_name_or_path), stage="joint")
        assert isinstance(config, VPAgentConfig)
        policy = cls(
            config,
            model=load_agent(folder, resolution=config.video_policy.resolution),
            dataset_stats=dataset_stats,
            dataset_meta=dataset_meta,
        )
        if from_lerobot:
            with safe_open(folder / LEROBOT_WEIGHTS, framework="pt") as file:
                policy.updates.copy_(file.get_tensor("updates"))
        return policy.to(config.device).eval()

    def _save_pretrained(
        self, save_directory: Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        self.config.agent = self.config.svd = None  # what comes next starts here
        self.config.action_range = "check"
        super()._save_pretrained(save_directory, state_dict=state_dict)
        save_tokenizer(self.model.tokenizer, save_directory / "tokenizer")
        # LeRobot's commands ask a folder for these; its trainer writes its own over them.
        for processor in make_vp_agent_pre_post_processors(self.config):
            processor.save_pretrained(save_directory)

    def get_optim_params(self) -> list[dict[str, Any]]:
        """The stage's parts; the heads learn at their own rate."""
        groups = []
        for part in PARTS[self.config.stage]:
            rate = self.config.optimizer_lr
            if part in ("adapter", "action_head"):
                rate = self.config.optimizer_lr_head
            parameters = getattr(self.model, part).parameters()
            groups.append({"params": [p for p in parameters if p.requires_grad], "lr": rate})
        return groups

    def train(self, mode: bool = True) -> "VPAgentPolicy":
        """Only what the stage trains is ever in training mode."""
        super().train(mode)
        for name, part in self.model.named_children():
            part.train(mode and name in PARTS[self.config.stage])
        return self

    def update(self) -> None:
        """LeRobot calls it after every step of the optimiser."""
        self.updates += 1

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The stage's loss on a batch of LeRobot's, and each stream's own for the log.

        The noise depends on the step and the samples; in evaluation on the samples alone.
        """
        config = self.config
        when = ("step", int(self.updates)) if self.training else ("holdout",)
        seed = mix(config.seed, config.stage, *when, *batch["index"].tolist())
        generator = torch.Generator("cpu").manual_seed(seed)
        losses = policy_losses(
            self.model,
            self._read(batch, generator),
            generator=generator,
            with_actions=config.stage != "video",
            draws=config.action_draws,
            dropout=config.condition_dropout if self.training else 0.0,
            # The frozen U-Net makes the video loss a constant of the action stage.
            video_weight=0.0 if config.stage == "action" else config.video_weight,
            stop_action_gradient=config.stop_action_gradient,
        )
        return losses.total, {f"loss_{name}": value for name, value in losses.parts().items()}

    def reset(self) -> None:
        """A new rollout: lane i flies episode (seed + lanes flown before + i)."""
        self._first_seed, self._lanes = self._first_seed + self._lanes, 0
        self.agent.reset(seed=self._first_seed)
        self.last_predicted_latents = None

    def select_action(self, batch: dict[str, Any]) -> Tensor:  # type: ignore[override]
        """The next action (B, A) of every lane; plans when the executed part is used up."""
        observation = read_flight(batch, self.model.config)
        self._lanes = len(observation.tasks)
        wanted, before = self.config.save_predicted_video, self.agent.current_plan
        actions = self.agent.act(observation, video=wanted)
        plan = self.agent.current_plan
        if wanted and plan is not None and plan is not before:
            self.last_predicted_latents = imagined(plan)
        return torch.from_numpy(actions).to(self.model.device)

    def predict_action_chunk(self, batch: dict[str, Any]) -> Tensor:  # type: ignore[override]
        """A whole chunk (B, K, A), of fresh noise at every call.

        Real-time chunking would hand over what is left of the last chunk here, for the sampler to
        start from; `supports_rtc` says that it does not yet.
        """
        observation = read_flight(batch, self.model.config)
        seeds = [mix(self.config.seed, self._chunks, b) for b in range(len(observation.tasks))]
        self._chunks += 1
        plan = self.agent.plan(observation, seed=seeds)
        return torch.from_numpy(plan.actions).to(self.model.device)

    def decode_predicted_latents(self, frames: Tensor) -> Tensor:
        """A film (T, H, W, 3) uint8 of plans (B, 3, plans T, H, V W): a row of views per lane.

        Shows of every plan what was executed before the next, at the environment's rate.
        """
        return film(frames, self.model.config)

    def _check(self, dataset_meta: Any) -> None:
        config, learns_actions = self.model.config, self.config.stage != "video"
        layout, changes = check_images(dataset_meta, config), {}
        if learns_actions:
            names = check_actions(dataset_meta, config, layout)
            changes["action_names"] = config.action_names or names
        note = f"{self.config.stage}, lerobot-train on {dataset_meta.repo_id}"
        if note not in config.training:  # a resumed run has said so, and was checked, already
            changes["training"] = (*config.training, note)
            if learns_actions and self.config.action_range == "data":
                changes["action_stats"] = None
            elif learns_actions:
                check_action_range(dataset_meta, config, self.config.action_range)
        self._adopt(**changes)

    def _learn_range(self, dataset_stats: Mapping[str, Mapping[str, Any]], *, where: str) -> None:
        """The range of the first data the head learns from; a later stage keeps it."""
        if self.model.config.action_stats is None:
            ends = [np.asarray(dataset_stats[ACTION][x], np.float32) for x in ("min", "max")]
            self._adopt(action_stats=action_range(np.stack(ends), where=where))

    def _adopt(self, **changes: Any) -> None:
        self.model.config = self.model.config.replace(**changes)
        self.config.adopt(self.model.config)

    def _read(self, batch: Mapping[str, Any], generator: torch.Generator) -> Batch:
        model, config = self.model, self.model.config
        frames_BVTCHW = read_frames(batch, config)
        size, _, length = frames_BVTCHW.shape[:3]
        cameras = [IMAGES + view for view in config.views]
        is_pad_BT = read_mask(batch, cameras, shape=(size, length))
        pixels = to_signed(strided(frames_BVTCHW, is_pad_BT)).to(model.device)
        current = pixels[:, :, 0]
        noise = normal(current.shape, generator).to(model.device)
        current = current + config.conditioning.image_noise * noise
        actions_BKA = is_pad_BK = torch.empty(
            0, dtype=torch.float32, device="cpu"
        )  # not looked at in the video stage
        if self.config.stage != "video":
            actions_BKA = batch[ACTION].float().to(model.device)
            is_pad_BK = read_mask(batch, [ACTION], shape=(size, config.horizon))
        tasks = read_instructions(batch, count=size)
        # The rounding of half precision would show in every latent, and in the text.
        with torch.autocast(model.device.type, enabled=False):
            for task in set(tasks) - self._texts.keys():
                self._texts[task] = model.encode_text([task])
            moments = encode_in_blocks(model.encode_frames, pixels.flatten(0, 2))
            condition = encode_in_blocks(model.encode_condition, current.flatten(0, 1))
        return Batch(
            chunk=Chunk(
                actions_BKA=actions_BKA,
                action_is_pad_BK=is_pad_BK,
                frame_is_pad_BT=is_pad_BT,
                task_B=torch.empty(0, dtype=torch.float32, device="cpu"),
            ),
            text_B1D=torch.cat([self._texts[task] for task in tasks]).to(model.device),
            has_actions_B=torch.ones(size, dtype=torch.bool, device="cpu"),
            moments_BVTChw=moments.unflatten(0, pixels.shape[:3]),
            condition_BVChw=condition.unflatten(0, current.shape[:2]),
        )


def _start(config: VPAgentConfig) -> VideoPolicy:
    """The network that the configuration says to begin with."""
    wanted = config.video_policy
    if config.agent:
        return load_agent(locate(config.agent), resolution=wanted.resolution)
    require(
        config.stage != "action",
        "--policy.stage=action needs a trained U-Net: --policy.path=PRETRAINED_MODEL of the video "
        "stage, or --policy.agent=AGENT",
    )
    if config.svd:
        model = start_from_svd(wanted, svd=config.svd, text=config.text_encoder, seed=config.seed)
        config.adopt(model.config)  # it knows its origin now
        return model
    return VideoPolicy(wanted)  # weights of torch's global generator, which LeRobot seeds
