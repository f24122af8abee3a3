"""The side of a robomimic checkpoint: runs where robomimic is installed.

For robosuite's arms: cameras by their own names, and the arm's state taken apart as robosuite
names it. A policy that looks at the simulator's state (`object`) is refused.
"""

# H W image height/width

import copy
import pickle
import random
from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from vp_agent.errors import AgentFolderError, ConfigError, MissingExtraError, ObservationError
from vp_agent.read_numbers import read_state

IMAGE = "_image"  # after the camera's name
STATE = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


class RobomimicPolicy:
    """A trained policy as robomimic's own `RolloutPolicy` flies it, with its stacked frames."""

    def __init__(self, path: str, *, device: str, threads: int, trusted: bool) -> None:
        try:
            files: Any = import_module("robomimic.utils.file_utils")
            self._images: Any = import_module("robomimic.utils.obs_utils")
            self._torch: Any = import_module("torch")
        except ImportError as error:
            raise MissingExtraError(
                f"robomimic cannot be imported ({error}); install it (pip install --no-deps "
                "robomimic and what it then lacks) into an environment with torch and name that "
                'in vp-agent.toml: [robomimic] python = "/path/to/venv/bin/python"'
            ) from error
        torch = self._torch
        torch.set_num_threads(threads)
        from vp_agent.device import choose_device

        device = choose_device(device)
        self._device, content = device, _read(torch, path, trusted=trusted)
        try:
            self._policy, _ = files.policy_from_checkpoint(device=device, ckpt_dict=content)
            self.config, _ = files.config_from_checkpoint(ckpt_dict=content)
            shapes = content["shape_metadata"]["all_shapes"]
            self.action_dim = int(content["shape_metadata"]["ac_dim"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise AgentFolderError(
                f"{path} cannot be loaded by robomimic: {type(error).__name__}: {error}"
            ) from error
        self._shapes: dict[str, tuple[int, ...]] = {k: tuple(x) for k, x in shapes.items()}
        self._cameras = _cameras(self._shapes)
        self._lanes: dict[int, tuple[Any, deque[dict[str, np.ndarray]]]] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What the evaluation must know before it flies."""
        _, height, width = self._shapes[self._cameras[0] + IMAGE]
        cuda = self._device.startswith("cuda")
        return {
            # robosuite's environments show its cameras by any name
            "env_kwargs": {
                "views": {camera: camera for camera in self._cameras},
                "resolution": [height, width],
            },
            "action_dim": self.action_dim,
            "device": self._device,
            "gpu": self._torch.cuda.get_device_name() if cuda else "none",
            "torch": str(self._torch.__version__),
            "facts": {"robomimic_algorithm": self.config.algo_name},
        }

    def reset(self, lane: int) -> None:
        """A new episode in this lane, which shares the weights with the others."""
        if lane not in self._lanes:
            nets = self._policy.policy.nets
            tensors = [*nets.parameters(), *nets.buffers()]
            own = copy.deepcopy(self._policy, {id(x): x for x in tensors})
            frames = getattr(self.config.train, "frame_stack", 1)
            self._lanes[lane] = own, deque(maxlen=frames)
        policy, history = self._lanes[lane]
        policy.start_episode()
        history.clear()

    def act(self, lane: int, observation: Mapping[str, Any], seed: int) -> np.ndarray:
        """The next action, in the environment's units."""
        policy, history = self._lanes[lane]
        seen = self._observation(observation)
        # The process is the policy's own, and robomimic's draw from the global generators.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        self._torch.manual_seed(seed)
        history.extend([seen] * (1 if history else history.maxlen or 1))
        if history.maxlen != 1:
            seen = {key: np.stack([frame[key] for frame in history]) for key in seen}
        return np.asarray(policy(ob=seen), np.float32)

    def _observation(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        state = _state(observation)
        seen = {key: state[key] for key in self._shapes if key in STATE}
        for camera in self._cameras:
            _, height, width = self._shapes[camera + IMAGE]
            image = observation["pixels"].get(camera)
            if image is None or image.shape != (height, width, 3):
                found = {name: x.shape for name, x in observation["pixels"].items()}
                raise ObservationError(
                    f"the policy looks at {camera} of {(height, width, 3)}, the environment shows "
                    f"{found}"
                )
            seen[camera + IMAGE] = self._images.process_obs(image, obs_key=camera + IMAGE)
        return seen


def _read(torch: Any, path: str, *, trusted: bool) -> Any:
    """The checkpoint: tensors and plain values, or what only code can make of it, if trusted."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trusted:
            raise ConfigError(
                f"{path} runs code when it is read, because it holds more than tensors and plain "
                "values; if you trust who made it, add --trusted"
            ) from error
        # trusted: the user said so, and this process is not the evaluation's.
        return torch.load(path, map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError) as error:
        raise AgentFolderError(f"{path} is no checkpoint: {error}") from error


def _cameras(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    cameras = [key.removesuffix(IMAGE) for key in shapes if key.endswith(IMAGE)]
    odd = [key for key in shapes if not key.endswith(IMAGE) and shapes[key] != (STATE.get(key),)]
    sizes = {shapes[camera + IMAGE][1:] for camera in cameras}
    if odd or len(sizes) != 1:
        raise ConfigError(
            f"the policy takes {', '.join(f'{k} {v}' for k, v in shapes.items())}; our "
            f"environments show CAMERA{IMAGE} of one size and {', '.join(STATE)}: evaluate an "
            "image policy"
        )
    return cameras


def _state(observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Position 3, rotation vector 3 and fingers 2 as robosuite names them (quaternion x y z w)."""
    position, rotation, fingers = np.split(read_state(observation, (8,)), [3, 6])
    angle = np.linalg.norm(rotation)
    axis = rotation / max(angle, 1e-9)
    quaternion = np.append(axis * np.sin(angle / 2), np.cos(angle / 2)).astype(np.float32)
    return dict(zip(STATE, (position, quaternion, fingers), strict=True))


def load(path: str, *, device: str, threads: int, trusted: bool) -> RobomimicPolicy:
    """The policy in the checkpoint file `path`."""
    return RobomimicPolicy(path, device=device, threads=threads, trusted=trusted)
