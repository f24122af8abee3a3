"""Notes of a dataset: image orientation, render quality, action meaning; LeRobot's edits keep them.

`meta/vp_agent.json` holds all that we know, but `lerobot-edit-dataset` (delete, split, merge) drops
it. What training must not lose therefore also stands in `meta/info.json`, in the `info` of the
features that it is about, which LeRobot copies:

    "observation.images.left": {..., "info": {"vp_agent": {"transform": "raw",
                                                           "render_quality": "full"}}}
    "action": {..., "info": {"vp_agent": {"kind": "delta_pose", "controller": "OSC_POSE", ...}}}
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp_agent.errors import DatasetError, closest
from vp_agent.files import write_json
from vp_agent.train.dataset_files import Unreadable, read_json

FILE = "meta/vp_agent.json"
INFO = "meta/info.json"
KEY = "vp_agent"  # within a feature's `info`
# Delta of the end-effector pose and the hand, as every simulated arm here takes them.
ARM = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
TRANSFORMS = ("flip_v", "raw", "rot180")
# What the arm's numbers of an action are. A gripper's number comes last and is no part of it.
ACTION_KINDS = (
    "delta_pose",  # change of the end effector's pose: what every simulated arm here takes
    "absolute_pose",
    "delta_position",  # without the rotation
    "absolute_position",
    "delta_joints",
    "absolute_joints",
    "joint_velocity",
    "joint_torque",
)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a dataset says of itself that LeRobot has no word for; None or empty: it does not.

    Attributes:
        transform: what the images went through since the renderer, one of `TRANSFORMS`.
        render_quality: of the simulator that made them.
        action: what the actions mean: `kind`, one of `ACTION_KINDS`, and whatever the controller
            says besides (its name, its scale). Two that differ are not mixed.
    """

    transform: str | None = None
    render_quality: str | None = None
    action: Mapping[str, Any] = field(default_factory=dict)


def write_notes(root: Path, meta: Mapping[str, Any]) -> None:
    """Writes `meta/vp_agent.json`, and what must outlive it beside the features in `info.json`.

    Args:
        root: a finished dataset.
        meta: all that is to be noted, as JSON. Known are `env_kwargs` (`transform`,
            `render_quality`), `episodes` (each with its `transform`) and `action` (see `Notes`).

    Raises:
        DatasetError: the notes contradict each other, or say what nobody can read.
    """
    notes = _of_file(meta, root / FILE)
    info = read_json(root / INFO)
    images = {"transform": notes.transform, "render_quality": notes.render_quality}
    for name, feature in info["features"].items():
        said = dict(notes.action) if name == "action" else {}
        if feature["dtype"] in ("video", "image"):
            said = {key: value for key, value in images.items() if value is not None}
        if said:
            feature["info"] = {**(feature.get("info") or {}), KEY: said}
    write_json(root / INFO, info)
    write_json(root / FILE, meta)


def read_notes(root: Path) -> Notes:
    """What the dataset says of itself, in either place.

    Raises:
        DatasetError: the two places contradict each other, or cannot be read.
    """
    path = root / FILE
    meta = read_json(path) if path.is_file() else {}
    found = [(str(path), _of_file(meta, path)), *_of_features(root)]
    return Notes(
        **{
            name: _agreed(name, [(where, getattr(notes, name)) for where, notes in found])
            for name in Notes.__dataclass_fields__
        }
    )


def check_action_kind(notes: Notes, names: tuple[str, ...], *, where: str) -> None:
    """Refuses actions that would fly an arm by numbers of another meaning.

    The arms here take a change of the pose, and so does an agent whose actions have an arm's names
    or none; actions that have names of their own are learned under them.

    Raises:
        DatasetError: the dataset says that its actions are something else.
    """
    kind = notes.action.get("kind", "delta_pose")
    if kind != "delta_pose" and (not names or names[: len(ARM)] == ARM):
        raise DatasetError(
            f"{where} says that its actions are of kind {kind!r}, the agent's are a change of the "
            "pose (delta_pose); only its video can be learned (--stage video), or actions under "
            "names of their own: action_names of a key map (docs/data.md)"
        )


def check_one_meaning(parts: Iterable[tuple[str, Notes]]) -> None:
    """Refuses datasets that say that their actions mean different things; one may say less."""
    said: dict[str, tuple[str, Any]] = {}
    for where, notes in parts:
        for key, value in notes.action.items():
            first, before = said.setdefault(key, (where, value))
            if value != before:
                raise DatasetError(
                    f"{where} says that the meaning of the actions is {key} {value!r}, {first} "
                    f"says {before!r}; correct the one that is wrong, or train on one of them"
                )


def _of_file(meta: Any, path: Path) -> Notes:
    """Notes in the words of `meta/vp_agent.json`."""
    env_kwargs = _part(meta, "env_kwargs", dict, path)
    episodes = _part(meta, "episodes", list, path)
    action = _part(meta, "action", dict, path)
    places = [env_kwargs, *(episode for episode in episodes if isinstance(episode, dict))]
    recorded = {str(place["transform"]) for place in places if place.get("transform")}
    if len(recorded) > 1:
        raise DatasetError(
            f"{path}: episodes lie otherwise than others ({', '.join(sorted(recorded))}); "
            "make a dataset of each"
        )
    return _checked(
        Notes(
            transform=next(iter(recorded), None),
            render_quality=env_kwargs.get("render_quality"),
            action=action,
        ),
        path,
    )


def _of_features(root: Path) -> Iterator[tuple[str, Notes]]:
    """Notes beside the features, with the feature's name for messages."""
    path = root / INFO
    for name, feature in _part(read_json(path), "features", dict, path).items():
        said = _part(_part(feature, "info", dict, path), KEY, dict, path)
        where = f"{path}, {name}"
        if name == "action":
            yield where, _checked(Notes(action=said), path)
        elif said:
            known = {key: said[key] for key in ("transform", "render_quality") if key in said}
            yield where, _checked(Notes(**known), path)


def _part(of: Any, name: str, kind: type, path: Path) -> Any:
    """An entry of a JSON object, empty where there is none (or null)."""
    if not isinstance(of, Mapping):
        raise Unreadable(path, f"{of!r:.60} stands where an object is expected")
    found = of.get(name)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise Unreadable(path, f"{name!r} is {found!r:.60}, expected a {kind.__name__}")
    return found


def _checked(notes: Notes, path: Path) -> Notes:
    kind = notes.action.get("kind", "missing") if notes.action else None
    known_words = (
        ("transform", notes.transform, TRANSFORMS),
        ("kind of the action", kind, ACTION_KINDS),
    )
    for name, value, known in known_words:
        if value is not None and value not in known:
            raise DatasetError(
                f"{path}: the {name} is {value!r}{closest(str(value), known)}; "
                f"expected one of {', '.join(known)}"
            )
    if notes.render_quality is not None and not isinstance(notes.render_quality, str):
        raise DatasetError(f"{path}: render_quality is {notes.render_quality!r}, expected a word")
    return notes


def _agreed(name: str, said: list[tuple[str, Any]]) -> Any:
    """What all places say that say something."""
    told = [(where, value) for where, value in said if value]
    for where, value in told:
        if value != told[0][1]:
            what = {"transform": "image orientation", "action": "meaning of the actions"}
            raise DatasetError(
                f"{where} says that the {what.get(name, name)} is {value!r}, {told[0][0]} says "
                f"{told[0][1]!r}; correct the one that is wrong, or make a dataset of each"
            )
    return told[0][1] if told else ({} if name == "action" else None)
