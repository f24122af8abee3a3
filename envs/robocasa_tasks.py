"""RoboCasa's 24 tasks as the paper names them, and what they are called in RoboCasa 1.0.

The names, scenes and splits users write are those of RoboCasa 0.2, which the paper used. RoboCasa
1.0 has other names for most of them; the tables here translate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vp_agent.errors import ConfigError, UnknownNameError, closest

Scene = tuple[int, int]  # (layout, style), RoboCasa 0.2's numbers
Split = Literal["A", "B"]

PAPER_HORIZON = 992  # every task: 62 chunks of 16 actions
# The five kitchens of the paper's evaluation, ten rollouts in each.
PAPER_SCENES: tuple[Scene, ...] = ((1, 1), (2, 2), (4, 4), (6, 9), (7, 10))
LAYOUTS = range(10)
STYLES = range(12)
SPLITS: dict[Split | None, str | None] = {"A": "pretrain", "B": "target", None: None}  # -> 1.0

# RoboCasa 0.2's style -> 1.0's. Its traditional_1 (5) and transitional_2 (11) are gone.
_STYLES_1_0 = {0: 1, 1: 2, 2: 9, 3: 3, 4: 5, 6: 6, 7: 4, 8: 8, 9: 7, 10: 10}


@dataclass(frozen=True)
class Task:
    """One task in both versions of RoboCasa.

    Attributes:
        name: its class in RoboCasa 0.2, and the name in our ids.
        horizon: steps in RoboCasa 0.2's own table.
        name_1_0: its class in RoboCasa 1.0.
        horizon_1_0: steps in RoboCasa 1.0.1's own table.
        fixture_1_0: name of 1.0's `FixtureType` that the class is made with.
        or_cabinet_1_0: in 1.0, draw among that fixture and the single-door cabinets, as 0.2 does.
        without_layouts: layouts (0.2's numbers) in which RoboCasa does not offer the task.
    """

    name: str
    horizon: int
    name_1_0: str
    horizon_1_0: int
    fixture_1_0: str | None = field(default=None, kw_only=True)
    or_cabinet_1_0: bool = field(default=False, kw_only=True)
    without_layouts: tuple[int, ...] = field(default=(), kw_only=True)


_SINGLE: Any = {"fixture_1_0": "MICROWAVE", "or_cabinet_1_0": True}
_DOUBLE: Any = {"fixture_1_0": "CABINET_DOUBLE_DOOR"}

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("PnPCounterToCab", 500, "PickPlaceCounterToCabinet", 750),
        Task("PnPCabToCounter", 500, "PickPlaceCabinetToCounter", 450),
        Task("PnPCounterToSink", 700, "PickPlaceCounterToSink", 600),
        Task("PnPSinkToCounter", 500, "PickPlaceSinkToCounter", 900),
        Task(
            "PnPCounterToMicrowave", 600, "PickPlaceCounterToMicrowave", 1050, without_layouts=(8,)
        ),
        Task(
            "PnPMicrowaveToCounter", 500, "PickPlaceMicrowaveToCounter", 750, without_layouts=(8,)
        ),
        Task("PnPCounterToStove", 500, "PickPlaceCounterToStove", 600),
        Task("PnPStoveToCounter", 500, "PickPlaceStoveToCounter", 450),
        Task("OpenSingleDoor", 500, "OpenDoor", 1050, **_SINGLE),
        Task("CloseSingleDoor", 500, "CloseDoor", 750, **_SINGLE),
        Task("OpenDoubleDoor", 1000, "OpenDoor", 1050, **_DOUBLE),
        Task("CloseDoubleDoor", 700, "CloseDoor", 750, **_DOUBLE),
        Task("OpenDrawer", 500, "OpenDrawer", 750),
        Task("CloseDrawer", 500, "CloseDrawer", 450),
        Task("TurnOnSinkFaucet", 500, "TurnOnSinkFaucet", 600),
        Task("TurnOffSinkFaucet", 500, "TurnOffSinkFaucet", 300),
        Task("TurnSinkSpout", 500, "TurnSinkSpout", 300),
        Task("TurnOnStove", 500, "TurnOnStove", 450),
        Task("TurnOffStove", 500, "TurnOffStove", 750),
        Task("CoffeeSetupMug", 600, "CoffeeSetupMug", 600),
        Task("CoffeeServeMug", 600, "CoffeeServeMug", 450),
        Task("CoffeePressButton", 300, "StartCoffeeMachine", 300),
        Task("TurnOnMicrowave", 500, "TurnOnMicrowave", 450),
        Task("TurnOffMicrowave", 500, "TurnOffMicrowave", 300),
    )
}


def find_task(name: str) -> Task:
    """The task of that name, or `UnknownNameError` with the nearest one."""
    if name in TASKS:
        return TASKS[name]
    for task in TASKS.values():
        if name == task.name_1_0 and task.fixture_1_0 is None:
            raise UnknownNameError(
                f"{name!r} is RoboCasa 1.0's name; here the task is {task.name!r}, "
                f"with either version: RoboCasa-{task.name}-v0"
            )
    raise UnknownNameError(f"no task {name!r}{closest(name, TASKS)}; known: {', '.join(TASKS)}")


def checked_scene(scene: Any, task: Task) -> Scene:
    """`scene` as two ints, or `ConfigError` if RoboCasa 0.2 has no such kitchen for the task."""
    try:
        layout, style = (int(number) for number in scene)
        exact = (layout, style) == tuple(scene)
    except (TypeError, ValueError):
        layout, style, exact = -1, -1, False
    if not exact or layout not in LAYOUTS or style not in STYLES:
        raise ConfigError(
            f"a scene is (layout, style) with layout 0 to {LAYOUTS[-1]} and style 0 to "
            f"{STYLES[-1]}, RoboCasa 0.2's numbers, not {scene!r}; the paper's: {PAPER_SCENES}"
        )
    if layout in task.without_layouts:
        raise ConfigError(
            f"RoboCasa does not offer {task.name} in layout {layout}; the paper's scenes are "
            f"{PAPER_SCENES}"
        )
    return layout, style


def scene_1_0(scene: Scene) -> Scene:
    """RoboCasa 1.0's numbers of a kitchen of RoboCasa 0.2: the same plan, with new appliances."""
    layout, style = scene
    if style not in _STYLES_1_0:
        raise ConfigError(
            f"style {style} of RoboCasa 0.2 is not in RoboCasa 1.0; styles in both: "
            f"{sorted(_STYLES_1_0)}, or install RoboCasa 0.2 (docs/robocasa.md)"
        )
    return layout + 1, _STYLES_1_0[style]


def instruction_0_2(lang: str) -> str:
    """The wording of RoboCasa 0.2, which text encoders were trained with, from either version's.

    RoboCasa 1.0 writes "Open the drawer." where 0.2 writes "open the drawer".
    """
    text = lang.strip()
    return (text[:1].lower() + text[1:]).removesuffix(".")


def object_categories(ep_meta: Mapping[str, Any]) -> dict[str, str]:
    """name in the scene -> category ("bowl", "apple"), from RoboCasa's episode metadata."""
    objects: Sequence[Mapping[str, Any]] = ep_meta.get("object_cfgs", ())
    return {entry["name"]: entry["info"]["cat"] for entry in objects}
