"""On what a network runs."""

import torch

from vp_agent.errors import ConfigError, short


def choose_device(name: str | torch.device) -> str:
    """The device that `name` stands for; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):  # others, such as meta, hold no weights
            raise RuntimeError("no device of ours")
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"no device {short(name)}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":  # there is one, whatever its number
        return "cpu"
    there = {"cuda": torch.cuda, "mps": torch.backends.mps}[device.type].is_available()
    if not there:
        raise ConfigError(f"device {name}: there is no GPU here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: there are {torch.cuda.device_count()} GPUs here, from 0")
    return str(device)
