"""Feature taps: the outputs of named U-Net modules, collected while the U-Net runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class _Enough(Exception):
    """Ends a forward pass whose last tap is there."""


@contextmanager
def collect_taps(
    unet: nn.Module, modules: Sequence[str], *, stop: bool = False
) -> Iterator[list[Tensor]]:
    """Within the block, every forward pass of `unet` fills the yielded list, one map per module.

    Maps have the U-Net's inner layout (B S, C, h, w). With `stop` the pass ends at the last tap and
    the block with it: for actions alone the layers after it are not needed.
    """
    outputs: dict[str, Tensor] = {}
    taps: list[Tensor] = []

    def store(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output
            if len(outputs) == len(modules):
                taps[:] = [outputs[module] for module in modules]
                outputs.clear()
                if stop:
                    raise _Enough

        return hook

    handles = [unet.get_submodule(name).register_forward_hook(store(name)) for name in modules]
    try:
        yield taps
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
