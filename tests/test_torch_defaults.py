"""Torch's default dtype and device: the source says both wherever it makes a tensor."""

import ast
from pathlib import Path

import pytest

import vp_agent

ROOT = Path(vp_agent.__file__).parents[1]
FOLDERS = ("vp_agent", "envs", "wrappers", "train", "benchmarks")
# functions of torch that make a tensor from no tensor
MAKERS = {
    *("arange", "as_tensor", "asarray", "bartlett_window", "blackman_window", "complex", "empty"),
    *("empty_strided", "eye", "fft.fftfreq", "full", "hamming_window", "hann_window", "linspace"),
    *("logspace", "normal", "ones", "rand", "randint", "randn", "randperm", "range"),
    *("scalar_tensor", "sparse_coo_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
}


def silent_makers(source: str) -> list[str]:
    """Calls that leave the dtype or the device of a new tensor to torch's defaults."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        name = ast.unparse(call.func)
        for module in ("torch.", "self._torch."):
            short = name.removeprefix(module)
            if name == short:
                continue
            named = {keyword.arg for keyword in call.keywords}
            said = {"dtype", "device"} <= named or "out" in named
            if short in MAKERS and not said:
                found.append(f"line {call.lineno}: {name} needs dtype= and device=")
            if short == "Generator" and not call.args and not named:
                found.append(f"line {call.lineno}: {name} needs its device")
            if short.endswith("Tensor") and short != "Tensor.__new__":
                found.append(f"line {call.lineno}: {name} is of the default device")
    return found


FILES = sorted(
    path.relative_to(ROOT).as_posix() for name in FOLDERS for path in (ROOT / name).rglob("*.py")
)


def test_every_new_tensor_says_its_dtype_and_its_device():
    assert len(FILES) > 100
    found = [f"{name}, {one}" for name in FILES for one in silent_makers((ROOT / name).read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "torch.zeros(3)",
        "torch.tensor(x, dtype=torch.float32)",
        "torch.randn(2, device='cpu')",
        "torch.Generator()",
        "torch.FloatTensor([1.0])",
    ],
)
def test_a_tensor_of_torchs_defaults_is_found(source):
    assert silent_makers(source)


def test_a_tensor_like_another_needs_no_words():
    assert not silent_makers("torch.zeros_like(x); torch.from_numpy(y); x.new_zeros(3)")
