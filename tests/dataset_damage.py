"""Damages that a LeRobot dataset can have, each done by one function."""

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
LEFT = "videos/observation.images.left/chunk-000/file-000.mp4"
RIGHT = "videos/observation.images.right/chunk-000/file-000.mp4"


def edit_json(root: Path, name: str, change: Callable[[Any], None]) -> None:
    values = json.loads((root / name).read_text())
    change(values)
    (root / name).write_text(json.dumps(values))


def alter_in_place(path: Path) -> None:
    """One byte becomes another; size and time of the file stay."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit_table(root: Path, name: str, change: Callable[[Any], Any]) -> None:
    import pandas as pd

    table = pd.read_parquet(root / name)
    changed = change(table)
    (table if changed is None else changed).to_parquet(root / name)


def edit_action(root: Path, row: int, number: int, value: float) -> None:
    def change(table: Any) -> None:
        actions = np.stack(table["action"].to_numpy())
        actions[row if row >= 0 else slice(None), number] = value
        table["action"] = list(actions)

    edit_table(root, DATA, change)


def edit_video(root: Path, name: str, change: Callable[[np.ndarray, int], Any]) -> None:
    """Encodes a video again, each frame (H, W, 3) as `change(frame, number)` or not at all."""
    import av

    with av.open(str(root / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    changed = [(n, change(frame, n)) for n, frame in enumerate(frames)]
    kept = [(n, frame) for n, frame in changed if frame is not None]
    with av.open(str(root / name), "w") as container:
        stream: Any = container.add_stream("libx264", rate=20, options={"crf": "10", "g": "2"})
        stream.height, stream.width = kept[0][1].shape[:2]
        stream.pix_fmt = "yuv444p"
        for number, pixels in kept:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def episode_frames(root: Path, episode: int) -> range:
    import pandas as pd

    row = pd.read_parquet(root / EPISODES).iloc[episode]
    return range(row["dataset_from_index"], row["dataset_to_index"])


# Each of these damages the dataset in one way.


def other_fps(root):
    edit_json(root, "meta/info.json", lambda info: info.update(fps=10))


def old_format(root):
    edit_json(root, "meta/info.json", lambda info: info.update(codebase_version="v2.1"))


def wrong_totals(root):
    edit_json(root, "meta/info.json", lambda info: info.update(total_episodes=5))


def view_that_info_does_not_list(root):
    edit_json(root, "meta/info.json", lambda i: i["features"].pop("observation.images.right"))


def view_that_no_episode_has(root):
    def change(info):
        info["features"]["observation.images.top"] = info["features"]["observation.images.left"]

    edit_json(root, "meta/info.json", change)


def fps_of_nothing(root):
    edit_json(root, "meta/info.json", lambda info: info.update(fps=0))


def feature_without_a_shape(root):
    edit_json(root, "meta/info.json", lambda info: info["features"]["action"].pop("shape"))


def episodes_without_lengths(root):
    edit_table(root, EPISODES, lambda table: table.drop(columns="length"))


def no_episodes(root):
    edit_table(root, EPISODES, lambda table: table.iloc[:0])


def info_is_missing(root):
    (root / "meta/info.json").unlink()


def statistics_are_no_json(root):
    (root / "meta/stats.json").write_text('{"action": ')


def changed_statistics(root):
    edit_json(root, "meta/stats.json", lambda s: s["action"]["max"].__setitem__(2, 7.0))


def missing_video_file(root):
    (root / LEFT).unlink()


def missing_parquet_file(root):
    (root / DATA).unlink()


def parquet_that_was_cut_off(root):
    (root / DATA).write_bytes((root / DATA).read_bytes()[:2000])


def stray_video_file(root):
    shutil.copy(root / LEFT, (root / LEFT).with_name("file-007.mp4"))


def not_a_number(root):
    edit_action(root, episode_frames(root, 1)[5], 3, np.nan)


def constant_dimension(root):
    edit_action(root, -1, 4, 0.0)


def wild_action(root):
    edit_action(root, episode_frames(root, 2)[1], 0, 500.0)


def narrower_actions(root):
    def change(table):
        table["action"] = [action[:6] for action in table["action"]]

    edit_table(root, DATA, change)


def mixed_action_widths(root):
    def change(table):
        table["action"] = [a[:6] if row == 3 else a for row, a in enumerate(table["action"])]

    edit_table(root, DATA, change)


def empty_instruction(root):
    edit_table(root, "meta/tasks.parquet", lambda table: table.rename(index=lambda name: " "))


def task_without_instruction(root):
    def change(table):
        table.loc[list(episode_frames(root, 3)), "task_index"] = 5

    edit_table(root, DATA, change)


def gap_in_the_frames(root):
    rows = episode_frames(root, 1)

    def change(table):
        table.loc[rows[4] : rows[-1], "frame_index"] += 1

    edit_table(root, DATA, change)


def lost_rows(root):
    edit_table(root, DATA, lambda table: table.drop(index=list(episode_frames(root, 3)[-3:])))


def uneven_timestamps(root):
    def change(table):
        table.loc[episode_frames(root, 2)[6], "timestamp"] += 0.02

    edit_table(root, DATA, change)


def wrong_length(root):
    edit_table(root, EPISODES, lambda table: table.__setitem__("length", table["length"] + 1))


def two_frame_episode(root):
    rows = episode_frames(root, 3)
    edit_table(root, DATA, lambda table: table.drop(index=list(rows[2:])))

    def change(table):
        table.loc[3, "length"] = 2
        table.loc[3, "dataset_to_index"] = rows[2]

    edit_table(root, EPISODES, change)
    edit_json(root, "meta/info.json", lambda info: info.update(total_frames=rows[2]))


def duplicated_episode(root):
    first, second = episode_frames(root, 0), episode_frames(root, 1)
    both = min(len(first), len(second))

    def change(table):
        for name in ("action", "observation.state"):
            values = table[name].tolist()
            values[second[0] : second[0] + both] = values[first[0] : first[0] + both]
            table[name] = values
        return table.drop(index=[*first[both:], *second[both:]])

    edit_table(root, DATA, change)

    def shorten(table):
        length = table["length"].copy()
        length[:2] = both
        ends = length.cumsum()
        table["length"], table["dataset_to_index"] = length, ends
        table["dataset_from_index"] = ends - length

    edit_table(root, EPISODES, shorten)


def damaged_video(root):
    content = bytearray((root / LEFT).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    (root / LEFT).write_bytes(content)


def video_that_was_cut_off(root):
    (root / LEFT).write_bytes((root / LEFT).read_bytes()[:5000])


def lost_frames(root):
    gone = episode_frames(root, 2)[-4:]
    edit_video(root, LEFT, lambda frame, n: None if n in gone else frame)


def other_resolution(root):
    edit_video(root, LEFT, lambda frame, n: frame[::2, ::2])


def black_frames(root):
    dark = episode_frames(root, 1)[3:6]
    edit_video(root, LEFT, lambda frame, n: frame * 0 if n in dark else frame)


def grey_episode(root):
    grey = episode_frames(root, 2)
    edit_video(root, LEFT, lambda frame, n: frame * 0 + 128 if n in grey else frame)


def white_episode(root):
    white = episode_frames(root, 2)
    edit_video(root, LEFT, lambda frame, n: frame * 0 + 255 if n in white else frame)


def frozen_camera(root):
    still, first = episode_frames(root, 1), []

    def change(frame, n):
        if n not in still:
            return frame
        first.append(frame)
        return first[0]

    edit_video(root, LEFT, change)


def upside_down_episode(root):
    turned = episode_frames(root, 3)
    edit_video(root, LEFT, lambda frame, n: frame[::-1] if n in turned else frame)


def one_camera_twice(root):
    shutil.copy(root / LEFT, root / RIGHT)


# What damages, the check that finds it, and what it says.
DAMAGE = [
    (other_fps, "timestamps", "at 10 fps"),
    (old_format, "format", "'v2.1'"),
    (wrong_totals, "totals", "total_episodes is 5, the tables have 4"),
    (view_that_info_does_not_list, "views", "videos/observation.images.right"),
    (view_that_no_episode_has, "views", "observation.images.top is listed"),
    (fps_of_nothing, "unreadable file", "info.json: fps is 0, expected above 0"),
    (feature_without_a_shape, "unreadable file", "'action' has no dtype or no shape"),
    (episodes_without_lengths, "unreadable file", f"{EPISODES}: no column 'length'"),
    (no_episodes, "unreadable file", f"{EPISODES}: it lists no episode"),
    (info_is_missing, "unreadable file", "info.json: is missing"),
    (statistics_are_no_json, "unreadable file", "stats.json: cannot be read"),
    (changed_statistics, "statistics", "max of action.dz is 7, recomputed"),
    (missing_video_file, "missing file", f"{LEFT}: is missing; episodes [0, 1, 2, 3]"),
    (missing_parquet_file, "missing file", f"{DATA}: is missing"),
    (parquet_that_was_cut_off, "unreadable file", f"{DATA}: cannot be read"),
    (stray_video_file, "stray file", "file-007.mp4"),
    (not_a_number, "not finite", "episode 1, frame 5: action.rx is not finite (1 values)"),
    (constant_dimension, "constant action", "action.ry is 0 in every row"),
    (wild_action, "action range", "episode 2, frame 1: action.dx is 500"),
    (narrower_actions, "widths", "action has rows of 6 numbers, meta/info.json says 7"),
    (mixed_action_widths, "unreadable file", f"{DATA}: action has rows of [6, 7] numbers"),
    (empty_instruction, "instructions", "of episodes [0, 1, 2, 3] is empty"),
    (task_without_instruction, "instructions", "task 5 of episodes [3] has no instruction"),
    (gap_in_the_frames, "row indices", "episode 1: frame_index of row"),
    (lost_rows, "row indices", "rows, the episodes' lengths add up to"),
    (uneven_timestamps, "timestamps", "episode 2: frame 6 is at 0.3200 s"),
    (wrong_length, "episode table", "episode 0 has rows 0.."),
    (two_frame_episode, "lengths", "episode 3: 2 frames"),
    (duplicated_episode, "duplicate episode", "episode 1: the same numbers as episode 0"),
    (damaged_video, "undecodable", f"{LEFT}, episode"),
    (video_that_was_cut_off, "undecodable", f"{LEFT}, episode 0"),
    (lost_frames, "undecodable", "episode 2, view left: 4 frames in"),
    (lost_frames, "video headers", "left/chunk-000/file-000.mp4: it has"),
    (other_resolution, "resolution", "view left: height and width are (32, 32)"),
    (black_frames, "brightness", "episode 1, view left: 3 frames in 3..5 black"),
    (grey_episode, "brightness", "episode 2, view left"),
    (white_episode, "brightness", "white all over"),
    (frozen_camera, "frozen", "episode 1, view left"),
    (upside_down_episode, "turned", "episode 3, view left: like the other episodes upside down"),
    (one_camera_twice, "same pictures", "as observation.images.left"),
]
