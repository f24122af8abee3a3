"""The demo: the packaged agent flies a few unseen episodes and leaves a report to look at."""

from dataclasses import dataclass
from pathlib import Path

from vp_agent.files import atomic_dir

MARK = "demo.txt"


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Flies a packaged agent in its simulator and writes a report with videos."""

    agent: str = "packaged:lift"
    """Agent folder, or packaged:NAME for an agent inside the package."""
    env: str = "Robosuite-Lift-v0"
    """Environment id; `vp-agent envs` lists them."""
    episodes: int = 5
    """Number of episodes; each is filmed."""
    seed: int = 0
    """First seed; demonstrations are collected from 100,000 on, so these are unseen."""
    out: Path = Path("outputs/demo")
    """Output folder; an earlier demo in it is replaced when this one is complete."""
    tier: str = "default"
    """Named sampler setting of the agent."""
    device: str = "auto"
    """cpu, cuda or auto."""


def demo(settings: DemoSettings) -> Path:
    """Flies the demo and returns the path of its report.

    Raises:
        OutputExistsError: the output folder holds something that is not an earlier demo.
    """
    from vp_agent.evaluation.runner import EvalSettings, evaluate  # SciPy, not needed for --help
    from vp_agent.evaluation.statistics import describe
    from vp_agent.report import write_report

    out = settings.out
    print(f"flying {settings.agent} in {settings.env}, {settings.episodes} episodes", flush=True)
    with atomic_dir(out, replaces=MARK) as folder:
        results = evaluate(
            EvalSettings(
                agent=settings.agent,
                env=settings.env,
                out=folder,
                episodes=settings.episodes,
                seed=settings.seed,
                tier=settings.tier,
                device=settings.device,
                record=settings.episodes,
            )
        )
        (folder / MARK).write_text("Made by vp-agent demo, and replaced by the next one.\n")
    report = write_report(out)  # by its name, which it does not have before
    print(f"{describe(results)}\nreport: {report}")
    return report
