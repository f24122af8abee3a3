"""Settings of `vp-agent bench`: one frozen dataclass, no heavy import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vp_agent.errors import require


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Measures the plan latency of an agent, or of a preset with random weights."""

    agent: str | None = None
    """Agent folder, packaged:NAME or Hub repository."""
    preset: str | None = None
    """Configuration to measure with random weights instead."""
    resolution: tuple[int, int] | None = None
    """Image height and width, instead of the preset's."""
    tier: str = "default"
    """Named sampler setting."""
    steps: int | None = None
    """Sampling steps, instead of the tier's."""
    guidance: float | None = None
    """Guidance scale, instead of the tier's."""
    video: bool = False
    """Decode the imagined video, too."""
    repeats: int = 5
    """Plans measured; the table has their median."""
    warmup: int = 1
    """Plans before them."""
    device: str = "auto"
    """cpu, cuda or auto."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; the VAE stays float32."""
    compile: bool = False
    """Channels-last and torch.compile, for GPUs."""
    threads: int | None = None
    """CPU threads of torch."""
    out: Path | None = None
    """JSON file to write the numbers to."""

    def __post_init__(self) -> None:
        require(
            (self.agent is None) != (self.preset is None), "give either --agent or --preset NAME"
        )
        require(self.resolution is None or self.agent is None, "--resolution goes with --preset")
        require(self.repeats >= 1, f"--repeats must be >= 1, got {self.repeats}")
        require(self.warmup >= 0, f"--warmup must be >= 0, got {self.warmup}")
