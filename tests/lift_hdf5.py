"""A few episodes of our own Lift as HDF5 files in the layout of RoboCasa 0.2."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

VIEWS = ("gripper", "left", "right")
Arrays = Mapping[str, np.ndarray]
RNG = np.random.default_rng(0)


def fly_lift(*, episodes: int, size: int = 64) -> list[Arrays]:
    """Episodes of the scripted expert in robosuite."""
    import gymnasium as gym

    import vp_agent  # noqa: F401
    from vp_agent.envs.experts import expert_for
    from vp_agent.train.demonstrations import demonstrate

    env = gym.make(
        "Robosuite-Lift-v0",
        terminate_on_success=False,
        views=VIEWS,
        resolution=(size, size),
        render_quality="fast",
    )
    flown = []
    for seed in range(20):
        episode = demonstrate(env, expert_for("Lift"), seed=seed, noise=0.2, hold_steps=2)
        if episode is not None:
            flown.append(episode)
        if len(flown) == episodes:
            break
    env.close()
    return flown


def drawn(steps: int, *, size: int = 32) -> dict[str, np.ndarray]:
    """An episode that no simulator saw, for what does not depend on its pictures."""
    images = {
        f"observation.images.{view}": RNG.integers(0, 255, (steps, size, size, 3), dtype=np.uint8)
        for view in VIEWS
    }
    return images | {
        "action": RNG.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "observation.state": RNG.normal(size=(steps, 8)).astype(np.float32),
        "task": np.array("lift the cube"),
    }


def write_hdf5(
    path: Path,
    episodes: Sequence[Arrays],
    *,
    task: str = "Lift",
    langs: Sequence[str] | None = None,
    base_mode: Mapping[int, float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    turned: bool = False,
) -> Path:
    """Writes what RoboCasa's dataset_states_to_obs.py would, but for the simulator's states.

    `langs` replaces the episodes' instructions, `base_mode` the last number of an episode's actions
    (-1: the base stands), `attributes` are more of the group `data`, and `turned` stores images
    bottom row first, as LIBERO does.
    """
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        kwargs = {"control_freq": 20, "robots": "PandaOmron", "camera_names": []}
        env = {"env_name": task, "env_version": "1.5.1", "type": 1, "env_kwargs": kwargs}
        data.attrs["env_args"] = json.dumps(env)
        data.attrs["total"] = sum(len(episode["action"]) for episode in episodes)
        data.attrs.update(attributes or {})
        for number, episode in enumerate(episodes):
            steps = len(episode["action"])
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            lang = str(episode["task"]) if langs is None else langs[number]
            demo.attrs["ep_meta"] = json.dumps({"lang": lang, "layout_id": 1, "style_id": 1})
            still = np.tile([0.0, 0.0, 0.0, 0.0, (base_mode or {}).get(number, -1.0)], (steps, 1))
            demo["actions"] = np.concatenate([episode["action"].astype(np.float64), still], axis=1)
            demo["states"], demo["rewards"] = np.zeros((steps, 5)), np.zeros(steps)
            demo["dones"] = np.zeros(steps, np.int64)
            for view, camera in zip(
                VIEWS, ("eye_in_hand", "agentview_left", "agentview_right"), strict=True
            ):
                images = episode[f"observation.images.{view}"]
                demo.create_dataset(
                    f"obs/robot0_{camera}_image",
                    data=images[:, ::-1] if turned else images,
                    compression="gzip",
                )
            pose = episode["observation.state"]
            demo["obs/robot0_base_pos"] = np.zeros((steps, 3))
            demo["obs/robot0_base_quat"] = np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
            demo["obs/robot0_base_to_eef_pos"] = pose[:, :3]
            demo["obs/robot0_base_to_eef_quat"] = np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
            demo["obs/robot0_gripper_qpos"] = pose[:, 6:]
    return path
