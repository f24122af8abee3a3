"""`vp-agent convert` on a checkpoint of the published size: 9.7 GB in, as much out."""

import os
import resource
import time
import zlib

import pytest
import torch
from published import PAPER, published_shapes
from safetensors import safe_open

from vp_agent.checkpoints.convert import convert
from vp_agent.checkpoints.keys import convert as rename
from vp_agent.checkpoints.settings import ConvertSettings
from vp_agent.folder import WEIGHTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("VP_AGENT_FULL_SIZE") != "1",
        reason="writes 20 GB; set VP_AGENT_FULL_SIZE=1 to run it",
    ),
]


def _write_checkpoint(path):
    """Reserves the file first and fills it through a shared mapping: it need not fit in memory."""
    state = {name: torch.empty(shape) for name, shape in published_shapes(PAPER).items()}
    with torch.serialization.skip_data():
        torch.save({"state_dict": state}, path)
    largest = max(tensor.numel() for tensor in state.values())
    noise = torch.rand(largest, generator=torch.Generator().manual_seed(0))
    for name, tensor in _mapped(path, shared=True).items():
        factor = 1 + zlib.crc32(name.encode()) / 2**32  # every tensor its own numbers
        torch.mul(noise[: tensor.numel()], factor, out=tensor.view(-1))


def _mapped(path, *, shared=False):
    import mmap

    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    with torch.serialization.set_default_mmap_options(flags):
        return torch.load(path, weights_only=True, mmap=True)["state_dict"]


def test_a_checkpoint_of_the_published_size_is_converted_without_holding_it(tmp_path, capsys):
    path, out = tmp_path / "stage_2.ckpt", tmp_path / "agent"
    _write_checkpoint(path)
    size = path.stat().st_size
    started = time.monotonic()
    convert(ConvertSettings(checkpoint=path, out=out))
    took = time.monotonic() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # with the mapped file
    with capsys.disabled():
        print(f"\n{size / 1e9:.2f} GB in {took:.0f} s, reader's peak {peak / 1e9:.2f} GB")
    assert size > 9.4e9
    assert peak < 1.3 * size
    for part, tensors in rename(_mapped(path)).items():
        with safe_open(out / WEIGHTS[part], "pt") as file:
            for key, tensor in tensors.items():
                assert torch.equal(file.get_tensor(key), tensor), (part, key)
