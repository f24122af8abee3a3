"""One observation and one seed, one plan: whatever the caller's torch and memory."""

import threading
import warnings
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL_BASELINE, small_baseline, small_model, small_observation

from vp_agent import VideoPolicyAgent
from vp_agent.folder import save_agent
from vp_agent.torch_defaults import torch_defaults


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def strict():
    with warnings.catch_warnings(), np.errstate(all="raise"), np.printoptions(precision=1):
        warnings.simplefilter("error")
        yield


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: default_device("meta"),
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "gradients": torch.enable_grad,
    "no inference mode": lambda: torch.inference_mode(False),
    "deterministic algorithms": deterministic,
    "strict NumPy and warnings": strict,
}
LAYOUTS = {
    "Fortran": np.asfortranarray,
    "channels first in memory": lambda x: np.ascontiguousarray(x.swapaxes(-1, 0)).swapaxes(-1, 0),
    "flipped": lambda x: np.ascontiguousarray(x[..., ::-1, :, :])[..., ::-1, :, :],
    "read-only": lambda x: (x.setflags(write=False), x)[1],
    "torch": torch.from_numpy,
    "torch in another layout": lambda x: torch.tensor(x).transpose(-1, 0).clone().transpose(-1, 0),
}
AGENTS = {
    "video policy": lambda: VideoPolicyAgent(
        model := small_model(), "guided", model.config.tier("guided")
    ),
    "diffusion policy": lambda: VideoPolicyAgent(
        small_baseline(), "paper", SMALL_BASELINE.tier("paper")
    ),
}


@pytest.fixture(scope="module", params=AGENTS)
def planner(request):
    return AGENTS[request.param]()


def same(plan, wanted):
    assert plan.actions.dtype == np.float32
    assert np.array_equal(plan.actions, wanted.actions)
    for view in wanted.video or {}:
        assert np.array_equal(plan.video[view], wanted.video[view])


def plan(agent, *, seed=3, **kwargs):
    agent._texts.clear()  # the instruction is encoded under the same settings
    video = agent.config.policy == "video" if hasattr(agent.config, "policy") else True
    return agent.plan(small_observation(**kwargs), seed=seed, video=video)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_plan_does_not_see_the_callers_settings(planner, setting):
    wanted = plan(planner)
    with SETTINGS[setting]():
        found = plan(planner)
    same(found, wanted)


@pytest.mark.parametrize("lanes", [None, 1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plan_does_not_see_the_memory_layout(planner, layout, lanes):
    wanted = plan(planner, lanes=lanes)
    obs = small_observation(lanes=lanes)
    obs["pixels"] = {view: LAYOUTS[layout](image) for view, image in obs["pixels"].items()}
    assert np.array_equal(planner.plan(obs, seed=3).actions, wanted.actions)


def test_start_noise_in_another_layout_gives_the_same_plan(agent):
    noise = np.random.default_rng(0).standard_normal((7, 4, 4, 4))
    obs = small_observation()
    plans = [
        agent.plan(obs, seed=0, video_noise=x).actions
        for x in (noise, np.asfortranarray(noise), torch.tensor(noise, requires_grad=True))
    ]
    assert np.array_equal(plans[0], plans[1])
    assert np.array_equal(plans[0], plans[2])


def test_a_plan_leaves_the_callers_settings_and_generators_alone(agent):
    numpys: Any = np.random.get_state()
    before = torch.get_rng_state(), numpys[1].copy()
    with default_dtype(torch.float64), torch.device("meta"), torch.autocast("cpu"):
        agent.plan(small_observation(), seed=1)
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_default_device().type == "meta"
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    numpys = np.random.get_state()
    assert np.array_equal(numpys[1], before[1])


def test_plans_of_one_model_in_many_threads_are_the_same(agent):
    wanted = [agent.plan(small_observation(seed=s), seed=s).actions for s in range(8)]
    found = {}

    def work(seed):
        found[seed] = agent.plan(small_observation(seed=seed), seed=seed).actions

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[seed], wanted[seed]) for seed in range(8))


@pytest.mark.parametrize("setting", ["float64", "bfloat16", "default device", "device context"])
def test_an_agent_loads_the_same_under_other_defaults(agent, agent_folder, tmp_path, setting):
    wanted = agent.plan(small_observation(), seed=3, video=True)
    with SETTINGS[setting]():
        other = VideoPolicyAgent.from_pretrained(agent_folder, device="cpu")
        other.save_pretrained(tmp_path / "agent")
    same(other.plan(small_observation(), seed=3, video=True), wanted)
    agent.save_pretrained(tmp_path / "wanted")
    for path in (tmp_path / "wanted").rglob("*"):
        twin = tmp_path / "agent" / path.relative_to(tmp_path / "wanted")
        assert path.is_dir() or path.read_bytes() == twin.read_bytes(), path


@pytest.mark.parametrize("make", [small_model, small_baseline])
def test_a_network_is_made_by_its_shapes_alone_where_the_caller_says_so(make):
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in make().action_head.parameters())


@pytest.mark.parametrize("make", [small_model, small_baseline])
def test_fresh_weights_are_the_same_under_other_defaults(make):
    wanted = make().state_dict()
    with default_dtype(torch.float64):
        found = make().state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(found[name].dtype == wanted[name].dtype for name in wanted)


def test_blocks_in_many_threads_give_the_default_dtype_back():
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with torch_defaults():
            inside.wait()
            leave.wait()

    with default_dtype(torch.float64):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait()
        assert torch.get_default_dtype() == torch.float32
        leave.set()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64


def test_a_copy_of_an_agent_plans_the_same(agent, tmp_path):
    save_agent(agent.model, tmp_path / "copy", card="")
    copy = VideoPolicyAgent.from_pretrained(tmp_path / "copy", device="cpu")
    wanted = agent.plan(small_observation(), seed=3).actions
    assert np.array_equal(copy.plan(small_observation(), seed=3).actions, wanted)
