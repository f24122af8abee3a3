"""Suites: the schedules that results are named after."""

import hashlib
import json

import gymnasium as gym
import pytest

import vp_agent  # noqa: F401  (registers the ids)
from vp_agent.envs.families import ROBOSUITE_HORIZONS
from vp_agent.envs.libero_tasks import HORIZONS, PROTOCOLS
from vp_agent.envs.robocasa_tasks import PAPER_HORIZON, TASKS
from vp_agent.envs.tabletop_words import HORIZON as TABLETOP_HORIZON
from vp_agent.envs.tabletop_words import SHIFTS
from vp_agent.errors import ConfigError, UnknownNameError
from vp_agent.evaluation.suites import SUITES, Episode, one_environment, suite

# A published suite never changes: what changes its episodes is a new suite or version.
FROZEN = {
    "robocasa24-paper": "82c1061c52268be9",
    "robocasa24-registry": "6941a6a0426a589e",
    "robocasa24-mimicgen": "1dc78346b0a2ec28",
    "libero10-uva": "0207c29a58a58f6c",
    "libero10-50": "4e10ff6a0bbb2d28",
    "libero-spatial": "811b9b022d68b99a",
    "libero-object": "4f9141fa8b16b11d",
    "libero-goal": "84816e8c991fc62d",
    "libero90-50": "644ee6373829d95b",
    "robosuite": "3522b7069fb178e2",
    "tabletop": "a783c5195b313c76",
    "tabletop-colour": "29b64cd215dfc315",
    "tabletop-shifted-places": "5974ebcfedc53e8c",
    "tabletop-shifted-colours": "f1d06f0decce91f4",
    "tabletop-shifted-sizes": "86db3593152d6995",
    "tabletop-shifted-table": "0001ae3802537c6d",
    "tabletop-shifted-camera": "abfb82ecca3c8ac6",
}


def digest(name: str) -> str:
    lines = [
        [e.task, e.number, e.env, e.seed, e.policy_seed, e.category, dict(e.env_kwargs), e.options]
        for e in suite(name).episodes()
    ]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_frozen(name: str) -> None:
    assert digest(name) == FROZEN[name]


# Steps until an episode ends, which `env_kwargs` only name; of one suite 24 and of one 5 numbers.
STEPS = {
    "robocasa24-paper": {992},
    "robocasa24-registry": "b9de6824eef2378a",
    "robocasa24-mimicgen": {992},
    "libero10-uva": {500},
    "libero10-50": {520},
    "libero-spatial": {280},
    "libero-object": {280},
    "libero-goal": {300},
    "libero90-50": {400},
    "robosuite": "1c994b49706b6b9e",
    "tabletop": {100},
    "tabletop-colour": {100},
    **{f"tabletop-shifted-{shift}": {100} for shift in SHIFTS},
}


def steps(episode: Episode) -> int:
    family, task = episode.env.removesuffix("-v0").split("-", 1)
    if family == "Robosuite":
        return ROBOSUITE_HORIZONS[task]
    if family == "Tabletop":
        return TABLETOP_HORIZON
    if family == "RoboCasa":
        names = {"paper": PAPER_HORIZON, "registry": TASKS[task].horizon}
        return names[episode.env_kwargs["horizon"]]
    rules = PROTOCOLS[episode.env_kwargs["protocol"]]
    return rules.horizon or HORIZONS[task.rpartition("-")[0]]


@pytest.mark.parametrize("name", SUITES)
def test_the_horizons_of_a_suite_are_frozen(name: str) -> None:
    found = {episode.task: steps(episode) for episode in suite(name).episodes(count=1)}
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    assert STEPS[name] in (set(found.values()), digest)


@pytest.mark.parametrize("name", SUITES)
def test_every_episode_of_a_suite_can_be_made(name: str) -> None:
    episodes = suite(name).episodes()
    assert {episode.env for episode in episodes} <= set(gym.registry)
    assert len({episode.key for episode in episodes}) == len(episodes)
    assert len({(episode.task, episode.seed) for episode in episodes}) == len(episodes)
    assert len({episode.policy_seed for episode in episodes}) == len(episodes)


def test_the_papers_robocasa_is_24_tasks_of_50_with_ten_in_each_of_five_kitchens() -> None:
    episodes = suite("robocasa24-paper").episodes()
    assert len(episodes) == 1200
    one = [episode for episode in episodes if episode.task == "PnPCounterToSink"]
    scenes = [(episode.options or {})["scene"] for episode in one]
    assert [scenes[i] for i in (0, 9, 10, 25, 39, 49)] == [
        *((1, 1), (1, 1), (2, 2)),
        *((4, 4), (6, 9), (7, 10)),
    ]
    assert one[0].env_kwargs == {"split": "B", "horizon": "paper"}
    assert one[0].category == "Pick and Place"
    assert all(episode.category for episode in episodes)


def test_tasks_of_a_suite_do_not_begin_alike() -> None:
    by_task = suite("robocasa24-paper").episodes(tasks=["CoffeeServeMug", "CoffeePressButton"])
    seeds = [episode.seed for episode in by_task]
    assert len(set(seeds)) == 100


def test_training_kitchens_are_not_the_papers_held_out_ones() -> None:
    for episode in suite("robocasa24-mimicgen").episodes():
        layout, style = (episode.options or {})["scene"]
        assert style not in (9, 10)
        assert (layout, style) not in ((1, 1), (2, 2), (4, 4))
        assert layout != 8 or "Microwave" not in episode.task or not episode.task.startswith("PnP")


def test_uva_seeds_begin_at_100000() -> None:
    assert [e.seed for e in suite("libero10-uva").episodes(tasks=["10-3"], count=2)] == [
        100_000,
        100_001,
    ]


def test_the_first_episodes_are_those_of_the_whole() -> None:
    whole = suite("robosuite").episodes()
    assert (
        suite("robosuite").episodes(tasks=["Door"], count=2)
        == [episode for episode in whole if episode.task == "Door"][:2]
    )


def test_an_unknown_suite_or_task_and_too_many_episodes_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'libero10-uva'"):
        suite("libero10-uwa")
    with pytest.raises(UnknownNameError, match="did you mean 'OpenDrawer'"):
        suite("robocasa24-paper").episodes(tasks=["OpenDrawr"])
    with pytest.raises(ConfigError, match="named twice: Lift, Lift"):
        suite("robosuite").episodes(tasks=["Lift", "Lift"])
    with pytest.raises(ConfigError, match="50 episodes per task, not 51"):
        suite("robosuite").episodes(count=51)


def test_one_environment_is_its_seeds() -> None:
    episodes = one_environment("Robosuite-Lift-v0", seed=200, episodes=2)
    assert [(e.number, e.seed, e.policy_seed) for e in episodes] == [
        (200, 200, 200),
        (201, 201, 201),
    ]
