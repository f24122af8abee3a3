"""Recipes: whose flags win, however they are written, and what the published training needs."""

import json

import pytest

from vp_agent.cli import main
from vp_agent.train.recipes import RECIPES, with_recipe

JOINT = ["--recipe", "joint", "--data", "d", "--out", "o"]


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--batch_size", "2"], "batch_size", 2),
        (["--batch_size=2"], "batch_size", 2),
        (["--no_dropout_per_slot"], "dropout_per_slot", False),
        (["--no-dropout-per_slot"], "dropout_per_slot", False),
        (["--mask_padding"], "mask_padding", True),
        (["--cache"], "cache", True),
    ],
)
def test_flags_win_over_the_recipes_however_they_are_written(capsys, flags, name, value):
    assert main(["train", *flags, *JOINT, "--show"]) == 0
    assert json.loads(capsys.readouterr().out)[name] == value


def test_a_value_is_no_flag():
    flags = with_recipe(["--recipe=joint", "--data", "cache", "--out=steps"])
    assert "--no-cache" in flags
    assert flags[flags.index("--steps") + 1] == "368866"


def test_what_a_recipe_needs_may_be_written_with_underscores():
    needs = ["--init", "before", "--tasks_with_actions", "a task"]
    assert "--stage" in with_recipe(["--recipe", "half-tasks-action", *needs])


@pytest.mark.parametrize("name", [name for name in RECIPES if "24gb" not in name])
def test_the_papers_recipes_change_colours_and_checkpoint_where_the_u_net_trains(name):
    values = RECIPES[name].values
    assert values["jitter"]
    trains_unet = values.get("stage") in ("video", "joint")
    assert values.get("gradient_checkpointing", False) == trains_unet
