"""LeRobot's commands import this module for its name; that registers policy and environments."""

from vp_agent.train.lerobot import VPAgentConfig, VPAgentEnv

__all__ = ["VPAgentConfig", "VPAgentEnv"]
