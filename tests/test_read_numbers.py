"""Numbers of any kind are read as they are, or refused by name."""

import numpy as np
import pytest
import torch

from vp_agent.errors import ConfigError, ObservationError
from vp_agent.read_numbers import read_array, read_floats, read_state, read_whole

NUMBERS = [0.5, -1.0, 2.0]


class Evil:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("evil")


@pytest.mark.parametrize(
    "value",
    [
        NUMBERS,
        tuple(NUMBERS),
        np.array(NUMBERS, np.float16),
        np.array(NUMBERS, ">f8"),
        np.array(NUMBERS, np.longdouble),
        np.array(NUMBERS, object),
        np.array([NUMBERS, NUMBERS]).T[:, 0],
        np.array(NUMBERS)[::-1][::-1],
        np.ma.array(NUMBERS),
        torch.tensor(NUMBERS, requires_grad=True),
        torch.tensor(NUMBERS).bfloat16(),
        torch.tensor(NUMBERS).to_sparse(),
        [torch.tensor(x, requires_grad=True) for x in NUMBERS],
        [np.float32(x) for x in NUMBERS],
        memoryview(np.array(NUMBERS)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_of_any_kind_are_read_as_they_are(value):
    assert read_floats(value).tolist() == NUMBERS


@pytest.mark.parametrize(
    "value",
    [
        None,
        "1.0",
        b"12",
        ["0", "1"],
        [b"0"],
        1j,
        np.array([1 + 0j]),
        np.array(["2020-01-01"], "M8[D]"),
        np.array(["NaT"], "m8[s]"),
        np.zeros(2, [("a", "f4")]),
        np.ma.array(NUMBERS, mask=[1, 0, 0]),
        [np.ma.masked, 1.0],
        [np.ma.array(NUMBERS, mask=[1, 0, 0])],
        [[1], [2, 3]],
        [10**400],
        [None, 1.0],
        {"a": 1},
        {1.0},
        (x for x in NUMBERS),
        torch.empty(3, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
        Evil(),
        Evil,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_with_its_kind(value):
    with pytest.raises(ValueError, match="got "):
        read_array(value)


def test_a_strict_numpy_of_the_caller_changes_nothing():
    with np.errstate(all="raise"):
        assert read_floats(np.array([1e300], np.longdouble) * 1e300)[0] == np.inf


@pytest.mark.parametrize("value", [np.int64(5), np.uint8(5), 5, np.array(5)])
def test_a_whole_number_of_any_kind_is_pythons(value):
    number = read_whole("horizon", value, at_least=1)
    assert number == 5
    assert type(number) is int


@pytest.mark.parametrize("value", [0, -3, 1.0, "5", True, np.True_, None, [5], np.nan])
def test_what_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(ConfigError, match="horizon must be a whole number of at least 1"):
        read_whole("horizon", value, at_least=1)


def test_a_state_is_checked_where_a_policy_reads_it():
    assert read_state({"agent_pos": [0.0, 1.0]}, (2,)).dtype == np.float32
    for observation, words in (
        ({"task": "x"}, "has no 'agent_pos' but task"),
        ({"agent_pos": np.zeros(3)}, r"a state of \(2,\), the environment has \(3,\)"),
        ({"agent_pos": [0.0, np.nan]}, "not finite"),
        ({"agent_pos": "ab"}, "must be numbers, got a str"),
    ):
        with pytest.raises(ObservationError, match=words):
            read_state(observation, (2,))
