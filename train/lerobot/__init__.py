"""The policy and the environments as LeRobot knows them; importing this registers both.

Found by LeRobot through the distribution `lerobot_policy_vp_agent`, or with
`--discover_packages_path=vp_agent.train.lerobot`.
"""

from vp_agent.train.lerobot.configuration_vp_agent import VPAgentConfig
from vp_agent.train.lerobot.environments import VPAgentEnv

__all__ = ["VPAgentConfig", "VPAgentEnv"]
