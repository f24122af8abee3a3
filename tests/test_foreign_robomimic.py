"""robomimic's checkpoints as agents; most of it where robomimic is installed."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import vp_agent  # noqa: F401 (registers the environments)
from vp_agent.errors import AgentFolderError, ConfigError, MissingExtraError, ObservationError
from vp_agent.evaluation.episode import fly
from vp_agent.evaluation.foreign import load_foreign
from vp_agent.evaluation.foreign_robomimic import RobomimicPolicy, _cameras, _read, _state
from vp_agent.evaluation.suites import Episode

needs_robomimic = pytest.mark.skipif(find_spec("robomimic") is None, reason="needs robomimic")
needs_robosuite = pytest.mark.skipif(find_spec("robosuite") is None, reason="needs the extra")
SHAPES = {
    "agentview_image": [3, 84, 84],
    "robot0_eef_pos": [3],
    "robot0_eef_quat": [4],
    "robot0_gripper_qpos": [2],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A behaviour-cloning policy as robomimic's trainer saves it."""
    from robomimic.algo import algo_factory  # pyright: ignore[reportMissingImports]
    from robomimic.config import config_factory  # pyright: ignore[reportMissingImports]
    from robomimic.utils import obs_utils, train_utils  # pyright: ignore[reportMissingImports]

    config: Any = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = [k for k in SHAPES if "image" not in k]
        config.observation.modalities.obs.rgb = ["agentview_image"]
        config.algo.gmm.enabled = True  # random actions
        config.train.cuda = False
    obs_utils.initialize_obs_utils_with_config(config)
    shapes = {"ac_dim": 7, "all_shapes": SHAPES, "all_obs_keys": list(SHAPES), "use_images": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = algo_factory(
            "bc", config, obs_key_shapes=SHAPES, ac_dim=7, device=torch.device("cpu")
        )
    path = tmp_path_factory.mktemp("robomimic") / "model.pth"
    train_utils.save_model(model, config, env_meta={}, shape_meta=shapes, ckpt_path=str(path))
    return path


@needs_robosuite
def test_the_state_is_robosuites_own_observation() -> None:
    env: Any = gym.make("Robosuite-Lift-v0", views=[], disable_env_checker=True)
    observation = env.reset(seed=1)[0]
    for _ in range(3):
        observation = env.step(np.array([0.3, -0.2, 0.1, 0.9, -0.8, 0.7, 1.0], np.float32))[0]
    theirs = env.unwrapped.sim_env._get_observations(force_update=True)
    for name, value in _state(observation).items():
        assert np.allclose(value, theirs[name], atol=1e-5), name
    env.close()


def test_what_robosuite_keeps_in_its_simulator_is_refused() -> None:
    assert _cameras({k: tuple(x) for k, x in SHAPES.items()}) == ["agentview"]
    with pytest.raises(ConfigError, match=r"takes object \(10,\), agentview_image"):
        _cameras({"object": (10,), "agentview_image": (3, 84, 84)})
    with pytest.raises(ConfigError, match="evaluate an image policy"):
        _cameras({"robot0_eef_pos": (3,)})
    with pytest.raises(ObservationError, match=r"state of \(8,\)"):
        _state({"agent_pos": np.zeros(16)})


def test_code_in_a_checkpoint_runs_only_if_trusted(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    torch.save({"model": {"weight": torch.ones(2)}}, tmp_path / "plain.pth")
    with pytest.raises(ConfigError, match=r"runs code when it is read.*--trusted"):
        _read(torch, str(tmp_path / "evil.pth"), trusted=False)
    assert not marker.exists()
    _read(torch, str(tmp_path / "evil.pth"), trusted=True)
    assert marker.exists()
    assert "model" in _read(torch, str(tmp_path / "plain.pth"), trusted=False)
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises((AgentFolderError, ConfigError)):
        _read(torch, str(tmp_path / "text.pth"), trusted=False)


@pytest.mark.skipif(find_spec("robomimic") is not None, reason="robomimic is there")
def test_without_robomimic_the_way_to_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"vp-agent.toml: \[robomimic\] python"):
        RobomimicPolicy(str(tmp_path), device="cpu", threads=1, trusted=False)


@needs_robomimic
@needs_robosuite
def test_a_checkpoint_flies_lift_in_its_own_process(checkpoint: Path) -> None:
    loaded = load_foreign(
        f"robomimic:{checkpoint}", device="cpu", env_kwargs={"render_quality": "fast"}
    )
    assert loaded.env_kwargs["views"] == {"agentview": "agentview"}
    env: Any = gym.make(
        "Robosuite-Lift-v0", horizon=4, disable_env_checker=True, **loaded.env_kwargs
    )
    episode = Episode(task="Lift", number=0, env="x", seed=5, policy_seed=7)
    lines = [fly(loaded.lane(), env, episode) for _ in range(2)]
    assert lines[0].plans == lines[0].steps == 4
    lanes = [loaded.lane(), loaded.lane()]
    seen = env.reset(seed=5)[0]
    for lane in lanes:
        lane.reset(env, seed=0)
    first, again, other = (
        lanes[i].plan(seen, seed=seed).actions for i, seed in ((0, 3), (1, 3), (1, 4))
    )
    assert first.shape == (1, 7)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    env.close()
