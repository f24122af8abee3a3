"""The model card of an agent folder: what it sees and does, its origin, how well it flies."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from vp_agent.agent_config import AgentConfig
from vp_agent.errors import ConfigError

LICENCE = "apache-2.0"  # of weights trained from scratch with this package


def model_card(
    config: AgentConfig,
    *,
    results: Sequence[Path] = (),
    about: Mapping[str, str] | None = None,
) -> str:
    """README.md with the Hub's metadata.

    Args:
        config: of the agent.
        results: `results.json` files that `vp-agent eval` wrote for these weights.
        about: further rows of the table of facts.

    Raises:
        ConfigError: a file in `results` is not such a file.
    """
    evaluations = [_read(path) for path in results]
    table = {**_facts(config), **(about or {})}
    rows = "\n".join(f"| {name} | {value} |" for name, value in table.items())
    return f"""---
{_metadata(config, evaluations).to_yaml()}
---

# {_title(config)}

{_summary(config)} ([paper](https://arxiv.org/abs/2508.00795)).

| | |
|---|---|
{rows}

{_evaluation_table(evaluations)}

```python
import gymnasium as gym
from vp_agent import VideoPolicyAgent

agent = VideoPolicyAgent.from_pretrained("this folder or repository")
env = gym.make("an environment id", **agent.env_kwargs)
```
"""


def _title(config: AgentConfig) -> str:
    return "A Video Policy agent" if config.policy == "video" else "A Diffusion Policy"


def _summary(config: AgentConfig) -> str:
    if config.policy == "video":
        return (
            "It imagines a short video of the robot doing what the instruction says, and reads the "
            "actions off\nthe video model's features"
        )
    return f"The baseline {config.policy} of Video Policy's authors"


_TURNED = {
    "flip_v": "upright",
    "raw": "upside down, as LIBERO's demonstrations are",
    "rot180": "turned by 180 degrees from LIBERO's, as LeRobot's processor has them",
}


def _facts(config: AgentConfig) -> dict[str, str]:
    height, width = config.resolution
    seconds = config.execute / config.control_hz
    stats = config.action_stats
    turned = _TURNED[config.image_transform]
    facts = {
        "Views, in order": f"{', '.join(config.views)}; RGB, {turned}, {width}x{height}",
        "Imagines": f"{config.frames_per_view} frames per view, {config.frame_stride} control "
        f"steps ({config.frame_stride / config.control_hz:g} s) apart"
        if config.policy == "video"
        else "nothing",
        "Plans": f"{config.horizon} actions of {config.action_dim} numbers at "
        f"{config.control_hz:g} Hz; executes {config.execute} ({seconds:g} s)",
        "Actions": _action_words(config.action_dim),
        "Sampler": "; ".join(
            f"{name}: {tier.steps} steps, guidance {tier.guidance:g}"
            + (" (default)" if name == config.default_tier else "")
            for name, tier in config.tiers.items()
        ),
        "Rendering": config.render_quality,
        "Trained": "; ".join(config.training) or "not by this package",
        "Base model": config.origin or "none: trained from scratch",
    }
    if stats is None:
        facts["Normalisation"] = "none yet: it cannot act before its action stage is trained"
    else:
        low, high = (", ".join(f"{x:.4g}" for x in bound) for bound in (stats.min, stats.max))
        facts["Normalisation"] = f"actions to [-1, 1] between ({low}) and ({high})"
    return facts


def _action_words(size: int) -> str:
    pose = "end-effector position (3) and rotation vector (3), as deltas"
    return {
        7: f"{pose}; gripper",
        8: f"{pose}; relative jaw position; absolute grasp force in newtons",
    }.get(size, f"{size} numbers")


def _metadata(config: AgentConfig, evaluations: Sequence[Mapping[str, Any]]) -> ModelCardData:
    base = re.match(r"[\w.-]+/[\w.-]+(?=(@\S+)?[, ])", config.origin + " ")
    licence: dict[str, Any] = {"license": LICENCE}
    if config.origin:
        licence = {
            "license": "other",
            "license_name": "of-the-base-model",
            "license_link": "README.md",
        }
    return ModelCardData(
        library_name="vp_agent",
        pipeline_tag="robotics",
        tags=[
            "robotics",
            "video-policy" if config.policy == "video" else "diffusion-policy",
            "imitation-learning",
            "gymnasium",
        ],
        base_model=base.group() if base else None,
        model_name=_title(config) if evaluations else None,
        eval_results=[_eval_result(each) for each in evaluations] or None,
        **licence,
    )


def _eval_result(results: Mapping[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="robotics",
        dataset_type=results["env"],
        dataset_name=results["env"],
        metric_type="success_rate",
        metric_name=f"success rate, {results['n']} episodes",
        metric_value=round(results["successes"] / results["n"], 4),
    )


def _evaluation_table(evaluations: Sequence[Mapping[str, Any]]) -> str:
    if not evaluations:
        return "No evaluation is recorded in this card."
    lines = [
        "| environment | success | Wilson 95 % | seeds | sampler | vp_agent commit |",
        "|---|---|---|---|---|---|",
    ]
    for each in evaluations:
        low, high = (f"{100 * bound:.0f}" for bound in each["wilson_95"])
        first, last = each["seeds"]
        sampler = f"{each['sampler']['steps']} steps, guidance {each['sampler']['guidance']:g}"
        lines.append(
            f"| {each['env']} | {each['successes']} of {each['n']} | {low}-{high} % | "
            f"{first}-{last} | {sampler} | {(each.get('commit') or 'unknown')[:12]} |"
        )
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(Path(path).read_text())
        missing = {"env", "successes", "n", "wilson_95", "seeds", "sampler"} - results.keys()
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        raise ConfigError(f"{path} is no results.json of vp-agent eval: {error}") from error
    if missing:
        raise ConfigError(f"{path} is no results.json of vp-agent eval: no {sorted(missing)}")
    return results
