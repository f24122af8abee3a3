"""Several datasets in one training, video without actions, and what is refused before it begins."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from dataset_damage import edit_action
from foreign_data import write_dataset
from small import SMALL, small_model

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

from vp_agent.config import ActionStats
from vp_agent.errors import ConfigError, DatasetError, UnknownNameError
from vp_agent.folder import load_agent, save_agent
from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.mixture import Mixture, learn_actions, open_mixture
from vp_agent.train.settings import TrainSettings
from vp_agent.train.trainer import train

TASKS = ("lift the cube", "open the door", "press the button")
NAMES = ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"]
FRESH = SMALL.replace(action_stats=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def cubes(folder):
    """Six episodes of twelve steps, two of each task."""
    return write_dataset(folder / "cubes", tasks=TASKS, action_names=NAMES)


@pytest.fixture(scope="module")
def silent(folder):
    return write_dataset(folder / "silent", action=None, tasks=("watch the robot",), seed=1)


@pytest.fixture(scope="module")
def start(folder):
    save_agent(small_model(FRESH), folder / "start", card="")
    return folder / "start"


@pytest.fixture
def settings(cubes, silent, start, tmp_path):
    return TrainSettings(
        stage="joint",
        data=(cubes, silent),
        init=start,
        out=tmp_path / "run",
        holdout=0,
        threads=1,
        device="cpu",
        batch_size=4,
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_mixtures_samples_are_those_of_its_datasets(settings, cubes, silent):
    mixed = open_mixture(settings, FRESH)
    parts = [Demonstrations(root, FRESH, holdout=0) for root in (cubes, silent)]
    ids, own = np.array([75, 3, 80, 71]), ((1, 3), (0, 3), (1, 8), (0, 71))
    chunk = mixed.chunk(ids)
    for i, (part, index) in enumerate(own):
        at = np.array([index])
        assert torch.equal(mixed.pixels(ids)[i], parts[part].pixels(at)[0])
        assert torch.equal(chunk.actions_BKA[i], parts[part].chunk(at).actions_BKA[0])
    assert [mixed.tasks[i] for i in chunk.task_B] == [
        "watch the robot",
        TASKS[0],
        "watch the robot",
        TASKS[2],
    ]


def test_cached_mixtures_give_the_latents_of_the_right_dataset(settings):
    model, mixed = small_model(FRESH), open_mixture(settings, FRESH)
    ids = np.array([75, 3, 80, 71])
    cached, fresh = (
        Batches(model, mixed, replace(settings, cache=cache)).load(ids, generator=seeded())
        for cache in (True, False)
    )
    # float16 on disk
    for name in ("moments_BVTChw", "condition_BVChw"):
        a, b = getattr(cached, name), getattr(fresh, name)
        assert torch.allclose(a, b, rtol=2e-3, atol=2e-3)
    assert torch.equal(cached.text_B1D, fresh.text_B1D)


@pytest.mark.parametrize(("weights", "share"), [(None, 0.75), ((1.0, 1.0), 0.5), ((1.0, 9.0), 0.1)])
def test_datasets_are_drawn_by_their_frames_or_by_weights(settings, weights, share):
    settings = replace(settings, data_weights=weights, batch_size=2000, cache=False, stage="video")
    batches = Batches(small_model(FRESH), open_mixture(settings, FRESH), settings)
    ids = batches.draw(seeded())
    first = ids < 72
    assert abs(first.mean() - share) < 0.03
    # Within a dataset every frame is as likely.
    assert len(set(ids[first])) == 72 if share > 0.4 else True
    assert np.array_equal(ids, batches.draw(seeded()))


def test_video_without_actions_is_learned_as_video_only(settings, start):
    data = open_mixture(settings, FRESH)
    batches = Batches(small_model(FRESH), data, settings)
    batch = batches.load(np.array([0, 72]), generator=seeded())
    assert batch.has_actions_B.tolist() == [True, False]
    assert batch.chunk.action_is_pad_BK.all(1).tolist() == [False, True]
    assert len(batches.train_ids) == 96
    action = Batches(small_model(FRESH), data, replace(settings, stage="action"))
    assert action.train_ids.max() == 71


@pytest.mark.slow
def test_every_stage_trains_on_video_with_and_without_actions(settings):
    run = {"steps": 1, "save_every": 1, "eval_every": 1, "holdout": 0.5}
    video = replace(settings, stage="video", out=settings.out / "video", **run)
    train(video)
    train(replace(settings, stage="action", init=video.out, out=settings.out / "action", **run))
    agent = train(replace(settings, out=settings.out / "joint", **run)) / "agent"
    assert load_agent(agent).config.action_names == tuple(NAMES)


def test_only_video_cannot_train_an_action_head(settings, silent):
    settings = replace(settings, data=silent)
    with pytest.raises(DatasetError, match=r"silent has no actions to learn.*--stage video"):
        train(settings)
    assert not settings.out.exists()


@pytest.mark.parametrize("name", ["open the door", "*door", "cubes"])
def test_actions_of_tasks_that_are_not_listed_are_not_learned(settings, name):
    settings = replace(settings, tasks_with_actions=(name,))
    data = open_mixture(settings, FRESH)
    learned = {data.tasks[i] for i in data.chunk(np.flatnonzero(data.labelled_N)).task_B}
    assert learned == (set(TASKS) if name == "cubes" else {"open the door"})
    # The range is that of all tasks (the half-tasks study, paper section 4).
    full = Demonstrations(settings.datasets[0], FRESH).action_stats
    assert learn_actions(FRESH, data, settings).action_stats == full
    action = Batches(small_model(FRESH), data, replace(settings, stage="action"))
    assert np.array_equal(action.train_ids, np.flatnonzero(data.labelled_N))


def test_actions_that_are_not_to_be_learned_do_not_change_the_loss(settings):
    from vp_agent.train.losses import policy_losses

    settings = replace(settings, tasks_with_actions=(TASKS[0],))
    data, model = open_mixture(settings, FRESH), small_model()
    batches = Batches(model, data, settings)
    ids = np.array([0, 40])  # the first task, and another

    def loss(batch):
        with torch.no_grad():
            return policy_losses(model, batch, generator=seeded(), with_actions=True)

    batch = batches.load(ids, generator=seeded())
    other = batch.chunk.actions_BKA.clone()
    other[1] = 0.5
    changed = loss(replace(batch, chunk=replace(batch.chunk, actions_BKA=other)))
    # The network sees the noisy actions of both, each in its own row.
    assert torch.equal(changed.action, loss(batch).action)
    assert torch.equal(changed.video, loss(batch).video)


def test_an_unknown_task_is_answered_with_the_closest(settings):
    settings = replace(settings, tasks_with_actions=("open the dor",))
    with pytest.raises(UnknownNameError, match="did you mean 'open the door'"):
        open_mixture(settings, FRESH)


def test_one_dataset_is_written_down_as_before(settings, cubes):
    """Run folders from before mixtures hold a plain path, and go on."""
    run = {"steps": 2, "save_every": 1, "eval_every": 2, "stage": "video"}
    settings = replace(settings, data=cubes, **run)
    train(settings)
    path = settings.out / "config.json"
    old = json.loads(path.read_text())
    assert old["data"] == str(cubes)
    for name in ("data_weights", "key_map", "tasks_with_actions", "jitter", "cache_variants"):
        del old[name]
    path.write_text(json.dumps(old))
    train(replace(settings, resume=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fps": 30}, "other has 30 fps, the policy runs at 20 Hz"),
        ({"views": ("gripper", "right")}, "other has no view 'left'"),
        ({"action": (8, "float32")}, "other has 8-D actions"),
        ({"action_names": ["dx", "dy", "dz", "gripper", "rx", "ry", "rz"]}, "other has the act"),
        ({"tasks": ("lift the cube", " ")}, r"the instruction of episodes \[2, 3\] is empty"),
    ],
)
def test_a_dataset_that_does_not_fit_the_others_is_named(settings, cubes, tmp_path, changes, words):
    other = write_dataset(tmp_path / "other", **changes)
    settings = replace(settings, data=(cubes, other))
    with pytest.raises(DatasetError, match=words):
        train(settings)
    assert not settings.out.exists()


def test_the_command_line_takes_one_dataset_or_several():
    fixed = ["--stage", "video", "--init", "x", "--out", "y"]
    one = tyro.cli(TrainSettings, args=[*fixed, "--data", "data/lift"])
    assert (one.data, one.datasets) == (Path("data/lift"), (Path("data/lift"),))
    words = ["--data", "a", "lerobot/libero", "--data-weights", "3", "1"]
    words += ["--key-map", "own", "libero", "--tasks-with-actions", "open *", "a"]
    two = tyro.cli(TrainSettings, args=[*fixed, *words])
    assert two.datasets == (Path("a"), Path("lerobot/libero"))
    assert (two.data_weights, two.key_map) == ((3.0, 1.0), ("own", "libero"))
    assert two.tasks_with_actions == ("open *", "a")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_weights": (1.0,)}, "--data-weights"),
        ({"data_weights": (1.0, 0.0)}, "--data-weights"),
        ({"key_map": ("own", "own", "own")}, "--key-map"),
        ({"jitter": True, "cache_variants": 1}, "--cache-variants"),
        ({"data": ()}, "--data"),
    ],
)
def test_settings_that_contradict_the_datasets_are_refused(settings, changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(settings, **changes)


def test_an_action_that_never_changes_cannot_be_normalised(settings, monkeypatch):
    data = open_mixture(settings, FRESH)
    data.actions_NA[:, 3] = 0.25
    with pytest.raises(DatasetError, match="dimension 3 is constant"):
        learn_actions(FRESH, data, settings)


def test_an_action_that_is_not_finite_is_named(cubes, tmp_path):
    copy = Path(shutil.copytree(cubes, tmp_path / "copy"))
    edit_action(copy, 30, 3, np.nan)
    with pytest.raises(DatasetError, match=r"episode 2, frame 6: action\.rx is not finite"):
        Demonstrations(copy, FRESH)


def agent_range(width: float):
    return SMALL.replace(action_stats=ActionStats(min=(-width,) * 7, max=(width,) * 7))


def test_an_agent_keeps_its_range_on_new_data(settings):
    data, agent = open_mixture(settings, FRESH), agent_range(1.0)
    assert learn_actions(agent, data, settings).action_stats == agent.action_stats
    narrow = agent_range(float(np.sort(np.abs(data.actions_NA).max(axis=1))[-7]))
    with pytest.warns(UserWarning, match="6 of 72 actions lie outside the range"):
        assert learn_actions(narrow, data, settings).action_stats == narrow.action_stats


def test_actions_in_other_units_are_refused_unless_the_range_is_chosen(settings):
    data, agent = open_mixture(settings, FRESH), agent_range(0.01)
    with pytest.raises(DatasetError, match=r"72 of 72 actions.*--action-range"):
        learn_actions(agent, data, settings)
    with pytest.warns(UserWarning, match="outside"):
        kept = learn_actions(agent, data, replace(settings, action_range="keep"))
    assert kept.action_stats == agent.action_stats
    new = learn_actions(agent, data, replace(settings, action_range="data"))
    assert new.action_stats == data.action_stats


def test_actions_that_are_a_hundred_times_smaller_are_refused(settings):
    """Metres for centimetres: none lies outside the agent's range."""
    data, agent = open_mixture(settings, FRESH), agent_range(1.0)
    data.actions_NA[:, 2] /= 100
    words = r"dimension 2 goes from -0\.00\d+ to 0\.00\d+, the agent's from -1 to 1.*--action-range"
    with pytest.raises(DatasetError, match=words):
        learn_actions(agent, data, settings)
    kept = learn_actions(agent, data, replace(settings, action_range="keep"))
    assert kept.action_stats == agent.action_stats


