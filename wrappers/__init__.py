"""Small Gymnasium wrappers, one job each."""

if __name__ != "vp_agent.wrappers":  # the top-level folder is installed as vp_agent.wrappers
    raise ImportError("import vp_agent.wrappers, not wrappers")

from vp_agent.wrappers.action_chunk import ActionChunk
from vp_agent.wrappers.finite_action import FiniteAction
from vp_agent.wrappers.lerobot_keys import LeRobotKeys
from vp_agent.wrappers.pad_action import PadAction
from vp_agent.wrappers.record_video import RecordVideo
from vp_agent.wrappers.views import FitViews, SelectViews

__all__ = [
    "ActionChunk",
    "FiniteAction",
    "FitViews",
    "LeRobotKeys",
    "PadAction",
    "RecordVideo",
    "SelectViews",
]
