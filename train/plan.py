"""`vp-agent train --plan`: memory, FLOPs and days of a training command, on paper."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import ConfigError
from vp_agent.folder import read_config
from vp_agent.locate import locate
from vp_agent.presets import preset
from vp_agent.train.cost import StepCost, count_step
from vp_agent.train.settings import TrainSettings

UTILISATION = (0.4, 0.15)  # shares of the peak: a good engine's; what the published agent reaches
LORA_RANK = 16
_WEIGHT, _COPY, _GRADIENT, _ADAM, _EMA = 4, 2, 4, 8, 4  # bytes
_FILLED = 0.9  # of a GPU's memory; the rest is the allocator's and CUDA's
_GIB = 2**30
_SHARDS = 8  # the paper's GPUs


@dataclass(frozen=True)
class Gpu:
    """Peak rates in TFLOP/s, dense, of the makers' data sheets.

    Memory is what PyTorch's out-of-memory errors call the total capacity: the driver keeps some.
    """

    name: str
    memory_gib: float
    peak_16_bits: float
    peak_32_bits: float


GPUS = (
    Gpu("RTX 4090", 23.6, 165.2, 82.6),  # Ada whitepaper, table 2, FP32 accumulate
    Gpu("A100", 79.2, 312, 19.5),  # A100 80GB SXM data sheet
    Gpu("H100", 79.1, 989.4, 66.9),  # H100 SXM data sheet
    Gpu("H200", 139.8, 989.4, 66.9),  # H200 SXM data sheet
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run the stage, and its memory in bytes."""

    name: str
    cost: StepCost
    autocast: bool
    ema: bool
    cached: bool
    samples: int

    @cached_property
    def memory(self) -> dict[str, int]:
        """Line by line, with `samples` on one GPU."""
        cost = self.cost
        lines = {
            "weights, fp32": _WEIGHT * cost.parameters,
            "their 16-bit copies": _COPY * cost.computed if self.autocast else 0,
            "gradients": _GRADIENT * cost.trained,
            "AdamW's moments": _ADAM * cost.trained,
            "averaged weights": _EMA * cost.trained if self.ema else 0,
        }
        activations = cost.activation_bytes * self.samples
        if self.cached:
            return lines | {"activations": activations}
        # One after the other: the latents are there before the forward pass begins.
        return lines | {"activations, or encoding": max(activations, cost.encode_bytes)}

    @property
    def total(self) -> int:
        """Sum of `memory`; with DDP it is each GPU's, whose gradients lie in its buckets."""
        return sum(self.memory.values())

    def sharded(self, gpus: int) -> int:
        """The same with FSDP, but for the few blocks that are whole at one time."""
        cost, per_learned = self.cost, _GRADIENT + _ADAM + (_EMA if self.ema else 0)
        spread = _WEIGHT * cost.computed + per_learned * cost.trained
        return self.total - spread + spread // gpus

    def fitting(self, gpu: Gpu) -> int:
        """Samples for which a GPU has room."""
        *fixed, _ = self.memory.values()
        room = _FILLED * gpu.memory_gib * _GIB - sum(fixed)
        if not self.cached and room < self.cost.encode_bytes:
            return 0
        return max(0, int(room // self.cost.activation_bytes))

    def days(self, gpu: Gpu, *, steps: int, utilisation: float, cached: bool) -> float:
        """Wall time; more GPUs take as long and see as many samples more."""
        peak = gpu.peak_16_bits if self.autocast else gpu.peak_32_bits
        flops = self.cost.flops + (0 if cached else self.cost.encode_flops)
        return steps * self.samples * flops / (peak * 1e12 * utilisation) / 86_400


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The ways to run a stage, to be printed."""

    settings: TrainSettings
    variants: tuple[Variant, ...]
    chosen: str

    def __str__(self) -> str:
        settings, plain = self.settings, self.variants[0].cost
        lines = [
            f"stage {settings.stage}: {settings.steps} steps of "
            f"{settings.batch_size * settings.accumulation} samples per GPU, mixed precision "
            f"{settings.mixed_precision}",
            f"{plain.parameters / 1e6:,.1f} M parameters, heads, VAE and text tower included",
            f"encoding a sample's frames, which the latent cache saves: "
            f"{plain.encode_flops / 1e12:.3g} TFLOP, {plain.encode_bytes / _GIB:.3g} GiB",
            f"this command is the column {self.chosen!r}",
            "",
            _row("", [variant.name for variant in self.variants]),
            _row("TFLOP per sample", [f"{v.cost.flops / 1e12:.3g}" for v in self.variants]),
            _row("M parameters learn", [f"{v.cost.trained / 1e6:,.1f}" for v in self.variants]),
            "",
            "memory of each GPU, GiB",
        ]
        for name in self.variants[0].memory:
            lines.append(_row(f"  {name}", [f"{v.memory[name] / _GIB:.2f}" for v in self.variants]))
        lines.append(_row("  total", [f"{v.total / _GIB:.2f}" for v in self.variants]))
        shares = [f"{v.sharded(_SHARDS) / _GIB:.2f}" for v in self.variants]
        lines.append(_row(f"  total, FSDP on {_SHARDS} GPUs", shares))
        lines += ["", f"room for samples in {_FILLED:.0%} of the memory"]
        for gpu in GPUS:
            label = f"  {gpu.name}, {gpu.memory_gib:g} GiB"
            lines.append(_row(label, [str(v.fitting(gpu)) for v in self.variants]))
        for utilisation in UTILISATION:
            for cached in (True, False):
                source = "latents from the cache" if cached else "encoding every sample"
                lines += ["", f"days at {utilisation:.0%} of the peak rate, {source}"]
                for gpu in GPUS:
                    days = [
                        variant.days(
                            gpu,
                            steps=settings.steps * settings.accumulation,
                            utilisation=utilisation,
                            cached=cached,
                        )
                        for variant in self.variants
                    ]
                    lines.append(_row(f"  {gpu.name}", [f"{value:.3g}" for value in days]))
        return "\n".join(lines)


def _row(label: str, cells: list[str]) -> str:
    return (f"{label:<34}" + "".join(f"{cell:>17}" for cell in cells)).rstrip()


def plan(settings: TrainSettings) -> Plan:
    """Counts what the command would cost; nothing is read but the agent's configuration."""
    ways = _ways(settings)
    return Plan(
        settings=settings,
        variants=tuple(_count(settings, name, way) for name, way in ways.items()),
        chosen=_chosen(settings),
    )


def own_way(settings: TrainSettings) -> Variant:
    """The one way in which the command itself would run."""
    name = _chosen(settings)
    return _count(settings, name, _ways(settings)[name])


def _ways(settings: TrainSettings) -> dict[str, dict[str, Any]]:
    if settings.head_only:  # there the U-Net has no backward pass
        return {"plain": {}}
    rank = settings.lora_rank or LORA_RANK
    return {
        "plain": {},
        "checkpointing": {"checkpointing": True},
        f"LoRA {rank}": {"lora_rank": rank},
        "both": {"lora_rank": rank, "checkpointing": True},
    }


def _chosen(settings: TrainSettings) -> str:
    if settings.head_only:
        return "plain"
    if settings.lora_rank:
        return "both" if settings.gradient_checkpointing else f"LoRA {settings.lora_rank}"
    return "checkpointing" if settings.gradient_checkpointing else "plain"


def _count(settings: TrainSettings, name: str, way: dict[str, Any]) -> Variant:
    stage, autocast = settings.stage, settings.mixed_precision != "no"
    if stage in ("vae", "policy"):
        raise ConfigError(f"--plan counts the stages video, action, joint and none, not {stage}")
    return Variant(
        name=name,
        cost=count_step(
            _config(settings), stage, autocast=autocast, draws=settings.action_draws, **way
        ),
        autocast=autocast,
        ema=bool(settings.ema_decay),
        cached=settings.cache,
        samples=settings.batch_size,
    )


def _config(settings: TrainSettings) -> VideoPolicyConfig:
    """What the run would train, by the same settings."""
    if settings.init is not None and not settings.from_svd:
        config = read_config(locate(settings.init))
    else:
        config = preset(settings.preset or "svd-robocasa")
    return config.replace(
        views=settings.views or config.views, resolution=settings.resolution or config.resolution
    )
