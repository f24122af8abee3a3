"""Policies of other packages as agents: a real diffusion policy of LeRobot's, in its process."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pilots import Reach, episode

pytest.importorskip("lerobot", reason="needs the extra [lerobot]")
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors

from vp_agent.envs.interpreters import read_places
from vp_agent.errors import AgentFolderError, ConfigError, ObservationError, UnknownNameError
from vp_agent.evaluation import runner
from vp_agent.evaluation.episode import fly
from vp_agent.evaluation.foreign import load_foreign
from vp_agent.evaluation.foreign_lerobot import LeRobotPolicy
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.policy import LoadedPolicy, plan_seed
from vp_agent.evaluation.runner import EvalSettings, evaluate

TIMES = {"seconds_per_plan", "plan_s", "wall_s", "started"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lerobot-train leaves: configuration, weights, processors."""
    image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 64, 64))
    config = DiffusionConfig(
        input_features={
            "observation.images.left": image,
            "observation.images.right": image,
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(1,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(7,))},
        n_obs_steps=2,
        horizon=8,
        n_action_steps=4,
        down_dims=(16, 32),
        diffusion_step_embed_dim=16,
        spatial_softmax_num_keypoints=4,
        num_train_timesteps=5,
        crop_shape=None,
        pretrained_backbone_weights=None,
        device="cpu",
        push_to_hub=False,
    )
    stats = {
        key: {x: torch.full(shape, value) for x, value in (("min", -2.0), ("max", 2.0))}
        for key, shape in (("action", (7,)), ("observation.state", (1,)))
    }
    for key in ("left", "right"):
        ones = torch.ones(3, 1, 1)
        stats[f"observation.images.{key}"] = {"mean": ones / 2, "std": ones / 4}
    folder = tmp_path_factory.mktemp("lerobot") / "pretrained_model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        DiffusionPolicy(config).save_pretrained(folder)
    # As trained from ImageNet's weights, which must not be fetched again.
    values = json.loads((folder / "config.json").read_text())
    values["pretrained_backbone_weights"] = "ResNet18_Weights.IMAGENET1K_V1"
    (folder / "config.json").write_text(json.dumps(values))
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedPolicy:
    return load_foreign(f"lerobot:{folder}", device="cpu")


def reach() -> Reach:
    return Reach(resolution=(64, 64))


def actions_of(policy: Any, number: int) -> list[np.ndarray]:
    """What the policy does in one episode."""
    done: list[np.ndarray] = []

    class Noting:
        execute = policy.execute
        reset = policy.reset

        def plan(self, obs: Any, *, seed: int, video: bool = False) -> Any:
            plan = policy.plan(obs, seed=seed, video=video)
            done.append(plan.actions[0])
            return plan

    fly(Noting(), reach(), episode(number))
    return done


def test_the_policy_says_what_it_wants_to_see(loaded: LoadedPolicy, folder: Path) -> None:
    assert loaded.env_kwargs == {"views": ["left", "right"], "resolution": [64, 64]}
    assert (loaded.action_dim, loaded.facts["lerobot_policy"]) == (7, "diffusion")
    assert len(loaded.identity["agent"]) == 16


def test_its_actions_are_those_of_lerobots_own_loop(loaded: LoadedPolicy, folder: Path) -> None:
    lane, env = loaded.lane(), reach()
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_backbone_weights = None  # type: ignore[attr-defined]
    policy = DiffusionPolicy.from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    policy.reset()
    observation, _ = env.reset(seed=3)
    lane.reset(env, seed=0)
    with torch.random.fork_rng(), torch.inference_mode():
        for step in range(6):  # over a second chunk
            batch = {
                f"observation.images.{view}": torch.from_numpy(x).permute(2, 0, 1)[None] / 255
                for view, x in observation["pixels"].items()
            }
            batch["observation.state"] = torch.from_numpy(observation["agent_pos"])[None]
            torch.manual_seed(step)
            wanted = after(policy.select_action(before({**batch, "task": [observation["task"]]})))
            got = lane.plan(observation, seed=step).actions[0]
            assert np.allclose(got, wanted[0].numpy(), atol=1e-4)  # threads round otherwise
            observation = env.step(got)[0]


