"""The policy as LeRobot sees it: the same losses, plans and checkpoints as everywhere else."""

import numpy as np
import pytest
import torch
from small import SMALL, small_model, small_observation
from torch.utils.data import default_collate
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="the plug-in needs the extra [lerobot]")

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs import EnvConfig
from lerobot.policies import get_policy_class, make_pre_post_processors

from vp_agent.agent import VideoPolicyAgent
from vp_agent.config import ActionStats
from vp_agent.errors import ConfigError, DatasetError, ObservationError, UnknownNameError
from vp_agent.folder import save_agent
from vp_agent.randomness import mix
from vp_agent.train.batches import Batches
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.lerobot import VPAgentConfig, VPAgentEnv
from vp_agent.train.lerobot.modeling_vp_agent import VPAgentPolicy
from vp_agent.train.losses import policy_losses
from vp_agent.train.settings import TrainSettings

ENDS = [3, 12, 25]  # a whole window, and two that reach past their episode's end


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "start"
    save_agent(small_model(), folder, card="")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_dataset(tmp_path_factory.mktemp("data") / "toy", size=32, steps=14)


@pytest.fixture
def policy(start):
    return VPAgentPolicy(VPAgentConfig(agent=str(start), stage="joint", device="cpu"))


@pytest.fixture(scope="module")
def batch(root):
    """What LeRobot's trainer gives a policy of the toy data: windows by its own loader's rules."""
    config = VPAgentConfig(agent=None, preset="tiny-lift", stage="joint", device="cpu")
    config.adopt(SMALL)
    dataset = LeRobotDataset("toy/square", root=root, return_uint8=True)
    deltas = resolve_delta_timestamps(config, dataset.meta)
    dataset = LeRobotDataset(
        "toy/square", root=root, return_uint8=True, delta_timestamps=deltas, video_backend="pyav"
    )
    batch = default_collate([dataset[i] for i in ENDS])
    for view in SMALL.views:
        key = f"observation.images.{view}"
        batch[key] = batch[key].float() / 255
    return batch


def _flight(policy, observation):
    """An environment's observation on LeRobot's way to the policy."""
    images = {
        f"observation.images.{view}": torch.from_numpy(image).movedim(-1, -3).float() / 255
        for view, image in observation["pixels"].items()
    }
    preprocess, _ = make_pre_post_processors(policy.config)
    return preprocess({**images, "task": list(observation["task"])})


def test_the_type_is_registered_and_leads_to_the_policy():
    assert PreTrainedConfig.get_choice_class("vp_agent") is VPAgentConfig
    assert get_policy_class("vp_agent") is VPAgentPolicy
    assert EnvConfig.get_choice_class("vp_agent") is VPAgentEnv


@pytest.mark.parametrize("stage", ["video", "action", "joint"])
def test_the_loss_of_lerobots_batch_is_the_trainers_on_the_same_windows(
    policy, batch, root, tmp_path, stage
):
    policy.config.stage = stage
    loss, parts = policy.train().forward(batch)

    settings = TrainSettings(
        stage=stage, data=root, init=root, out=tmp_path, batch_size=3, cache=False
    )
    generator = torch.Generator().manual_seed(mix(1000, stage, "step", 0, *ENDS))
    batches = Batches(policy.model, Demonstrations(root, SMALL), settings)
    losses = policy_losses(
        policy.model,
        batches.load(np.array(ENDS), generator=generator),
        generator=generator,
        with_actions=stage != "video",
        dropout=settings.condition_dropout,
        video_weight=0.0 if stage == "action" else None,
    )
    assert loss.item() == losses.total.item()
    assert parts == {f"loss_{name}": value for name, value in losses.parts().items()}


@pytest.mark.parametrize("key", ["action", "observation.images.gripper"])
def test_what_lies_past_an_episodes_end_does_not_count(policy, batch, key):
    unmasked = {name: value for name, value in batch.items() if name != f"{key}_is_pad"}
    for view in SMALL.views if "images" in key else ():
        unmasked.pop(f"observation.images.{view}_is_pad", None)
    assert policy.forward(batch)[0] != policy.forward(unmasked)[0]


