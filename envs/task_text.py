"""The space of an environment's instruction: a Text that stays current in shared memory."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import read_from_shared_memory


class TaskText(gym.spaces.Text):
    """Words; to Gymnasium a `Text`, and equal to one."""


class _LaneTexts(Sequence[str]):
    """The lanes' texts as they are now; a deep copy is a plain tuple."""

    def __init__(self, *where: Any) -> None:
        self._where = where

    def _now(self) -> tuple[str, ...]:
        read_text = read_from_shared_memory.dispatch(gym.spaces.Text)
        return read_text(*self._where)  # type: ignore[return-value]

    def __len__(self) -> int:
        return self._where[-1]

    def __getitem__(self, lane: Any) -> Any:
        return self._now()[lane]

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return self._now()

    def __repr__(self) -> str:
        return repr(self._now())


@read_from_shared_memory.register(TaskText)  # type: ignore[arg-type]
def _read_lane_texts(space: TaskText, shared_memory: Any, n: int = 1) -> Sequence[str]:
    # AsyncVectorEnv reads once, when it is made, and of a Text that gives "aaaa..." for ever.
    return _LaneTexts(space, shared_memory, n)
