"""EDM scalings of SVD's v-prediction: D(x) = c_skip x + c_out F(c_in x, c_noise) (both streams)."""

import torch
from torch import Tensor

from vp_agent.config import NoiseConfig
from vp_agent.torch_defaults import normal


def c_in(sigma: Tensor) -> Tensor:
    return (sigma**2 + 1).rsqrt()


def c_noise(sigma: Tensor) -> Tensor:
    return sigma.log() / 4


def denoise(network: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The denoised estimate D from the network output F and its (unscaled) noisy input."""
    return noisy / (sigma**2 + 1) - network * sigma * (sigma**2 + 1).rsqrt()


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What F should be; the EDM-weighted x0 loss is the plain squared error of it."""
    return (noise - sigma * clean) * (sigma**2 + 1).rsqrt()


def sample_sigma(config: NoiseConfig, count: int, *, generator: torch.Generator) -> Tensor:
    """Training noise levels, (count,): ln sigma ~ N(mean, std^2)."""
    z = normal((count,), generator)
    return (config.mean + config.std * z).exp()
