"""The formula of the golden numbers reproduces its own check values."""

import zlib

import numpy as np
import pytest
from golden_formula import tensor, uniform, weight


def near(values):
    return pytest.approx(values, abs=1e-8)  # eight decimals were noted


def test_the_generator_gives_its_check_values():
    assert uniform(4, 0) == near([-0.45815523, 0.00955654, 0.32579218, 0.12874319])
    assert uniform(4, 123456789) == near([-0.18816943, -0.28136723, 0.23006384, -0.19883142])
    assert zlib.crc32(b"in.act.sample") == 1057051927


def test_tensors_and_weights_give_their_check_values():
    sample = tensor("in.act.sample", (2, 32, 7), 3.0).flatten().numpy()
    assert sample[:4] == near([-1.08665967, -0.00232286, -0.85115355, -0.06915978])
    assert sample[-1] == near(-1.05651057)
    block = "vision_encoder.layer1_1.0."
    conv = weight(block + "conv1.0.weight", (80, 320, 1, 1, 1)).flatten().numpy()
    assert conv[:4] == near([-0.03158920, -0.05509036, 0.01188899, 0.02931186])
    assert conv.sum(dtype=np.float64) == near(1.8927305789)
    scale = weight(block + "conv1.1.weight", (80,)).numpy()
    assert scale[:2] == near([1.05197084, 1.06370139])
    bias = weight(block + "conv1.1.bias", (80,)).numpy()
    assert bias[:2] == near([0.02789004, 0.01222503])
    mix = weight("input_blocks.1.0.time_mixer.mix_factor", (1,))
    assert mix.item() == near(-0.65542346)
