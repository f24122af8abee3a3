"""Torch's default dtype, default device and autocast: none of the caller's reaches the package.

Every tensor that the package makes names its dtype and device (a test reads the source). Parts of
diffusers and transformers do not, so they are made and run within these blocks.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_entering = threading.Lock()
_inside, _outer = 0, torch.float32
_plan_locks: "WeakKeyDictionary[nn.Module, threading.Lock]" = WeakKeyDictionary()


@contextmanager
def torch_defaults(*, device: bool = True) -> Iterator[None]:
    """Within the block, new weights are float32 and on the CPU; also a decorator.

    Without `device` they are where the caller's block says: `with torch.device("meta")` is how a
    network is made by its shapes alone, at full size without its 9 GB. The default dtype is the
    process's: other threads see it changed until the last block ends, so this is for making models
    and for training, not for planning.
    """
    global _inside, _outer
    with ExitStack() as stack:
        if device:
            _default_device_is_cpu(stack)
        with _entering:
            if not _inside:
                _outer = torch.get_default_dtype()
                if _outer != torch.float32:
                    torch.set_default_dtype(torch.float32)
            _inside += 1
        try:
            yield
        finally:
            with _entering:
                _inside -= 1
                if not _inside and _outer != torch.float32:
                    torch.set_default_dtype(_outer)


@contextmanager
def planning(model: nn.Module) -> Iterator[None]:
    """Within the block `model` plans: for one thread, without gradients, autocast and defaults.

    Feature taps and kept attention are in the model, so a second thread waits. All of this is the
    thread's own; the default dtype, which is not, is left alone: a plan does not depend on it.
    """
    device = next(model.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(_plan_locks.setdefault(model, threading.Lock()))
        stack.enter_context(torch.inference_mode())
        _default_device_is_cpu(stack)
        for kind in {"cpu", device.type}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _default_device_is_cpu(stack: ExitStack) -> None:
    if torch.get_default_device().type != "cpu":  # a mode of torch's costs microseconds per call
        stack.enter_context(torch.device("cpu"))


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal noise, float32, from `generator` and where it is."""
    where = generator.device
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device=where)


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise in [0, 1), float32, from `generator` and where it is."""
    where = generator.device
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float32, device=where)


def integers(below: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Whole numbers in [0, below), int64, from `generator` and where it is."""
    where = generator.device
    return torch.randint(below, tuple(shape), generator=generator, dtype=torch.int64, device=where)
