"""The plug-in under LeRobot's own commands: two stages, a resumed run, an evaluation."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import pytest
from safetensors.torch import load_file
from small import SMALL, small_model, small_observation
from toy_data import write_toy_dataset

pytest.importorskip("lerobot", reason="the plug-in needs the extra [lerobot]")
pytest.importorskip("robosuite", reason="the evaluation flies robosuite")

from vp_agent.agent import VideoPolicyAgent
from vp_agent.folder import save_agent
from vp_agent.train.dataset import Demonstrations

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PRETRAINED = "pretrained_model"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """The thin distribution, installed where only these tests look."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    source.mkdir()
    for path in (ROOT / "examples" / "lerobot_policy_vp_agent").iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def out(tmp_path_factory, plugin) -> Path:
    """A folder after all the commands: video/, action/, joint/, resumed/, flown/."""
    out = tmp_path_factory.mktemp("lerobot")
    data = write_toy_dataset(out / "toy", size=32, steps=14)
    save_agent(small_model(SMALL.replace(action_stats=None)), out / "start", card="")

    def train(name: str, *arguments: str) -> list[str]:
        fixed = (
            f"--dataset.root={data} --dataset.repo_id=toy/square --num_workers=0 "
            "--dataset.episodes=[0] --batch_size=7 "  # an epoch is two steps
            f"--log_freq=1 --save_freq=1 --output_dir={out / name} --policy.device=cpu "
            "--policy.push_to_hub=false"
        )
        return ["lerobot-train", *arguments, *fixed.split()]

    start, last = f"--policy.agent={out / 'start'}", f"checkpoints/last/{PRETRAINED}"
    cut = out / "resumed/checkpoints/000001"
    commands = [
        train("video", "--policy.type=vp_agent", start, "--steps=1"),
        train(
            "action", f"--policy.path={out / 'video' / last}", "--policy.stage=action", "--steps=1"
        ),
        train("joint", "--policy.type=vp_agent", start, "--policy.stage=joint", "--steps=3"),
        ["copytree", str(out / "joint/checkpoints/000001"), str(cut)],
        [
            "lerobot-train",
            f"--config_path={cut / PRETRAINED / 'train_config.json'}",
            "--resume=true",
            f"--output_dir={out / 'resumed'}",
        ],
        [
            "lerobot-eval",
            f"--policy.path={out / 'action' / last}",
            "--policy.save_predicted_video=true",
            "--policy.n_action_steps=3",
            "--discover_packages_path=vp_agent.train.lerobot",  # works beside the distribution
            "--env.type=vp_agent",
            "--env.task=Robosuite-Lift-v0",
            "--env.episode_length=7",
            "--eval.n_episodes=2",
            "--eval.batch_size=2",
            "--eval.use_async_envs=false",
            f"--output_dir={out / 'flown'}",
        ],
    ]
    (out / "commands.json").write_text(json.dumps(commands))
    paths = [str(plugin), str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/lerobot_commands.py"), str(out / "commands.json")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (out / "log").write_text(done.stdout + done.stderr)
    return out


def _weights(out: Path, run: str, step: int) -> dict:
    return load_file(out / run / f"checkpoints/{step:06d}" / PRETRAINED / "model.safetensors")


def _changed(before: dict, after: dict) -> set[str]:
    assert before.keys() == after.keys()
    names = {name for name in before if not before[name].equal(after[name])}
    return {".".join(name.split(".")[:2]) for name in names} - {"updates"}


def test_the_video_stage_changes_the_unet_and_nothing_else(out):
    start = VideoPolicyAgent.from_pretrained(out / "start").model.state_dict()
    before = {f"model.{name}": tensor for name, tensor in start.items()}
    after = _weights(out, "video", 1)
    assert int(after["updates"]) == 1
    assert _changed({**before, "updates": after["updates"]}, after) == {"model.unet"}


def test_the_action_stage_changes_the_heads_and_nothing_else(out):
    before, after = _weights(out, "video", 1), _weights(out, "action", 1)
    assert _changed(before, after) == {"model.adapter", "model.action_head"}


def test_a_resumed_run_ends_with_the_same_bits(out):
    whole, resumed = _weights(out, "joint", 3), _weights(out, "resumed", 3)
    assert all(resumed[name].equal(tensor) for name, tensor in whole.items())
    path = "checkpoints/000003/training_state/optimizer_state.safetensors"
    whole, resumed = load_file(out / "joint" / path), load_file(out / "resumed" / path)
    assert all(resumed[name].equal(tensor) for name, tensor in whole.items())


def test_the_log_has_each_streams_own_loss(out):
    log = (out / "log").read_text()
    assert "loss_video:" in log
    assert "loss_action:" in log


def test_what_lerobot_trained_flies_as_an_agent(out):
    agent = VideoPolicyAgent.from_pretrained(out / "action", device="cpu")
    plan = agent.plan(small_observation(), seed=0)
    assert plan.actions.shape == (SMALL.horizon, SMALL.action_dim)
    assert agent.config.action_stats == Demonstrations(out / "toy", agent.config).action_stats
    assert agent.config.training == (
        "video, lerobot-train on toy/square",
        "action, lerobot-train on toy/square",
    )


def test_lerobots_evaluation_flies_our_environment_and_films_what_was_imagined(out):
    info = json.loads((out / "flown/eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
    (film,) = info["overall"]["predicted_video_paths"]
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # Three plans of three executed actions; two views beside one another, two lanes below.
    assert (len(frames), *frames[0].shape) == (9, 64, 64, 3)
