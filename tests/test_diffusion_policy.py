"""The paper's Diffusion Policy baselines: network, sampler, training, flight."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL_BASELINE, small_baseline, small_observation

from vp_agent.agent import VideoPolicyAgent
from vp_agent.cli import main
from vp_agent.diffusion_policy_config import DdimConfig, DiffusionPolicyConfig, baseline
from vp_agent.errors import AgentFolderError, ConfigError, ObservationError
from vp_agent.evaluation.journal import read_journal
from vp_agent.evaluation.runner import EvalSettings, evaluate
from vp_agent.folder import load_agent, load_any_agent, read_config, save_agent
from vp_agent.model.diffusion_policy import NoisePredictor, noise_schedule, sample_actions
from vp_agent.model.view_encoder import ViewEncoder, _cut
from vp_agent.presets import baseline_preset, preset

CLIP = SMALL_BASELINE.replace(
    policy="dp-clip",
    vision={
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 8,
    },
)


def agent_of(config: DiffusionPolicyConfig = SMALL_BASELINE) -> VideoPolicyAgent:
    return VideoPolicyAgent(small_baseline(config), "paper", config.tier("paper"))


def test_with_mish_the_action_u_net_is_lerobots():
    pytest.importorskip("lerobot")
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionConditionalUnet1d

    config = SMALL_BASELINE
    theirs = DiffusionConditionalUnet1d(
        DiffusionConfig(
            output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(7,))},
            horizon=8,
            down_dims=config.action_head.widths,
            kernel_size=config.action_head.kernel,
            n_groups=8,
            diffusion_step_embed_dim=config.action_head.step_width,
            use_film_scale_modulation=True,
        ),
        global_cond_dim=20,
    )
    ours = NoisePredictor(config, context_width=20)
    weights = zip(ours.state_dict().items(), _in_our_order(theirs.state_dict()), strict=True)
    ours.load_state_dict({name: tensor for (name, _), tensor in weights})
    actions, steps, context = torch.randn(3, 8, 7), torch.tensor([0, 7, 49]), torch.randn(3, 20)
    wanted = theirs(actions, steps, global_cond=context)
    assert torch.allclose(ours(actions, steps, context), wanted, atol=1e-5)  # order of sums


def _in_our_order(state):
    """Their tensors as ours follow each other: FiLM after both convolutions, downsampling last."""
    order = ("conv1", "conv2", "cond_encoder", "residual_conv")
    step = [
        state.pop(f"diffusion_step_encoder.{i}.{x}") for i in (1, 3) for x in ("weight", "bias")
    ]
    blocks: dict[str, list] = {}
    for name, tensor in state.items():
        part = next((x for x in order if f".{x}." in name), None)
        group = name.split(f".{part}.")[0] if part else name.rsplit(".", 1)[0]
        blocks.setdefault(group, []).append((order.index(part) if part else 0, tensor))
    for group, tensors in blocks.items():
        blocks[group] = [tensor for _, tensor in sorted(tensors, key=lambda x: x[0])]
    return [*step, *(tensor for tensors in blocks.values() for tensor in tensors)]


def test_a_perfect_predictor_gives_the_clean_actions(monkeypatch):
    model = small_baseline()
    clean = torch.rand(2, 8, 7) * 1.8 - 0.9
    kept = noise_schedule(model.config).alphas_cumprod

    def perfect(actions_BNKA, step_BN, _context):
        a = kept[step_BN[0, 0]]
        return (actions_BNKA - a.sqrt() * clean[:, None]) / (1 - a).sqrt()

    monkeypatch.setattr(model, "predict_noise", perfect)
    drawn = sample_actions(
        model,
        torch.zeros(2, 2, 3, 32, 32),
        model.encode_text(["a", "b"]),
        tier=DdimConfig(steps=5),
        noise_BKA=torch.randn(2, 8, 7),
    )
    assert torch.allclose(drawn, clean, atol=1e-4)


def test_a_cut_is_the_middle_or_moves_by_its_share_of_the_room():
    ramp = torch.linspace(-1, 1, 65)[None, None, None, :64].expand(2, 3, 64, 64) + 1 / 64
    middle = _cut(ramp, 0.5, None).mean(dim=(1, 2, 3))
    assert torch.allclose(middle, torch.zeros(2), atol=1e-3)
    moved = _cut(ramp, 0.5, torch.tensor([[1.0, 0.0], [-0.5, 0.0]])).mean(dim=(1, 2, 3))
    assert torch.allclose(moved, torch.tensor([0.5, -0.25]), atol=0.01)  # edges are half a pixel


def test_the_statistics_of_pretrained_batch_norms_stay():
    encoder = ViewEncoder(SMALL_BASELINE.replace(norm="batch")).train()
    before = {name: x.clone() for name, x in encoder.named_buffers() if "running" in name}
    assert before
    encoder(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(torch.equal(x, encoder.get_buffer(name)) for name, x in before.items())
    group = ViewEncoder(SMALL_BASELINE)
    assert not any("running" in name for name, _ in group.named_buffers())


def test_every_view_has_an_encoder_of_its_own_and_the_text_counts():
    model = small_baseline()
    images, text = torch.randn(1, 2, 3, 32, 32), model.encode_text(["lift the cube"])
    context = model.context(images, text)
    assert context.shape == (1, 32 + 32 + 32)
    swapped = model.context(images.flip(1), text)
    assert not torch.allclose(context[:, :32], swapped[:, 32:64])
    assert not torch.equal(context, model.context(images, model.encode_text(["open the drawer"])))


@pytest.mark.parametrize("config", [SMALL_BASELINE, CLIP], ids=["resnet", "clip"])
def test_a_saved_baseline_plans_the_same_and_imagines_nothing(config, tmp_path):
    agent = agent_of(config)
    agent.save_pretrained(tmp_path / "agent")
    assert load_any_agent(tmp_path / "agent").config == config
    loaded = VideoPolicyAgent.from_pretrained(tmp_path / "agent", device="cpu")
    obs = small_observation()
    plans = [x.plan(obs, seed=3, video=True) for x in (agent, loaded)]
    # A product on the CPU rounds by where in memory its factors lie; the weights are the same.
    assert np.allclose(plans[0].actions, plans[1].actions, atol=1e-4)
    assert plans[0].actions.shape == (8, 7)
    assert plans[0].video is None
    assert not np.array_equal(plans[0].actions, agent.plan(obs, seed=4).actions)
    assert "A Diffusion Policy" in (tmp_path / "agent" / "README.md").read_text()


def test_a_row_of_a_batch_is_the_single_plan_of_its_seed():
    agent, obs = agent_of(), small_observation(lanes=2)
    rows = agent.plan(obs, seed=[5, 9]).actions
    one = {
        "pixels": {view: image[1] for view, image in obs["pixels"].items()},
        "agent_pos": obs["agent_pos"][1],
        "task": obs["task"][1],
    }
    assert np.allclose(rows[1], agent.plan(one, seed=9).actions, atol=1e-4)  # rounding


def test_what_only_a_video_policy_has_is_refused(tmp_path):
    agent = agent_of()
    agent.save_pretrained(tmp_path / "agent")
    with pytest.raises(ConfigError, match="imagines no video: drop video_noise"):
        agent.plan(small_observation(), seed=0, video_noise=np.zeros(3))
    with pytest.raises(ConfigError, match="no guidance, got 2"):
        VideoPolicyAgent.from_pretrained(tmp_path / "agent", guidance=2.0)
    with pytest.raises(ConfigError, match="compile is for Video Policies"):
        VideoPolicyAgent.from_pretrained(tmp_path / "agent", compile=True)
    for read in (load_agent, read_config):
        with pytest.raises(AgentFolderError, match=r"Diffusion Policy \(dp-resnet\), expected"):
            read(tmp_path / "agent")
    with pytest.raises(ObservationError, match="no view 'gripper'"):
        agent.plan({**small_observation(), "pixels": {"left": None}}, seed=0)


def test_a_baseline_has_the_views_chunk_and_text_of_the_video_policy():
    paper, tiny = preset("svd-robocasa"), preset("tiny-lift")
    resnet, clip = (baseline_preset(name, "svd-robocasa") for name in ("dp-resnet", "dp-clip"))
    assert (resnet.horizon, resnet.execute, resnet.resolution) == (32, 16, (256, 256))
    assert clip.resolution == (224, 224)
    assert resnet.text_encoder == clip.text_encoder == paper.text_encoder
    small = baseline_preset("dp-resnet", "tiny-lift")
    for name in ("views", "horizon", "execute", "resolution", "render_quality", "control_hz"):
        assert getattr(small, name) == getattr(tiny, name)
    for config in (resnet, clip, small):
        values = json.loads(json.dumps(config.to_dict()))
        assert DiffusionPolicyConfig.from_dict(values) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": "dp-clip", "resolution": (224, 256)}, "square images"),
        ({"crop": 0.0}, r"crop must be in \(0, 1\]"),
        ({"tiers": {"paper": DdimConfig(steps=51)}}, "only 50 noise levels"),
        ({"execute": 40}, "execute must be in 1..horizon"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        baseline("dp-resnet", preset("svd-robocasa")).replace(**changes)


def test_the_same_evaluation_twice_gives_the_same_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    save_agent(small_baseline(), tmp_path / "agent", card="")
    settings = EvalSettings(
        agent=str(tmp_path / "agent"),
        env="pilots:Reach-v0",
        out=tmp_path / "a",
        episodes=2,
        record=1,
        workers=0,
    )
    results = evaluate(settings)
    evaluate(replace(settings, out=tmp_path / "b"))
    clock = {"seconds_per_plan", "plan_s", "wall_s", "started"}
    a, b = (
        [{k: v for k, v in vars(line).items() if k not in clock} for line in read_journal(path)]
        for path in (tmp_path / "a/journal.jsonl", tmp_path / "b/journal.jsonl")
    )
    assert a == b
    assert results["sampler"] == {"steps": 16, "guidance": 1.0}
    assert (tmp_path / "a/videos/pilots_Reach-v0-00000.mp4").is_file()


def test_the_command_says_what_a_policy_takes(capsys):
    common = ["train", "--data", "x", "--out", "y"]
    for flags, words in (
        (["--policy", "dp-resnet", "--stage", "video"], "drop"),
        (["--preset", "tiny-lift"], "give --stage vae"),
        (["--policy", "dp-clip", "--video-weight", "0.5"], "--video-weight is the Video Policy's"),
        (["--stage", "video", "--preset", "tiny-lift", "--encoder", "z"], "--encoder goes with"),
        (["--policy", "dp-resnet", "--init", "z", "--encoder", "z"], "drop --encoder"),
    ):
        assert main([*common, *flags]) == 2
        assert words in capsys.readouterr().err
    assert main([*common, "--recipe", "dp-resnet", "--steps", "9", "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["policy"], shown["head_lr"], shown["batch_size"]) == ("dp-resnet", 3e-4, 96)


pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")
