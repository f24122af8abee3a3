"""Camera views: which ones, under which names, in which size."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym

from vp_agent.errors import ConfigError, UnknownNameError, closest
from vp_agent.images import check_resolution, fit_image


class SelectViews(gym.ObservationWrapper):
    """Keeps some views, in this order; a mapping new name -> old name also renames them."""

    def __init__(self, env: gym.Env, views: Mapping[str, str] | Sequence[str]) -> None:
        super().__init__(env)
        self.views = dict(views) if isinstance(views, Mapping) else {view: view for view in views}
        pixels = views_of(env)
        for old in self.views.values():
            if old not in pixels.spaces:
                raise UnknownNameError(
                    f"no view {old!r}{closest(old, pixels.spaces)} It has: {', '.join(pixels)}"
                )
        self.observation_space = _with_pixels(
            env, {new: pixels[old] for new, old in self.views.items()}
        )

    def observation(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The observation with these views only."""
        pixels = observation["pixels"]
        return {**observation, "pixels": {new: pixels[old] for new, old in self.views.items()}}


class FitViews(gym.ObservationWrapper):
    """Cuts every view in the middle to the wanted shape and resizes it, exactly as in training."""

    def __init__(self, env: gym.Env, resolution: Sequence[int]) -> None:
        super().__init__(env)
        self.resolution = check_resolution(tuple(resolution))
        image = gym.spaces.Box(0, 255, (*self.resolution, 3), "uint8")  # type: ignore[arg-type]
        self.observation_space = _with_pixels(env, dict.fromkeys(views_of(env), image))

    def observation(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The observation with images (height, width, 3)."""
        fitted = {
            view: fit_image(image, self.resolution) for view, image in observation["pixels"].items()
        }
        return {**observation, "pixels": fitted}


def views_of(env: gym.Env) -> gym.spaces.Dict:
    space = env.observation_space
    pixels = space.spaces.get("pixels") if isinstance(space, gym.spaces.Dict) else None
    if not isinstance(pixels, gym.spaces.Dict):
        raise ConfigError(f"the environment has no views (pixels: a Dict of images): {space}")
    return pixels


def _with_pixels(env: gym.Env, views: Mapping[str, gym.Space]) -> gym.spaces.Dict:
    assert isinstance(env.observation_space, gym.spaces.Dict)  # views_of has looked
    return gym.spaces.Dict({**env.observation_space, "pixels": gym.spaces.Dict(dict(views))})
