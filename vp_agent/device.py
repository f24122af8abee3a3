"""On what a network runs."""

import torch

from vp_agent.errors import ConfigError


def choose_device(name: str) -> str:
    """The device that `name` stands for; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ConfigError(f"no device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name}: there is no GPU here; use cpu")
    return name
