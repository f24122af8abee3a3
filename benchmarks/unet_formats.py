"""One U-Net pass of the full-size network at 64x64 in other layouts and with more threads.

python benchmarks/unet_formats.py
"""

import time

import torch
from torch import nn

from vp_agent.bench import random_policy
from vp_agent.model.shortcuts import TemporalConv
from vp_agent.model.video_policy import VideoPolicy
from vp_agent.presets import preset


@torch.inference_mode()
def seconds(model: VideoPolicy, *, repeats: int = 2) -> float:
    """The best of some guided passes."""
    config, times = model.config, []
    video = torch.randn(2, config.slots, *config.latent_shape, dtype=torch.float32, device="cpu")
    text = torch.randn(
        2, 1, model.unet.config["cross_attention_dim"], dtype=torch.float32, device="cpu"
    )
    for _ in range(repeats):
        start = time.perf_counter()
        model(video, video, text, torch.zeros(2, dtype=torch.float32, device="cpu"))
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints seconds per pass."""
    model = random_policy(preset("svd-robocasa").replace(resolution=(64, 64)))
    torch.set_num_threads(1)
    seconds(model, repeats=1)
    print(f"as it is: {seconds(model):.2f} s", flush=True)
    temporal = [m for m in model.unet.modules() if isinstance(m, TemporalConv)]
    for module in temporal:
        module.__class__ = nn.Conv3d  # pyright: ignore[reportAttributeAccessIssue]
    print(f"3-D temporal convolutions: {seconds(model):.2f} s", flush=True)
    for module in temporal:
        module.__class__ = TemporalConv
    torch.set_num_threads(2)
    print(f"two threads: {seconds(model):.2f} s", flush=True)
    torch.set_num_threads(1)
    for module in model.unet.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"channels last: {seconds(model):.2f} s")


if __name__ == "__main__":
    main()
