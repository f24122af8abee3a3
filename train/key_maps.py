"""How a dataset names its views, states and actions: our own layout, and those of others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vp_agent.agent_config import structure
from vp_agent.errors import ConfigError, DatasetError, closest

IMAGES = "observation.images."
_COLUMN = {"action": "action", "state": "observation.state"}
# Delta of the end-effector pose and the hand, as every simulated arm here takes them.
ARM = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")


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
    """

    views: dict[str, str] = field(default_factory=dict)
    state: tuple[str, ...] = (_COLUMN["state"],)
    action: tuple[str, ...] = (_COLUMN["action"],)
    action_names: tuple[str, ...] = ()
    image_transform: Literal["flip_v", "raw", "rot180"] | None = None
    control_hz: float | None = None


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
    # Labelled 10 fps; LIBERO's controller ran at 20 Hz and every step is a frame.
    "libero": KeyMap(
        views={"agent": IMAGES + "image", "gripper": IMAGES + "image2"},
        action_names=ARM,
        image_transform="rot180",
        control_hz=20.0,
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


def find_layout(root: Path, name: str | None, *, views: tuple[str, ...]) -> Layout:
    """Finds the policy's `views` and the actions in the dataset at `root`.

    Args:
        root: dataset folder with `meta/info.json`, and `meta/modality.json` if it has one.
        name: one of `KEY_MAPS`, a JSON file with a `KeyMap`'s fields, or None to detect it.
        views: of the policy, in canvas order.

    Raises:
        DatasetError: something that the key map names is not there.
    """
    info = json.loads((root / "meta" / "info.json").read_text())
    path = root / "meta" / "modality.json"
    modality = json.loads(path.read_text()) if path.is_file() else {}
    features: dict[str, Any] = info["features"]
    name = name or _detect(features)
    keys = _named(name)
    found = tuple(keys.views.get(view, IMAGES + view) for view in views)
    for view, key in zip(views, found, strict=True):
        if key not in features:
            have = [key.removeprefix(IMAGES) for key in features if key.startswith(IMAGES)]
            raise DatasetError(
                f"{root} has no view {view!r} ({key}, by key map {name!r}){closest(view, have)}; "
                f"views: {', '.join(have) or 'none'}; name them: --views, --key-map"
            )
    where = f"{root} (key map {name!r})"
    action = _columns("action", keys.action, features, modality, where=where)
    width = sum(column.stop - column.start for column in action)
    names = keys.action_names if action else ()
    if not names and len(action) == 1:
        names = _feature_names(features[action[0].key])[action[0].start : action[0].stop]
    if names and len(names) != width:
        raise DatasetError(f"{where} has {width}-D actions, but {len(names)} names: {names}")
    return Layout(
        key_map=name,
        views=found,
        state=_columns("state", keys.state, features, modality, where=where),
        action=action,
        left_out={
            part: _place(place, "action")
            for part, place in modality.get("action", {}).items()
            if action and _place(place, "action") not in action
        },
        action_names=tuple(names),
        image_transform=keys.image_transform,
        control_hz=keys.control_hz or float(info["fps"]),
    )


def _detect(features: Mapping[str, Any]) -> str:
    fits = (name for name, keys in KEY_MAPS.items() if set(keys.views.values()) <= features.keys())
    return next(fits)  # ours names no view, so it fits everything


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
    where: str,
) -> tuple[Column, ...]:
    known, column = modality.get(kind, {}), _COLUMN[kind]
    found, missing = [], []
    for part in parts:
        if part in known:
            found.append(_place(known[part], kind))
        elif part in features:
            found.append(Column(key=part, start=0, stop=features[part]["shape"][0]))
        else:
            missing.append(part)
    if missing and not found and column not in features:
        return ()  # video without actions
    for place in found:
        if place.key not in features or place.stop > features[place.key]["shape"][0]:
            raise DatasetError(
                f"{where}: meta/modality.json places a part in {place.key}[{place.start}:"
                f"{place.stop}], which is not there; copy the modality.json of this dataset"
            )
    if missing:
        parts_there = ", ".join(known) or "none (no meta/modality.json; copy it from the original)"
        columns = ", ".join(key for key in features if not key.startswith(IMAGES))
        raise DatasetError(
            f"{where} has no {kind} {', '.join(map(repr, missing))}; parts in meta/modality.json: "
            f"{parts_there}; columns: {columns}; choose another --key-map"
        )
    return tuple(found)


def _place(place: Mapping[str, Any], kind: str) -> Column:
    key = place.get("original_key") or _COLUMN[kind]
    return Column(key=key, start=place["start"], stop=place["end"])


def _feature_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a column's numbers, as a list or under one heading; none if they do not count up."""
    names = feature.get("names") or ()
    if isinstance(names, Mapping):
        names = next(iter(names.values()), ())
    names = tuple(map(str, names))
    return names if len(names) == feature["shape"][0] else ()