def test_lanes_share_weights_and_not_histories(loaded: LoadedPolicy) -> None:
    alone = [actions_of(loaded.lane(), number) for number in (1, 2)]
    assert not np.array_equal(alone[0][0], alone[1][0])
    lanes, envs = [loaded.lane() for _ in range(2)], [reach(), reach()]
    seen = [env.reset(seed=number)[0] for number, env in zip((1, 2), envs, strict=True)]
    for lane, env in zip(lanes, envs, strict=True):
        lane.reset(env, seed=0)
    for step in range(5):
        for i in (0, 1):
            action = lanes[i].plan(seen[i], seed=plan_seed(i + 1, step)).actions[0]
            assert np.array_equal(action, alone[i][step])
            seen[i] = envs[i].step(action)[0]


def test_a_resumed_evaluation_ends_with_the_lines_of_a_whole_one(
    loaded: LoadedPolicy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_policy", lambda _: loaded)
    settings = EvalSettings(
        agent=f"lerobot:{folder}",
        env="pilots:Reach-v0",
        out=tmp_path / "whole",
        episodes=2,
        record=1,
        workers=0,
    )
    evaluate(settings)
    parts = replace(settings, out=tmp_path / "parts")
    evaluate(replace(parts, episodes=1))
    results = evaluate(replace(parts, resume=True))
    whole, resumed = (
        [
            {key: value for key, value in vars(line).items() if key not in TIMES}
            for line in read_journal(out / "journal.jsonl")
        ]
        for out in (settings.out, parts.out)
    )
    assert whole == resumed
    assert results["lerobot_policy"] == "diffusion"


def test_an_observation_that_does_not_fit_is_refused(loaded: LoadedPolicy) -> None:
    lane, env = loaded.lane(), Reach(resolution=(16, 16))
    lane.reset(env, seed=0)
    seen = env.reset(seed=0)[0]
    with pytest.raises(ObservationError, match=r"looks at left of \(64, 64, 3\)"):
        lane.plan(seen, seed=0)
    seen = reach().reset(seed=0)[0]
    seen["agent_pos"] = np.zeros(8, np.float32)
    with pytest.raises(ObservationError, match=r"state of \(1,\), the environment has \(8,\)"):
        lane.plan(seen, seed=0)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("policy_preprocessor.json", "cannot be loaded by LeRobot"),
        ("config.json", "cannot be loaded by LeRobot"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    folder: Path, tmp_path: Path, missing: str, words: str
) -> None:
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / missing).unlink()
    with pytest.raises(AgentFolderError, match=words):
        LeRobotPolicy(str(tmp_path / "broken"), device="cpu", threads=1)


def test_cameras_that_our_environments_do_not_have_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text())
    features = config["input_features"]
    features["observation.image"] = features.pop("observation.images.left")
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"takes .*observation\.image.*observation\.images\.VIEW"):
        LeRobotPolicy(str(tmp_path / "other"), device="cpu", threads=1)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentFolderError, match="no folder here"):
        load_foreign("lerobot:no/where")
    with pytest.raises(AgentFolderError, match=r"is no file; robomimic: takes a checkpoint"):
        load_foreign("robomimic:nowhere.pth")
    with pytest.raises(ConfigError, match="go with --agent lerobot:PATH"):
        EvalSettings(agent="random", env="x", out=tmp_path, trusted=True)


def test_vp_agent_toml_names_the_interpreter_of_a_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vp-agent.toml"
    path.write_text('[robomimic]\npython = "env/bin/python"\n')
    monkeypatch.setenv("VP_AGENT_CONFIG", str(path))
    assert read_places()["robomimic"].python == str(tmp_path / "env/bin/python")
    path.write_text('[lerobott]\npython = "x"\n')
    with pytest.raises(UnknownNameError, match="did you mean 'lerobot'"):
        read_places()
