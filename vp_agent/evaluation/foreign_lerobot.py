"""The side of a policy that LeRobot trained: runs where LeRobot is installed."""

# H W image height/width, C channels, B batch (1)

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vp_agent.errors import AgentFolderError, ConfigError, ObservationError, need
from vp_agent.read_numbers import read_state
from vp_agent.wrappers.lerobot_keys import IMAGES, STATE, TASK


@dataclass(frozen=True, kw_only=True)
class _Lane:
    """One episode's policy with its queues, and the processors around it."""

    policy: Any
    before: Any
    after: Any


class LeRobotPolicy:
    """Any pretrained policy of LeRobot's (diffusion, pi0, SmolVLA, GR00T, ...) by its own factory.

    Every step goes through its preprocessor, `select_action` and its postprocessor, as in
    lerobot-eval with one environment.
    """

    def __init__(self, path: str, *, device: str, threads: int) -> None:
        factory: Any = need("lerobot.policies.factory", extra="lerobot")
        configs: Any = need("lerobot.configs", extra="lerobot")
        plugins: Any = need("lerobot.utils.import_utils", extra="lerobot")
        self._torch: Any = need("torch", extra="lerobot")
        self._torch.set_num_threads(threads)
        plugins.register_third_party_plugins()
        from vp_agent.device import choose_device

        device = choose_device(device)
        try:
            config = configs.PreTrainedConfig.from_pretrained(path)
            config.device = device
            if hasattr(config, "pretrained_backbone_weights"):
                config.pretrained_backbone_weights = None  # they would be fetched, then overwritten
            if config.use_peft:
                raise ConfigError(f"{path} is an adapter; merge it into its policy first (peft)")
            self.config, self._views = config, _views(config)
            policy = factory.get_policy_class(config.type)
            overrides = {"device_processor": {"device": device}}
            before, after = factory.make_pre_post_processors(
                config, pretrained_path=path, preprocessor_overrides=overrides
            )
            # LeRobot would fly with fresh weights where the file has none, and only log it.
            self._whole = _Lane(
                policy=policy.from_pretrained(path, config=config, strict=True),
                before=before,
                after=after,
            )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            if isinstance(error, ConfigError):
                raise
            raise AgentFolderError(
                f"{path} cannot be loaded by LeRobot: {error}; expected its pretrained_model "
                "folder with weights and processors"
            ) from error
        self._lanes: dict[int, _Lane] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What the evaluation must know before it flies."""
        views, resolution = list(self._views), list(next(iter(self._views.values()))[1:])
        cuda = self.config.device.startswith("cuda")
        return {
            "env_kwargs": {"views": views, "resolution": resolution},
            "action_dim": self.config.output_features["action"].shape[0],
            "device": self.config.device,
            "gpu": self._torch.cuda.get_device_name() if cuda else "none",
            "torch": str(self._torch.__version__),
            "facts": {"lerobot_policy": self.config.type},
        }

    def reset(self, lane: int) -> None:
        """A new episode in this lane, which shares the weights with the others."""
        if lane not in self._lanes:
            tensors = [*self._whole.policy.parameters(), *self._whole.policy.buffers()]
            self._lanes[lane] = copy.deepcopy(self._whole, {id(x): x for x in tensors})
        for part in vars(self._lanes[lane]).values():
            part.reset()

    def act(self, lane: int, observation: Mapping[str, Any], seed: int) -> np.ndarray:
        """The next action, in the environment's units."""
        torch, own = self._torch, self._lanes[lane]
        batch = self._batch(observation)
        # The process is the policy's own, and LeRobot's policies draw from the global generators.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        with torch.inference_mode():
            action = own.after(own.policy.select_action(own.before(batch)))
        return action[0].float().cpu().numpy()

    def _batch(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        torch = self._torch
        batch: dict[str, Any] = {TASK: [observation["task"]]}
        for view, (channels, height, width) in self._views.items():
            image = observation["pixels"].get(view)
            if image is None or image.shape != (height, width, channels):
                found = {name: x.shape for name, x in observation["pixels"].items()}
                raise ObservationError(
                    f"the policy looks at {view} of {(height, width, channels)}, the environment "
                    f"shows {found}; make it with these views and this resolution"
                )
            batch[IMAGES + view] = torch.from_numpy(image).movedim(-1, 0)[None].float() / 255
        if STATE in self.config.input_features:
            wanted = tuple(self.config.input_features[STATE].shape)
            batch[STATE] = torch.from_numpy(read_state(observation, wanted))[None]
        return batch


def _views(config: Any) -> dict[str, tuple[int, int, int]]:
    """View -> shape (C, H, W) of the images that the policy looks at."""
    odd = [key for key in config.input_features if key != STATE and not key.startswith(IMAGES)]
    views = {
        key.removeprefix(IMAGES): tuple(feature.shape)
        for key, feature in config.input_features.items()
        if key.startswith(IMAGES)
    }
    shapes = sorted(set(views.values()))
    if odd or len(shapes) != 1:
        raise ConfigError(
            f"the policy takes {', '.join(config.input_features)} with images of "
            f"{', '.join(map(str, shapes)) or 'no shape'}; our environments show "
            f"{IMAGES}VIEW of one shape, {STATE} and {TASK}: train it on a dataset of ours "
            "(vp-agent collect, vp-agent data convert)"
        )
    return views


def load(path: str, *, device: str, threads: int, trusted: bool) -> LeRobotPolicy:
    """The policy in the folder `path`, which holds no code to be trusted."""
    return LeRobotPolicy(path, device=device, threads=threads)
