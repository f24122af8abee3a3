"""Video generators as robot policies: an agent that imagines a video and acts on it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vp_agent import envs

if TYPE_CHECKING:
    from vp_agent.agent import Plan, VideoPolicyAgent
    from vp_agent.config import VideoPolicyConfig

__version__ = "0.1.0"
__all__ = ["Plan", "VideoPolicyAgent", "VideoPolicyConfig", "__version__"]

_LAZY = {
    "VideoPolicyAgent": "vp_agent.agent",
    "Plan": "vp_agent.agent",
    "VideoPolicyConfig": "vp_agent.config",
}

envs.register()


def __getattr__(name: str) -> Any:
    """Loads torch and diffusers only when the agent is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'vp_agent' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