def test_datasets_without_actions_are_named(settings, silent, capsys):
    open_mixture(settings, FRESH)
    assert capsys.readouterr().out == f"{silent} has no actions: only its video can be learned\n"


def test_a_holdout_that_leaves_nothing_to_train_on_is_refused(settings):
    settings = replace(settings, holdout=0.95)
    with pytest.raises(DatasetError, match=r"--holdout 0\.95 leaves none of the 6 \+ 2 episodes"):
        train(settings)
    assert not settings.out.exists()


def test_an_agent_of_other_actions_is_refused(cubes):
    agent = FRESH.replace(action_names=("x", "y", "z", "roll", "pitch", "yaw", "jaw"))
    with pytest.raises(DatasetError, match="the policy's are x, y, z"):
        Demonstrations(cubes, agent)


def test_agents_without_action_names_are_written_as_ever():
    assert "action_names" not in SMALL.to_dict()
    named = SMALL.replace(action_names=tuple(NAMES))
    assert type(named).from_dict(named.to_dict()) == named


def test_a_copied_dataset_is_another_one_for_mixtures(cubes, tmp_path):
    """The same data twice counts twice, under both names."""
    copy = shutil.copytree(cubes, tmp_path / "copy")
    mixed = Mixture([Demonstrations(root, FRESH, holdout=0) for root in (cubes, copy)])
    assert len(mixed) == 144
    assert mixed.name == "cubes + copy"
    assert len(mixed.tasks) == 6
