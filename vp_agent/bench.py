"""`vp-agent bench`: how long a plan takes here, and which part of it takes how long."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vp_agent.agent import VideoPolicyAgent
from vp_agent.bench_settings import BenchSettings
from vp_agent.config import ActionStats, TierConfig, VideoPolicyConfig
from vp_agent.device import choose_device
from vp_agent.errors import require
from vp_agent.files import write_json
from vp_agent.model.compile import compile_model
from vp_agent.model.video_policy import VideoPolicy, blank_policy, parameter_count
from vp_agent.presets import preset

# what the table calls it -> module whose forward passes it is
PARTS = {
    "encode text": "text_encoder",
    "encode images": "vae.encoder",
    "U-Net": "unet",
    "adapter": "adapter",
    "action head": "action_head",
    "decode video": "vae.decoder",
}


def bench(settings: BenchSettings) -> dict[str, Any]:
    """Measures, prints a table and returns (and writes) the numbers."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    agent = _agent(settings)
    if settings.compile and settings.agent is None:
        compile_model(agent.model)
    config, sampler, plans = agent.config, agent.sampler, []
    # `_agent` has refused other kinds.
    assert isinstance(config, VideoPolicyConfig)
    assert isinstance(sampler, TierConfig)
    for i in range(settings.warmup + settings.repeats):
        # a new instruction each time: the agent encodes one only when it first meets it
        observation = random_observation(config, task=f"open drawer {i}")
        with timed(agent.model) as spent:
            plan = agent.plan(observation, seed=i, video=settings.video)
        plans.append({"plan": plan.latency_s, **spent})
    plans = plans[settings.warmup :]
    median = {name: statistics.median(plan[name] for plan in plans) for name in plans[0]}
    cuda = agent.model.device.type == "cuda"
    flops = unet_flops(agent.model, guided=sampler.guided)
    results = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": parameter_count(agent.model),
        "sampler": asdict(sampler),
        "median_s": median,
        "plans_s": [plan["plan"] for plan in plans],
        "unet_tflop_per_step": flops / 1e12,
        "unet_tflop_per_s": flops * sampler.steps / median["U-Net"] / 1e12,
        "matmul_tflop_per_s": matmul_flops_per_s(agent.model.unet.dtype, agent.model.device) / 1e12,
        "peak_memory_gb": peak_memory_bytes(cuda=cuda) / 1e9,
    }
    print(table(results))
    if settings.out is not None:
        write_json(settings.out, json.loads(json.dumps(results)))
    return results


def _agent(settings: BenchSettings) -> VideoPolicyAgent:
    if settings.agent is not None:
        agent = VideoPolicyAgent.from_pretrained(
            settings.agent,
            device=settings.device,
            tier=settings.tier,
            steps=settings.steps,
            guidance=settings.guidance,
            dtype=settings.dtype,
            compile=settings.compile,
        )
        require(
            agent.config.policy == "video",
            f"{settings.agent} is {agent.config.policy}; bench takes a Video Policy apart",
        )
        return agent
    config = preset(settings.preset or "")
    if settings.resolution is not None:
        config = config.replace(resolution=tuple(settings.resolution))
    device = choose_device(settings.device)
    model = random_policy(config, device=device, dtype=getattr(torch, settings.dtype))
    sampler = model.config.tier(settings.tier)
    changes = {"steps": settings.steps, "guidance": settings.guidance}
    sampler = replace(sampler, **{k: v for k, v in changes.items() if v is not None})
    return VideoPolicyAgent(model, settings.tier, sampler)


def random_policy(
    config: VideoPolicyConfig, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> VideoPolicy:
    """A policy with random weights (the same at every call) and without a second copy of them."""
    ones = (1.0,) * config.action_dim
    stats = ActionStats(min=tuple(-x for x in ones), max=ones)
    model = blank_policy(config.replace(action_stats=stats)).requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for name, module in model.named_modules():
        kind = torch.float32 if name.startswith("vae.") else dtype
        for key, weight in list(module.named_parameters(recurse=False)):
            value = torch.empty(weight.shape, device=device, dtype=kind)
            if weight.ndim > 1:
                value.normal_(std=weight[0].numel() ** -0.5, generator=generator)
            else:
                value.fill_(key == "weight")  # of a norm; biases are 0
            setattr(module, key, nn.Parameter(value, requires_grad=False))
    return model.to(device).eval()


def random_observation(config: VideoPolicyConfig, *, task: str) -> dict[str, Any]:
    """An observation with random images."""
    rng = np.random.default_rng(0)
    shape = (*config.resolution, 3)
    return {
        "pixels": {view: rng.integers(0, 256, shape, dtype=np.uint8) for view in config.views},
        "agent_pos": np.zeros(8, np.float32),
        "task": task,
    }


@contextmanager
def timed(model: VideoPolicy) -> Iterator[dict[str, float]]:
    """Within the block, seconds spent in each of `PARTS` add up in the yielded dictionary."""
    spent, begun = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)

    def now() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(part: str, *_: Any) -> None:
        begun[part] = now()

    def stop(part: str, *_: Any) -> None:
        spent[part] += now() - begun[part]

    handles = []
    for part, name in PARTS.items():
        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(partial(start, part)))
        # always_call: the last step leaves the U-Net by an exception
        handles.append(module.register_forward_hook(partial(stop, part), always_call=True))
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def unet_flops(model: VideoPolicy, *, guided: bool) -> int:
    """Floating-point operations (2 per multiply-add) of one whole U-Net evaluation."""
    batch, device = 2 if guided else 1, model.device
    video = torch.zeros(
        batch, model.config.slots, *model.config.latent_shape, dtype=torch.float32, device=device
    )
    text = torch.zeros(
        batch, 1, model.unet.config["cross_attention_dim"], dtype=torch.float32, device=device
    )
    with FlopCounterMode(display=False) as counter:
        model(video, video, text, torch.zeros(batch, dtype=torch.float32, device=device))
    return counter.get_total_flops()


def matmul_flops_per_s(dtype: torch.dtype, device: torch.device) -> float:
    """What this device reaches in a plain matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def peak_memory_bytes(*, cuda: bool) -> int:
    """Most memory held so far: the GPU's, or the process's resident set."""
    if cuda:
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(results: dict[str, Any]) -> str:
    """The numbers as markdown."""
    median, sampler = results["median_s"], results["sampler"]
    rest = median["plan"] - sum(median[part] for part in PARTS)
    rows = [(part, median[part]) for part in PARTS] + [("rest", rest), ("plan", median["plan"])]
    lines = [
        f"{results['parameters']:,} parameters, {sampler['steps']} steps, guidance "
        f"{sampler['guidance']:g}, {results['settings']['dtype']}, {results['device']} "
        f"({results['threads']} threads), median of {len(results['plans_s'])} plans",
        "",
        "| part | s per plan | share |",
        "|---|---|---|",
        *(f"| {name} | {s:.4f} | {100 * s / median['plan']:.0f} % |" for name, s in rows),
        "",
        f"U-Net: {results['unet_tflop_per_step']:.3g} TFLOP per step at "
        f"{results['unet_tflop_per_s']:.3g} TFLOP/s (a matrix product here: "
        f"{results['matmul_tflop_per_s']:.3g}); peak memory {results['peak_memory_gb']:.2f} GB",
    ]
    return "\n".join(lines)