def test_the_noise_depends_on_the_step_in_training_and_not_in_evaluation(policy, batch):
    losses = []
    for training in (True, True, False, False):
        policy.train(training)
        losses.append(policy.forward(batch)[0].item())
        policy.update()
    assert losses[0] != losses[1]
    assert losses[2] == losses[3]


def test_only_what_the_stage_trains_is_trained(start):
    config = VPAgentConfig(agent=str(start), stage="action", device="cpu", optimizer_lr_head=0.5)
    policy = VPAgentPolicy(config).train()
    trained = {name.split(".")[1] for name, p in policy.named_parameters() if p.requires_grad}
    assert trained == {"adapter", "action_head"}
    assert {name for name, part in policy.model.named_children() if part.training} == trained
    assert [group["lr"] for group in policy.get_optim_params()] == [0.5, 0.5]


def test_actions_are_those_of_the_agent_lane_by_lane_and_rollout_by_rollout(policy, start):
    agent = VideoPolicyAgent.from_pretrained(start, device="cpu")
    flown = 0
    for rollout in range(2):
        policy.reset()
        agent.reset(seed=1000 + flown)
        for step in range(SMALL.execute + 1):
            seen = small_observation(seed=10 * rollout + step, lanes=2)
            action = policy.select_action(_flight(policy, seen))
            assert np.array_equal(action.numpy(), agent.act(seen))
        flown += 2


def test_a_chunk_is_a_whole_plan_and_every_call_draws_anew(policy):
    seen = _flight(policy, small_observation(lanes=2))
    first, second = policy.predict_action_chunk(seen), policy.predict_action_chunk(seen)
    assert first.shape == (2, SMALL.horizon, SMALL.action_dim)
    assert not first.equal(second)
    assert not policy.supports_rtc()


def test_the_film_of_plans_shows_what_was_executed_of_each(policy):
    policy.config.save_predicted_video = True
    taken, imagined = [], []
    for _ in range(2 * SMALL.execute):
        policy.select_action(_flight(policy, small_observation(lanes=2)))
        if policy.last_predicted_latents is not None:  # what LeRobot does after every action
            taken.append(policy.last_predicted_latents)
            imagined.append(policy.agent.current_plan.video)
            policy.last_predicted_latents = None
    film = policy.decode_predicted_latents(torch.cat(taken, dim=2))
    assert film.shape == (2 * SMALL.execute, 2 * 32, 2 * 32, 3)
    # Step 6 is the third of the second plan: its second frame, as frames lie two steps apart.
    wanted = [[imagined[1][view][lane, 1] for view in SMALL.views] for lane in (0, 1)]
    wanted = np.concatenate([np.concatenate(row, axis=1) for row in wanted])
    assert np.array_equal(film[6].numpy(), wanted)


def test_one_checkpoint_serves_both_apis(policy, tmp_path):
    policy.save_pretrained(tmp_path / "lerobot")
    agent = VideoPolicyAgent.from_pretrained(tmp_path / "lerobot", device="cpu")
    agent.save_pretrained(tmp_path / "ours")
    again = VPAgentPolicy.from_pretrained(tmp_path / "ours")
    weights = policy.model.state_dict()
    for other in (agent, again.agent, VPAgentPolicy.from_pretrained(tmp_path / "lerobot").agent):
        assert other.config == policy.agent.config
        found = other.model.state_dict()
        assert found.keys() == weights.keys()
        assert all(found[name].equal(tensor) for name, tensor in weights.items())
    first, second = (x.plan(small_observation(), seed=3) for x in (policy.agent, agent))
    # MKL rounds by where in memory, so where in a file, the weights lie.
    np.testing.assert_allclose(first.actions, second.actions, atol=1e-4)


def test_a_checkpoint_remembers_its_step_and_what_was_set(policy, tmp_path):
    policy.config.adopt(policy.model.config.replace(execute=2))
    policy.update()
    policy.save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--num_inference_steps=5"])
    again = VPAgentPolicy.from_pretrained(tmp_path, config=config)
    assert int(again.updates) == 1
    assert again.agent.config.execute == again.config.n_action_steps == 2
    assert again.agent.sampler.steps == 5


