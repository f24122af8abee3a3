"""How a dataset names its views, states and actions: our own layout, and those of others."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vp_agent.agent_config import structure
from vp_agent.errors import ConfigError, DatasetError, closest
from vp_agent.train.clips import IMAGES
from vp_agent.train.dataset_files import (
    DatasetFiles,
    Unreadable,
    feature_names,
    read_json,
)
from vp_agent.train.notes import ARM
from vp_agent.train.pictures import is_depth

_COLUMN = {"action": "action", "state": "observation.state"}


@dataclass(frozen=True, kw_only=True)
class KeyMap:
    """What to look for in the datasets of one origin.

    Attributes:
        views: our view -> feature; a view that is not listed is `observation.images.<view>`.
        state, action: in our order, parts that `meta/modality.json` names or whole columns.
        action_names: what the actions' dimensions are; empty: the column's own names.
        image_transform: how the images are turned (see `VideoPolicyConfig`); None: as the dataset
            notes, or else as the policy has them.
        control_hz: rate of the frames, where the dataset's own fps is only a label.
        fps: labels that mean this rate; with another one the dataset is refused. Empty: any.
    """

    views: dict[str, str] = field(default_factory=dict)
    state: tuple[str, ...] = (_COLUMN["state"],)
    action: tuple[str, ...] = (_COLUMN["action"],)
    action_names: tuple[str, ...] = ()
    image_transform: Literal["flip_v", "raw", "rot180"] | None = None
    control_hz: float | None = None
    fps: tuple[float, ...] = ()


KEY_MAPS = {
    # The order of a RoboCasa365 action differs between its exports: found by name only.
    "robocasa365": KeyMap(
        views={
            "gripper": IMAGES + "robot0_eye_in_hand",
            "left": IMAGES + "robot0_agentview_left",
            "right": IMAGES + "robot0_agentview_right",
        },
        state=(
            "base_position",
            "base_rotation",
            "end_effector_position_relative",
            "end_effector_rotation_relative",
            "gripper_qpos",
        ),
        action=("end_effector_position", "end_effector_rotation", "gripper_close"),
        action_names=ARM,
        image_transform="flip_v",
    ),
    # Labelled 10 fps (some exports 20); the controller ran at 20 Hz and every step is a frame.
    "libero": KeyMap(
        views={"agent": IMAGES + "image", "gripper": IMAGES + "image2"},
        action_names=ARM,
        image_transform="rot180",
        control_hz=20.0,
        fps=(10.0, 20.0),
    ),
    "own": KeyMap(),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """The numbers `start` to `stop` of a feature."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A key map found in one dataset; `action` is empty where there are no actions.

    `left_out` are the parts of the actions, by name, that the policy does not control.
    """

    key_map: str
    views: tuple[str, ...]
    state: tuple[Column, ...]
    action: tuple[Column, ...]
    left_out: dict[str, Column]
    action_names: tuple[str, ...]
    image_transform: str | None
    control_hz: float

    @property
    def action_dim(self) -> int:
        return sum(column.stop - column.start for column in self.action)


def find_layout(files: DatasetFiles, name: str | None, *, views: tuple[str, ...]) -> Layout:
    """Finds the policy's `views` and the actions in a dataset.

    Args:
        files: the dataset, opened; with a `meta/modality.json` or without.
        name: one of `KEY_MAPS`, a JSON file with a `KeyMap`'s fields, or None to detect it.
        views: of the policy, in canvas order.

    Raises:
        DatasetError: something that the key map names is not there.
    """
    root, info = files.root, files.info
    path = root / "meta" / "modality.json"
    modality = _read_modality(path) if path.is_file() else {}
    features: dict[str, Any] = info["features"]
    name = name or _detect(info)
    keys = _named(name)
    found = tuple(keys.views.get(view, IMAGES + view) for view in views)
    for view, key in zip(views, found, strict=True):
        if key not in features:
            have = [key.removeprefix(IMAGES) for key in features if key.startswith(IMAGES)]
            raise DatasetError(
                f"{root} has no view {view!r} ({key}, by key map {name!r}){closest(view, have)}; "
                f"views: {', '.join(have) or 'none'}; name them: --views, --key-map"
            )
        if features[key]["dtype"] not in ("image", "video") or is_depth(features[key]):
            kind = "a depth map" if is_depth(features[key]) else f"of kind {features[key]['dtype']}"
            raise DatasetError(
                f"{root}: the view {view!r} ({key}, by key map {name!r}) is {kind}, expected "
                "pictures; choose a camera's: --views, --key-map"
            )
    where = f"{root} (key map {name!r})"
    if keys.fps and float(info["fps"]) not in keys.fps:
        labels = " or ".join(f"{fps:g}" for fps in keys.fps)
        raise DatasetError(
            f"{where} has {info['fps']:g} fps; this key map is for datasets labelled {labels}. "
            "Write one that fits: --key-map FILE.json (docs/data.md)"
        )
    action = _columns("action", keys.action, features, modality, name=name, where=where)
    width = sum(column.stop - column.start for column in action)
    names = keys.action_names if action else ()
    if not names and len(action) == 1:
        names = feature_names(features[action[0].key])[action[0].start : action[0].stop]
    if names and len(names) != width:
        raise DatasetError(f"{where} has {width}-D actions, but {len(names)} names: {names}")
    return Layout(
        key_map=name,
        views=found,
        state=_columns("state", keys.state, features, modality, name=name, where=where),
        action=action,
        left_out={
            part: _place(place, "action")
            for part, place in modality.get("action", {}).items()
            if action and not _numbers([_place(place, "action")]) <= _numbers(action)
        },
        action_names=tuple(names),
        image_transform=keys.image_transform,
        control_hz=keys.control_hz or float(info["fps"]),
    )


def _read_modality(path: Path) -> dict[str, dict[str, Any]]:
    """`meta/modality.json`: by kind, and there by part, where its numbers are."""
    modality = read_json(path)
    if not isinstance(modality, dict):
        raise Unreadable(path, "it holds no JSON object")
    for kind, parts in modality.items():
        if not isinstance(parts, dict) or not all(isinstance(x, dict) for x in parts.values()):
            raise Unreadable(path, f"{kind!r} is {parts!r:.60}, expected parts by their names")
        for name, place in parts.items():
            if kind in _COLUMN and not all(type(place.get(x)) is int for x in ("start", "end")):
                raise Unreadable(path, f"{kind} {name!r} has no start or no end")
    return modality


def _detect(info: Mapping[str, Any]) -> str:
    features = info["features"]
    # Anybody's cameras may be `image` and `image2`: this is what lerobot/libero says besides.
    shapes = [list(features.get(key, {}).get("shape", ())) for key in _COLUMN.values()]
    libero = (info["fps"], info.get("robot_type"), shapes) == (10, "panda", [[7], [8]])
    maps = (name for name in KEY_MAPS if name != "libero" or libero)
    fits = (name for name in maps if set(KEY_MAPS[name].views.values()) <= features.keys())
    return next(fits)  # ours names no view, so it fits everything


def _numbers(columns: Iterable[Column]) -> set[tuple[str, int]]:
    return {(column.key, i) for column in columns for i in range(column.start, column.stop)}


def _named(name: str) -> KeyMap:
    if name in KEY_MAPS:
        return KEY_MAPS[name]
    if not name.endswith(".json"):
        raise ConfigError(
            f"no key map {name!r}{closest(name, KEY_MAPS)}; key maps: {', '.join(KEY_MAPS)}, or a "
            ".json file (docs/data.md)"
        )
    try:
        return structure(json.loads(Path(name).read_text()), KeyMap)
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"key map {name} cannot be read: {error}") from error


def _columns(
    kind: str,
    parts: tuple[str, ...],
    features: Mapping[str, Any],
    modality: Mapping[str, Any],
    *,
    name: str,
    where: str,
) -> tuple[Column, ...]:
    known, column = modality.get(kind, {}), _COLUMN[kind]
    found, missing = [], []
    for part in parts:
        if part in known:
            found.append(_place(known[part], kind))
        elif part in features and len(features[part]["shape"]) == 1:
            found.append(Column(key=part, start=0, stop=features[part]["shape"][0]))
        else:
            missing.append(part)
    # Whoever names numbers in a map of their own has misspelt them.
    named_by_user = name not in KEY_MAPS and parts != (column,)
    if missing and not found and column not in features and not named_by_user:
        return ()  # video without actions
    for place in found:
        if place.key not in features or place.stop > features[place.key]["shape"][0]:
            raise DatasetError(
                f"{where}: meta/modality.json places a part in {place.key}[{place.start}:"
                f"{place.stop}], which is not there; copy the modality.json of this dataset"
            )
    if missing:
        parts_there = ", ".join(known) or "none (no meta/modality.json; copy it from the original)"
        columns = [key for key in features if not key.startswith(IMAGES)]
        raise DatasetError(
            f"{where} has no {kind} {', '.join(map(repr, missing))}"
            f"{closest(missing[0], [*known, *columns])}; parts in meta/modality.json: "
            f"{parts_there}; columns: {', '.join(columns)}; correct the key map or choose another: "
            "--key-map (without actions: one that names none)"
        )
    return tuple(found)


def _place(place: Mapping[str, Any], kind: str) -> Column:
    key = place.get("original_key") or _COLUMN[kind]
    return Column(key=key, start=place["start"], stop=place["end"])
