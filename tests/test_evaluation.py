"""Episodes, journal, statistics, films: everything of an evaluation that needs no real agent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from journals import flown
from pilots import Looker, Reach, episode

from vp_agent.errors import ConfigError
from vp_agent.evaluation.episode import EnvironmentFailed, fly
from vp_agent.evaluation.film import Film, compose, imagined_frame
from vp_agent.evaluation.policy import ByStep
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.statistics import summarise, wilson_interval


def test_an_agent_that_looks_succeeds_and_its_line_says_how() -> None:
    line: Any = fly(Looker(), Reach(), episode(3))
    assert line.success
    assert line.plans == -(-line.steps // 4)
    assert (line.horizon, line.seconds_per_plan) == (20, 0.25)
    assert line.plan_s == [0.25] * line.plans
    assert line.instruction == "move the column to the left"
    assert line.video is None
    assert line.simulator == {"reach": "1"}


def test_anything_that_acts_and_resets_flies_step_by_step() -> None:
    class Mine:
        seeds: list[int] = []

        def reset(self, *, seed: int) -> None:
            self.seeds.append(seed)

        def act(self, obs: Any) -> list[float]:
            return [-1.0 if obs["pixels"]["left"].any() else 1.0, *[0.0] * 6]

    mine = Mine()
    line: Any = fly(ByStep(mine), Reach(), episode(3))
    assert line.success
    assert line.plans == line.steps
    assert mine.seeds == [episode(3).policy_seed]


def test_a_line_names_the_scene_that_the_environment_drew() -> None:
    class Kitchen(Reach):
        def reset(self, **arguments: Any) -> Any:
            observation, info = super().reset(**arguments)
            return observation, {**info, "scene": (6, 9)}

    assert fly(Looker(), Kitchen(), episode(3)).scene == [6, 9]
    assert fly(Looker(), Reach(), replace(episode(3), options={"scene": 1})).scene == 1


def test_an_episode_is_not_flown_in_another_simulator_than_its_suite_needs() -> None:
    needy = replace(episode(3), needs={"reach": "0.2"})
    with pytest.raises(ConfigError, match=r"needs reach 0\.2, and here it is 1"):
        fly(Looker(), Reach(), needy)


def test_an_agent_given_black_images_fails_at_the_horizon() -> None:
    line: Any = fly(Looker(), Reach(), episode(3), blank_images=True)
    assert not line.success
    assert line.steps == 20


def test_the_agent_is_reset_with_the_seed_of_each_episode() -> None:
    agent = Looker()
    for seed in (5, 6):
        fly(agent, Reach(), episode(seed))
    assert agent.seeds == [5, 6]


def test_an_error_of_the_simulator_is_not_a_failed_episode(tmp_path: Path) -> None:
    recording = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    with pytest.raises(EnvironmentFailed, match="RuntimeError: the simulator broke"):
        fly(Looker(), Reach(fail_at=3), episode(0), recording=recording)
    assert not list(tmp_path.rglob("*.*"))  # no half film


def test_recording_does_not_change_the_flight(tmp_path: Path) -> None:
    recording = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    plain, recorded = (fly(Looker(), Reach(), episode(1), recording=r) for r in (None, recording))
    for name in ("success", "steps", "plans"):
        assert getattr(plain, name) == getattr(recorded, name)


def test_a_recorded_episode_leaves_a_film_with_a_frame_per_observation(tmp_path: Path) -> None:
    recording = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    line: Any = fly(Looker(), Reach(), episode(1), recording=recording)
    with av.open(str(tmp_path / line.video)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 20
        assert sum(1 for _ in film.decode(stream)) == line.steps + 1


def test_a_trace_holds_the_executed_actions_and_every_plan(tmp_path: Path) -> None:
    recording = Recording(folder=tmp_path, frame_stride=2, control_hz=20)
    line: Any = fly(Looker(), Reach(), episode(1), recording=recording)
    trace = json.loads((tmp_path / "traces/Reach-00001.json").read_text())
    assert np.shape(trace["actions"]) == (line.steps, 7)
    assert [plan["step"] for plan in trace["plans"]] == list(range(0, line.steps, 4))
    assert np.shape(trace["plans"][0]["actions"]) == (6, 7)
    assert trace["success"]


@pytest.mark.parametrize(
    ("step", "frame"), [(16, 0), (19, 0), (20, 1), (31, 3), (44, 7), (47, 7), (99, 7)]
)
def test_imagined_frames_run_in_step_with_the_flight(step: int, frame: int) -> None:
    assert imagined_frame(step=step, plan_step=16, stride=4, frames=8) == frame


def test_a_film_frame_shows_executed_views_above_imagined_ones() -> None:
    bright = np.full((64, 64, 3), 200, np.uint8)
    dark = np.full((64, 64, 3), 50, np.uint8)
    frame = compose(("up", {"a": bright, "b": bright}), ("down", {"a": dark, "b": dark}))
    height, width = frame.shape[:2]
    assert width == 2 * 256
    assert height % 2 == 0
    assert (frame[height // 4, :] == 200).all()
    assert (frame[3 * height // 4, :] == 50).all()


def test_a_film_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mp4", fps=20)
    film.add(np.zeros((32, 32, 3), np.uint8))
    film.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(95, 100, 0.8882, 0.9785), (0, 5, 0.0, 0.4345), (5, 5, 0.5655, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_the_textbook_ones(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_plan_time_comes_from_episodes_without_video_if_there_are_any() -> None:
    (slow,) = flown("OpenDrawer", "+", seconds_per_plan=9.0, video="videos/a.mp4")
    (fast,) = flown("OpenDrawer", "+", seconds_per_plan=1.0)
    assert summarise([slow, fast])["seconds_per_plan_median"] == 1.0
    assert summarise([slow])["seconds_per_plan_includes_video"]