def test_an_agent_of_ours_becomes_a_folder_that_lerobots_commands_open(start, tmp_path):
    VPAgentPolicy.from_pretrained(start).save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path)
    preprocess, postprocess = make_pre_post_processors(config, pretrained_path=str(tmp_path))
    image = torch.rand(3, 32, 32)
    seen = preprocess({"observation.images.left": image, "task": "lift the cube"})
    assert seen["observation.images.left"].equal(image[None])  # a batch of one, unchanged
    assert seen["task"] == ["lift the cube"]
    assert postprocess(torch.full((1, 7), 3.0)).equal(torch.full((1, 7), 3.0))


def test_the_range_of_the_first_actions_stays_the_heads(start, tmp_path):
    model = small_model(SMALL.replace(action_stats=None))
    stats = {"action": {"min": np.full(7, -2.0), "max": np.full(7, 3.0)}}
    config = VPAgentConfig(agent=str(start), stage="joint", device="cpu")
    config.adopt(model.config)
    policy = VPAgentPolicy(config, model=model, dataset_stats=stats)
    policy.save_pretrained(tmp_path)
    other = {"action": {"min": np.full(7, -9.0), "max": np.full(7, 9.0)}}
    again = VPAgentPolicy.from_pretrained(tmp_path, dataset_stats=other)
    assert again.agent.config.action_stats == ActionStats(min=(-2.0,) * 7, max=(3.0,) * 7)


def test_a_preset_is_a_configuration_with_lerobots_words():
    config = VPAgentConfig(
        preset="tiny-lift", views=["wrist"], chunk_size=16, n_action_steps=4, device="cpu"
    )
    assert config.video_policy.views == ("wrist",)
    assert (config.video_policy.horizon, config.video_policy.execute) == (16, 4)
    stride, frames = config.video_policy.frame_stride, config.video_policy.frames_per_view
    assert config.observation_delta_indices == [t * stride for t in range(frames)]
    assert config.action_delta_indices is None  # the video stage looks at no actions
    assert list(config.image_features) == ["observation.images.wrist"]


def test_a_view_that_the_data_lacks_is_named(policy, batch):
    del batch["observation.images.left"]
    with pytest.raises(DatasetError, match=r"no 'observation.images.left'.*--rename_map"):
        policy.forward(batch)


def test_an_empty_instruction_is_refused(policy):
    seen = {**small_observation(lanes=2), "task": ["lift the cube", " "]}
    with pytest.raises(ObservationError, match="instructions in words"):
        policy.select_action(_flight(policy, seen))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"fps": 30}, "has 30 fps"), ({"action": 12}, "has 12-D actions")],
)
def test_a_dataset_that_does_not_fit_is_refused(start, root, wrong, words):
    meta = LeRobotDataset("toy/square", root=root).meta
    meta.info.fps = wrong.get("fps", 20)
    meta.info.features["action"]["shape"] = (wrong.get("action", 7),)
    config = VPAgentConfig(agent=str(start), stage="joint", device="cpu")
    with pytest.raises(DatasetError, match=words):
        VPAgentPolicy(config, dataset_meta=meta)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"views": ["wrist"]}, r"views is .*keeps it"),
        ({"svd": "x"}, "not both"),
        ({"model": SMALL.to_dict()}, "already says where to start"),
        ({"tier": "fastest"}, "no tier 'fastest'"),
    ],
)
def test_flags_that_contradict_the_agent_are_refused(start, flags, words):
    with pytest.raises((ConfigError, UnknownNameError), match=words):
        VPAgentConfig(agent=str(start), device="cpu", **flags)


def test_the_action_stage_without_a_trained_unet_is_refused():
    config = VPAgentConfig(preset="tiny-lift", stage="action", device="cpu")
    with pytest.raises(ConfigError, match="needs a trained U-Net"):
        VPAgentPolicy(config)


def test_normalisers_of_lerobot_beside_ours_are_refused(start):
    mapping = {"ACTION": NormalizationMode.MEAN_STD}
    config = VPAgentConfig(agent=str(start), normalization_mapping=mapping, device="cpu")
    with pytest.raises(ConfigError, match="leave IDENTITY"):
        VPAgentPolicy(config)
