"""What is read of an observation, and what is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import SMALL, small_observation

from vp_agent.errors import ObservationError
from vp_agent.observation import read_observation


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda o: o["pixels"].pop("left"), "no view 'left'"),
        (lambda o: o.pop("task"), "no 'task'"),
        (lambda o: o.update(task="  "), "instruction"),
        (lambda o: o["agent_pos"].fill(np.nan), "not finite"),
        (lambda o: o["pixels"].update(left=np.zeros((16, 16, 3), np.uint8)), "expected"),
        (lambda o: o["pixels"].update(left=np.zeros((32, 32, 3), np.float32)), "expected uint8"),
        (lambda o: o["pixels"].update(left=np.zeros((1, 32, 32, 3), np.uint8)), "batch axis"),
    ],
)
def test_a_malformed_observation_is_refused_by_name(damage, words):
    obs = small_observation()
    damage(obs)
    with pytest.raises(ObservationError, match=words):
        read_observation(obs, SMALL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": None}, "pixels must be a dict of views, got a NoneType"),
        ({"task": None}, "the task must be an instruction in words"),
        ({"agent_pos": "x"}, "agent_pos must be numbers, got a str"),
    ],
)
def test_a_part_of_another_kind_is_named(change, words):
    with pytest.raises(ObservationError, match=words):
        read_observation({**small_observation(), **change}, SMALL)


def test_what_reset_returns_is_told_from_an_observation():
    returned: Any = (small_observation(), {})
    with pytest.raises(ObservationError, match=r"got a tuple: `env.reset\(\)` gives"):
        read_observation(returned, SMALL)


class Words(str):
    """A string that equals nothing and cannot be shown."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return False

    def __str__(self):
        raise RuntimeError("no")


class Evil:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("evil")

    def __repr__(self):
        raise RuntimeError("evil")


def image(lanes=None):
    return small_observation(lanes=lanes)["pixels"]["left"]


@pytest.mark.parametrize(
    "left",
    [
        torch.tensor(image()),
        torch.tensor(image()).to_sparse(),
        np.asfortranarray(image()),
        np.ma.array(image()),
        image().view(np.recarray),
        Image.fromarray(image()),
        [*image()],
        memoryview(image()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_image_of_any_kind_is_read_as_it_is(left):
    obs = small_observation()
    obs["pixels"]["left"] = left
    read = read_observation(obs, SMALL).images_BVHW3
    assert np.array_equal(read[0, 1], image())
    assert read.flags.c_contiguous
    assert read.flags["W"]


@pytest.mark.parametrize(
    "left",
    [
        None,
        3,
        "abc",
        b"abc",
        Evil(),
        Evil,
        [[1, 2], [3]],
        image().astype(np.int16),
        image().astype(complex),
        image().astype(object),
        image().astype("M8[s]"),
        image().astype("U3"),
        image()[..., 0],
        image().transpose(2, 0, 1),
        image(lanes=0),
        np.ma.array(image(), mask=image() > 100),
        np.full((32, 32, 3), np.nan),
        torch.rand(32, 32, 3, requires_grad=True),
        torch.rand(32, 32, 3).bfloat16(),
        torch.empty(32, 32, 3, dtype=torch.uint8, device="meta"),
        Image.fromarray(image()).convert("RGBA"),
        Image.fromarray(image()).convert("L"),
        {"a": 1},
        (x for x in [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_image_is_refused_by_its_view(left):
    obs = small_observation()
    obs["pixels"]["left"] = left
    with pytest.raises(ObservationError, match="view"):
        read_observation(obs, SMALL)


@pytest.mark.parametrize(
    "task", ["lift", np.str_("lift"), Words("lift"), ["lift"], np.array("lift"), np.array(["lift"])]
)
def test_an_instruction_of_any_kind_of_string_is_read(task):
    tasks = read_observation({**small_observation(), "task": task}, SMALL).tasks
    assert tasks == ("lift",)
    assert type(tasks[0]) is str


@pytest.mark.parametrize(
    "task",
    [
        None,
        3,
        "",
        "\t\n",
        b"lift",
        bytearray(b"lift"),
        np.array(b"lift"),
        np.array([b"lift"]),
        "\ud800",
        [["lift"]],
        np.array([["lift"]]),
        {"lift"},
        {"lift": 1},
        (x for x in ["lift"]),
        range(1),
        torch.zeros(1),
        [None],
        Evil(),
        [Evil()],
        np.array(3.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_instruction_is_refused(task):
    with pytest.raises(ObservationError, match="task"):
        read_observation({**small_observation(), "task": task}, SMALL)


@pytest.mark.parametrize("agent_pos", [np.array(1.0), [True], [10**25], torch.zeros(8).bfloat16()])
def test_a_state_that_nobody_reads_may_have_any_width(agent_pos):
    obs = small_observation()
    read_observation({**obs, "agent_pos": agent_pos}, SMALL)
    del obs["agent_pos"]
    assert read_observation(obs, SMALL).tasks == ("lift the cube",)


@pytest.mark.parametrize(
    "agent_pos",
    [None, "3.0", ["1"], b"12", [np.inf], [1j], [10**400], np.array(["NaT"], "M8[s]"), Evil()],
    ids=lambda value: type(value).__name__,
)
def test_a_state_that_is_not_finite_numbers_is_refused(agent_pos):
    with pytest.raises(ObservationError, match="agent_pos"):
        read_observation({**small_observation(), "agent_pos": agent_pos}, SMALL)


@pytest.mark.parametrize(
    "obs",
    [
        {1: 2, "a": 3},
        {("a",): 1},
        {**small_observation(), "pixels": {1: image(), "left": image()}},
        {**small_observation(), "pixels": {None: image()}},
        {**small_observation(), "pixels": image()},
        torch.zeros(3),
        b"x",
        dict,
    ],
    ids=lambda value: type(value).__name__,
)
def test_names_that_are_no_strings_are_refused(obs):
    with pytest.raises(ObservationError, match=r"expected|it has|must be a dict"):
        read_observation(obs, SMALL)
