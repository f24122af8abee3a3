"""Each wrapper does its one job, and says what is wrong."""

import av
import gymnasium as gym
import numpy as np
import pilots  # noqa: F401  (registers Reach-v0)
import pytest
import torch

from vp_agent.errors import ActionError, ConfigError, UnknownNameError
from vp_agent.train.windows import fit_images
from vp_agent.wrappers import (
    FiniteAction,
    FitViews,
    LeRobotKeys,
    PadAction,
    RecordVideo,
    SelectViews,
)


class Echo(gym.Env):
    """Gives the action it got back in `info`; its two views are random."""

    metadata = {"render_modes": [], "render_fps": 10}

    def __init__(self, numbers: int = 7, side: tuple[int, int] = (30, 40)) -> None:
        image = gym.spaces.Box(0, 255, (*side, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict({"left": image, "right": image}),
                "agent_pos": gym.spaces.Box(-1, 1, (2,), np.float32),
                "task": gym.spaces.Text(10),
            }
        )
        self.action_space = gym.spaces.Box(-1, 1, (numbers,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(3)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.count = getattr(self, "count", 0) + 1
        return self.observation_space.sample(), 0.0, self.count == 4, False, {"action": action}


def test_views_are_selected_in_order_and_renamed():
    env = SelectViews(Echo(), {"wrist": "right", "front": "left"})
    plain, _ = Echo().reset()
    observation, _ = env.reset()
    assert list(observation["pixels"]) == ["wrist", "front"]
    assert np.array_equal(observation["pixels"]["wrist"], plain["pixels"]["right"])
    assert env.observation_space.contains(observation)
    assert list(SelectViews(Echo(), ["right"]).reset()[0]["pixels"]) == ["right"]


def test_an_unknown_view_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'left'"):
        SelectViews(Echo(), ["lefft"])


@pytest.mark.parametrize("resolution", [(16, 16), (16, 32), (30, 40)])
def test_views_are_fitted_as_in_training(resolution):
    env = FitViews(Echo(), resolution)
    observation, _ = env.reset()
    plain, _ = Echo().reset()
    image = torch.from_numpy(plain["pixels"]["left"]).movedim(-1, 0)[None]
    trained = fit_images(image, resolution)[0].movedim(0, -1).numpy()
    assert np.array_equal(observation["pixels"]["left"], trained)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("resolution", [(0, 16), (16,), (16.5, 16)])
def test_a_wrong_resolution_is_refused(resolution):
    with pytest.raises(ConfigError, match="resolution"):
        FitViews(Echo(), resolution)


def test_actions_are_clipped_to_the_box_and_to_the_step_limit():
    actions = np.array([2.0, -3.0, 0.5, 0, 0, 0, 0])
    taken = FiniteAction(Echo()).step(actions)[4]["action"]
    assert taken.tolist() == [1, -1, 0.5, 0, 0, 0, 0]
    limits = np.array([0.1] * 3 + [0.2] * 3 + [1.0])
    limited = FiniteAction(Echo(), step_limit=limits)
    assert limited.step(actions)[4]["action"] == pytest.approx([0.1, -0.1, 0.1, 0, 0, 0, 0])
    assert limited.action_space.high == pytest.approx(limits)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (np.full(7, np.nan), "finite"),
        (np.full(7, np.inf), "finite"),
        (np.zeros(6), "shape"),
        ("left", "numbers"),
    ],
)
def test_a_dangerous_action_never_reaches_the_environment(action, said):
    env = FiniteAction(Echo())
    with pytest.raises(ActionError, match=said):
        env.step(action)
    assert not hasattr(env.unwrapped, "count")


def test_a_step_limit_of_zero_is_refused():
    with pytest.raises(ConfigError, match="step_limit"):
        FiniteAction(Echo(), step_limit=0.0)


def test_arm_actions_are_padded_for_a_mobile_robot():
    env = PadAction(Echo(numbers=12))
    assert env.action_space.shape == (7,)
    taken = env.step(np.arange(7, dtype=np.float32))[4]["action"]
    assert taken.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, -1]
    with pytest.raises(ConfigError, match="more than 5"):
        PadAction(Echo(numbers=5))


def test_keys_are_lerobots():
    env = LeRobotKeys(Echo())
    observation, _ = env.reset()
    assert set(observation) == {
        "observation.images.left",
        "observation.images.right",
        "observation.state",
        "task",
    }
    assert env.observation_space.contains(observation)


def test_an_environment_without_views_is_refused():
    for wrap in (
        lambda env: SelectViews(env, ["left"]),
        lambda env: FitViews(env, (8, 8)),
        lambda env: RecordVideo(env, "films"),
    ):
        with pytest.raises(ConfigError, match="no views"):
            wrap(gym.make("CartPole-v1"))
    with pytest.raises(ConfigError, match="no views"):
        LeRobotKeys(gym.make("CartPole-v1"))


def test_every_episode_becomes_a_film(tmp_path):
    env = RecordVideo(Echo(), tmp_path)
    env.reset(seed=1)
    for _ in range(4):
        env.step(np.zeros(7))
    assert (tmp_path / "episode-00000.mp4").is_file()  # it has ended
    env.reset(seed=2)
    assert not (tmp_path / "episode-00001.mp4").exists()
    env.close()
    for episode, frames in enumerate((5, 1)):
        with av.open(str(tmp_path / f"episode-{episode:05d}.mp4")) as film:
            shapes = [frame.to_ndarray(format="rgb24").shape for frame in film.decode(video=0)]
            assert float(film.streams.video[0].average_rate or 0) == 10
        assert shapes == [(30, 80, 3)] * frames
    assert list(tmp_path.glob(".*")) == []
    again = RecordVideo(Echo(), tmp_path)
    again.reset(seed=3)
    again.close()
    assert [path.stem[-1] for path in sorted(tmp_path.glob("*.mp4"))] == ["0", "1", "2"]
