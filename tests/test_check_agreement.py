"""`vp-agent data check` finds what no table shows, says how sure it is, and alarms for nothing."""

import re
from importlib.util import find_spec
from pathlib import Path

import drawn_arm
import pytest
from episode_damage import Copy, damage

from vp_agent.train.check import find_damage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lerobot") is None, reason="needs the extra lerobot"),
]

# What is done to episodes 2 and 7 of ten (or to all), the check that finds it, and what it says.
DAMAGE = [
    ("actions 1 step late", "actions and states", "actions come 1 step too late"),
    ("actions 3 steps late", "actions and states", "actions come 3 steps too late"),
    ("actions 1 step early", "actions and states", "actions come 1 step too early"),
    ("actions of two episodes swapped", "actions and states", "actions fit .* of episode [27]"),
    ("clips of two episodes swapped", "pictures and states", "show the state of episode [27]"),
    ("clip reversed", "pictures and states", "run backwards"),
    ("clip 5 frames late", "pictures and states", "come 5 steps too late"),
    ("5 frames frozen", "hung", "stand still while the state moves"),
    ("10 frames frozen", "hung", "stand still while the state moves"),
    ("BGR", "colours", r"red and blue are exchanged .* \d+\.\d times nearer"),
    ("grey", "colours", "without colour"),
    ("views exchanged", "exchanged views", r"are exchanged: .* \d+\.\d times nearer"),
    ("actions 6 steps late (no state)", "actions and pictures", "come 6 steps too early"),
]
HURT = [2, 7]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Ten episodes of a drawn arm with absolute actions."""
    return drawn_arm.write(tmp_path_factory.mktemp("sound") / "arm", 10)


@pytest.mark.parametrize("kind", [{}, {"delta": True, "delay": 1, "grain": 3.0}], ids=["", "real"])
def test_nothing_is_found_where_everything_belongs_together(tmp_path, kind):
    assert find_damage(drawn_arm.write(tmp_path / "arm", 10, **kind)) == []


@pytest.mark.parametrize(("done", "check", "said"), DAMAGE, ids=[d[0] for d in DAMAGE])
def test_damaged_episodes_are_named_with_how_sure_it_is(sound, tmp_path, done, check, said):
    copy = Copy(sound, tmp_path / "arm")
    damage(copy, done, HURT)
    named = [f for f in find_damage(copy.root) if f.check == check]
    assert {int(re.findall(r"episode (\d+)", f.where)[0]) for f in named} == set(HURT)
    assert all(re.search(said, f.what) and re.search(r"\d\.\d", f.what) for f in named), named
