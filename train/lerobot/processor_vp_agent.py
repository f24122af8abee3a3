"""LeRobot's pre- and post-processors of the policy: its default ones, with identities inside."""

from typing import Any

from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.factory import make_default_pre_post_processors

from vp_agent.train.lerobot.configuration_vp_agent import VPAgentConfig


def make_vp_agent_pre_post_processors(
    config: VPAgentConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """Renames, batches and moves observations; moves actions back to the CPU."""
    return make_default_pre_post_processors(config, dataset_stats)
