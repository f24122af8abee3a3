"""A drawn arm of three joints: demonstrations whose pictures, states and actions belong together.

No simulator: some milliseconds an episode, so that tests can make and damage whole datasets.
"""

# T steps, J joints, H W height and width

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vp_agent.train.demonstrations import IMAGE, Episode, write_dataset

JOINTS, LENGTHS = 3, (0.42, 0.34, 0.2)  # of a picture's width
FOLLOWS = 0.6  # share of the way to its target that the arm goes in a step
NAMES = {
    "action": ("joint1", "joint2", "joint3", "gripper"),
    "observation.state": ("joint1", "joint2", "joint3", "gripper"),
}
_COLOURS = np.array([(40, 70, 200), (60, 160, 60), (210, 50, 40)], np.float32)


def motion(rng: np.random.Generator, steps: int, delay: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Absolute targets and states (T, 4) of an arm that goes from place to place.

    It begins to follow `delay` steps after it should, as a real one does.
    """
    targets = np.zeros((steps, JOINTS + 1))
    place, closed, now = rng.uniform(-0.9, 0.9, JOINTS), 0.0, 0
    while now < steps:
        goal, lasts = rng.uniform(-0.9, 0.9, JOINTS), int(rng.integers(8, 20))
        share = np.linspace(0, 1, lasts)[: steps - now, None]
        smooth = 10 * share**3 - 15 * share**4 + 6 * share**5
        targets[now : now + lasts, :JOINTS] = place + smooth * (goal - place)
        targets[now : now + lasts, JOINTS] = closed
        place, closed, now = goal, 1.0 - closed, now + lasts
    states = np.empty_like(targets)
    states[0] = targets[0]
    for step in range(1, steps):
        target = targets[max(0, step - 1 - delay)]
        states[step] = states[step - 1] + FOLLOWS * (target - states[step - 1])
    return targets.astype(np.float32), states.astype(np.float32)


def drawing(state: np.ndarray, floor: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures (H, W, 3) of a camera above the arm and of one in its hand."""
    grid = np.stack(np.meshgrid(*[np.arange(size) / size] * 2, indexing="xy"), axis=-1)
    picture, joint, angle = floor.copy(), np.array([0.1, 0.5]), 0.0
    for length, bend, colour in zip(LENGTHS, state, _COLOURS, strict=False):
        angle += bend
        along = length * np.array([np.cos(angle), np.sin(angle)])
        share = np.clip((grid - joint) @ along / length**2, 0, 1)
        near = np.linalg.norm(grid - joint - share[..., None] * along, axis=-1) < 0.045
        picture[near] = colour
        joint = joint + along
    picture[np.linalg.norm(grid - joint, axis=-1) < 0.05 + 0.03 * state[JOINTS]] = (240, 220, 60)
    rows, columns = (
        np.clip(np.arange(size) // 2 + int(size * (at - 0.25)), 0, size - 1) for at in joint[::-1]
    )
    hand = floor[rows][:, columns].copy()
    gap = int(size * (0.3 - 0.15 * state[JOINTS]))
    hand[-size // 4 :, size // 2 - gap : size // 2 - gap + size // 8] = (30, 30, 30)
    hand[-size // 4 :, size // 2 + gap - size // 8 : size // 2 + gap] = (30, 30, 30)
    return picture.astype(np.uint8), hand.astype(np.uint8)


def floor(rng: np.random.Generator, size: int) -> np.ndarray:
    """A brownish floor with a red ball and a blue stain (H, W, 3), lit differently every time."""
    rows, columns = np.mgrid[:size, :size] / size
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = (170, 140, 100)
    picture += 25 * np.sin(9 * rows + 4 * columns)[..., None]
    picture[(rows - 0.15) ** 2 + (columns - 0.85) ** 2 < 0.015] = (40, 60, 180)
    ball = rng.uniform(0.55, 0.9, 2)
    picture[(rows - ball[0]) ** 2 + (columns - ball[1]) ** 2 < 0.006] = (200, 40, 40)
    return np.clip(picture * rng.uniform(0.9, 1.1), 0, 255)


def episodes(
    count: int,
    *,
    steps: tuple[int, int] = (40, 60),
    size: int = 32,
    delta: bool = False,
    delay: int = 0,
    grain: float = 0.0,
) -> Iterator[Episode]:
    """Demonstrations; `delta` makes an action the way to go instead of the place to be.

    `delay` is that of `motion`, `grain` the noise of the camera in grey levels.
    """
    for number in range(count):
        rng = np.random.default_rng(number)
        actions, states = motion(rng, int(rng.integers(*steps)), delay)
        ground = floor(rng, size)
        if delta:
            actions[1:, :JOINTS] -= actions[:-1, :JOINTS].copy()
            actions[0, :JOINTS] = 0
        pictures = [
            [
                np.clip(picture + grain * rng.normal(size=picture.shape), 0, 255).astype(np.uint8)
                for picture in drawing(state, ground, size)
            ]
            for state in states
        ]
        frames = (
            {
                IMAGE + "top": top,
                IMAGE + "hand": hand,
                "observation.state": state,
                "action": action,
            }
            for (top, hand), state, action in zip(pictures, states, actions, strict=True)
        )
        yield Episode(task="go from place to place", frames=frames, facts={})


def write(root: Path, count: int, **kwargs: Any) -> Path:
    """A LeRobot dataset of `episodes`."""
    write_dataset(root, name="drawn", episodes=episodes(count, **kwargs), names=NAMES, meta={})
    return root
