"""The audit: pairs of imagined and executed frames, the rule, the page."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pilots import SIDE, Reach, ToyPlan

from vp_agent.cli import main
from vp_agent.errors import ConfigError
from vp_agent.evaluation.agreement import (
    Followed,
    Thresholds,
    Verdict,
    calibrate,
    compare,
    followed,
    judge,
    psnr,
)
from vp_agent.evaluation.audit import AuditSettings, audit
from vp_agent.evaluation.pairs import Pair, RecordingError, read_pairs
from vp_agent.evaluation.reading import EvaluationError
from vp_agent.evaluation.recording import Recorder, Recording

AGENT = "0123456789abcdef"
EXECUTE, STRIDE, FRAMES = 4, 2, 4


def column_at(column: float) -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    image[:, int(np.clip(column, 0, SIDE - 1))] = 220
    return image


def imagination(column: float, *, moves: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A video of a column, moving or not, as coarse as an autoencoder's."""
    video = {}
    for view in ("left", "right"):
        clean = [column_at(column - moves * STRIDE * frame) for frame in range(FRAMES)]
        noisy = np.stack(clean) + rng.normal(0, rng.uniform(5, 9), (FRAMES, SIDE, SIDE, 3))
        video[view] = noisy.clip(0, 255).astype(np.uint8)
    return video


def fly(
    folder: Path,
    seed: int,
    *,
    imagines: bool,
    moves: bool,
    elsewhere: float = 0,
    agent: str = AGENT,
) -> dict:
    """One recorded episode of a pilot that imagines that the column moves, and moves it, or not.

    It imagines the column so far `elsewhere`.
    """
    env, rng = Reach(), np.random.default_rng(seed)
    name, actions, done = f"Reach-{seed:05d}", [], False
    env.reset(seed=seed)
    recording = Recording(folder=folder, frame_stride=STRIDE, control_hz=20)
    with Recorder(recording, name) as recorder:
        plan = ToyPlan(np.zeros((6, 7), np.float32), None)
        while not done:
            if len(actions) % EXECUTE == 0:
                video = imagination(env.column - elsewhere, moves=imagines, rng=rng)
                plan = ToyPlan(np.zeros((6, 7), np.float32), video)
            recorder.add(seen(env), step=len(actions), plan=plan)
            actions.append(np.array([-moves] + 6 * [0], np.float32))
            _, _, done, truncated, info = env.step(actions[-1])
            done = done or truncated
        recorder.finish(seen(env), actions, success=info["is_success"])
    return {
        "env": "Reach-v0",
        "agent": agent,
        "seed": seed,
        "success": info["is_success"],
        "steps": len(actions),
        "plans": -(-len(actions) // EXECUTE),
        "seconds_per_plan": 0.1,
        "wall_s": 1.0,
        "video": f"videos/{name}.mp4",
    }


def seen(env: Reach) -> dict:
    return {"pixels": dict.fromkeys(("left", "right"), column_at(env.column))}


def write_journal(folder: Path, lines: list[dict]) -> Path:
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve successes; failures: two did as imagined, three did not, one imagined elsewhere."""
    folder = tmp_path_factory.mktemp("evaluation")
    lines = [fly(folder, seed, imagines=True, moves=True) for seed in range(12)]
    lines += [fly(folder, seed, imagines=False, moves=False) for seed in (20, 21)]
    lines += [fly(folder, seed, imagines=True, moves=False) for seed in (30, 31, 32)]
    lines += [fly(folder, 33, imagines=True, moves=False, elsewhere=4)]
    missing = {**lines[0], "seed": 40, "video": "missing: no space left"}
    broken = {**lines[0], "seed": 41, "video": None, "success": None}
    return write_journal(folder, [*lines, missing, broken])


def plans_with(*drifts: float, start: float = 30) -> list[Followed]:
    return [
        Followed(plan=i, step=8 * i, start=start, drift=drift, psnr=20, ssim=0.5, latent=None)
        for i, drift in enumerate(drifts)
    ]


def test_a_pair_is_an_imagined_frame_and_the_observation_at_its_control_step(
    tmp_path: Path,
) -> None:
    line = fly(tmp_path, 0, imagines=True, moves=True)
    pairs = list(read_pairs(tmp_path, "Reach-00000"))
    last = line["steps"] // EXECUTE
    assert [(p.plan, p.frame, p.step) for p in pairs[:6]] == [
        *((0, 0, 0), (0, 1, 2), (0, 2, 4)),
        *((1, 0, 4), (1, 1, 6), (1, 2, 8)),
    ]
    assert pairs[-1].step == line["steps"] - line["steps"] % STRIDE
    assert pairs[-1].plan == (last if line["steps"] % EXECUTE else last - 1)
    env = Reach()
    env.reset(seed=0)
    truth = {step: column_at(env.column - step) for step in range(line["steps"])}
    for pair in pairs[:-1]:
        assert psnr(pair.executed["right"], truth[pair.step]) > 40  # the codec's error
        assert psnr(pair.imagined["right"], truth[pair.step]) == pytest.approx(31.5, abs=3)


def test_a_disk_that_fills_up_leaves_no_part_of_a_recording(tmp_path: Path) -> None:
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_audit import fly
try:
    fly(Path({str(tmp_path)!r}), 0, imagines=True, moves=True)
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "27\n", done.stderr  # EFBIG
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_policy_that_imagines_nothing_gets_a_film_and_no_pairs(tmp_path: Path) -> None:
    plan = ToyPlan(np.zeros((6, 7), np.float32), None)
    with Recorder(Recording(folder=tmp_path, frame_stride=None, control_hz=20), "a") as recorder:
        recorder.add(seen_at(3), step=0, plan=plan)
        recorder.finish(seen_at(2), [np.zeros(7, np.float32)], success=False)
    assert (tmp_path / "videos/a.mp4").is_file()
    with pytest.raises(RecordingError, match=r"pairs/a\.mp4 is missing.*imagines"):
        list(read_pairs(tmp_path, "a"))


@pytest.mark.parametrize("stride", [3, 7])
def test_frames_may_be_any_number_of_steps_apart(tmp_path: Path, stride: int) -> None:
    plan = ToyPlan(np.zeros((6, 7), np.float32), {"left": np.stack([column_at(3)] * FRAMES)})
    with Recorder(Recording(folder=tmp_path, frame_stride=stride, control_hz=20), "a") as recorder:
        for step in range(8):
            recorder.add(seen_at(3), step=step, plan=plan)
        recorder.finish(seen_at(2), 8 * [np.zeros(7, np.float32)], success=False)
    steps = [pair.step for pair in read_pairs(tmp_path, "a")]
    assert steps == list(range(0, 9, stride))


def seen_at(column: float) -> dict:
    return {"pixels": {"left": column_at(column)}}


def test_psnr_is_the_textbooks_and_finite_for_equal_images() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(grey, grey + 10) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(grey, grey) == pytest.approx(20 * np.log10(255 * np.sqrt(12)))


def test_a_pair_is_measured_against_the_imagined_and_against_the_plans_first_view() -> None:
    start, end = column_at(9), column_at(7)
    pairs = [
        Pair(plan=0, frame=0, step=0, executed={"left": start}, imagined={"left": start}),
        Pair(plan=0, frame=1, step=2, executed={"left": end}, imagined={"left": end}),
        Pair(plan=1, frame=0, step=2, executed={"left": end}, imagined={"left": start}),
    ]
    first, second, third = compare(pairs, latents=lambda images: np.stack(images).astype(float))
    assert (first.ssim, first.latent) == (1, 0)
    assert second.copy_psnr == psnr(start, end) < second.psnr
    assert third.copy_psnr == psnr(end, end)  # its own plan's first view
    assert third.ssim < 0.9
    assert third.latent == pytest.approx(np.sqrt(2 / SIDE) * 180)


def test_drift_is_the_loss_of_the_worst_view_from_first_to_last_frame(evaluation: Path) -> None:
    pairs = list(read_pairs(evaluation, "Reach-00030"))
    matches = compare(pairs)
    plans = followed(matches, last=2)
    assert [plan.step for plan in plans] == [0, 4, 8, 12, 16]
    at = {(m.frame, m.view): m.psnr for m in matches if m.plan == 3}
    losses = [at[0, view] - at[2, view] for view in ("left", "right")]
    assert plans[3].drift == max(losses) > 5
    assert plans[3].psnr == min(at[2, "left"], at[2, "right"])


def test_a_plan_that_the_end_cut_short_has_no_drift(evaluation: Path) -> None:
    short = [n for n in range(12) if (len(journal_steps(evaluation, n)) % EXECUTE) in (1, 2, 3)]
    name = f"Reach-{short[0]:05d}"
    matches = compare(read_pairs(evaluation, name))
    assert len(followed(matches, last=2)) == max(m.plan for m in matches)


def journal_steps(folder: Path, seed: int) -> list:
    return json.loads((folder / f"traces/Reach-{seed:05d}.json").read_text())["actions"]


def test_five_percent_of_enough_successful_plans_are_beyond_each_threshold() -> None:
    drifts = [range(5 * i, 5 * i + 5) for i in range(5)]
    episodes = [plans_with(*values, start=20 + i) for i, values in enumerate(drifts)]
    found = calibrate(episodes)
    assert found is not None
    assert (found.start, found.drift) == pytest.approx((20, 0.95 * 24))
    assert calibrate(episodes[:4]) is None
    assert calibrate([episode[:3] for episode in episodes]) is None


@pytest.mark.parametrize(
    ("elsewhere", "unfollowed", "of", "mostly"),
    [
        *((0, 1, 5, "followed"), (0, 2, 5, "unfollowed"), (1, 2, 5, "unfollowed")),
        *((0, 3, 25, "followed"), (0, 4, 25, "unfollowed"), (3, 4, 25, "unfollowed")),
        *((4, 4, 25, "elsewhere"), (4, 0, 25, "elsewhere"), (5, 0, 5, "elsewhere")),
        (0, 0, 3, "followed"),
    ],
)
def test_the_rule_counts_plans(elsewhere: int, unfollowed: int, of: int, mostly: str) -> None:
    plans = plans_with(*[9.0] * elsewhere, start=10)  # drift does not count where none can follow
    plans += plans_with(*[3.0] * unfollowed, *[0.5] * (of - elsewhere - unfollowed))
    verdict = judge(plans, Thresholds(start=20, drift=1.0))
    wanted = Verdict(mostly=mostly, elsewhere=elsewhere, unfollowed=unfollowed, plans=of)  # type: ignore[arg-type]
    assert verdict == wanted


def test_an_episode_without_a_whole_plan_gets_no_verdict() -> None:
    assert judge([], Thresholds(start=20, drift=1.0)) is None


def test_failures_are_split_by_whether_the_world_did_as_imagined(evaluation: Path) -> None:
    results = audit(AuditSettings(folder=evaluation))
    assert results["video_followed"] == ["Reach-00020", "Reach-00021"]
    assert results["actions"] == ["Reach-00030", "Reach-00031", "Reach-00032"]
    assert results["video_elsewhere"] == ["Reach-00033"]
    assert results["successes_flagged"] == {"elsewhere": 0, "unfollowed": 0}
    assert (results["n"], results["successes"], results["not_recorded"]) == (18, 12, 1)
    assert results == json.loads((evaluation / "audit.json").read_text())


def test_the_means_are_by_view_horizon_and_outcome(evaluation: Path) -> None:
    rows = audit(AuditSettings(folder=evaluation))["by_view"]
    assert len(rows) == 2 * 3 * 2
    table = list(csv.DictReader((evaluation / "audit.csv").open()))
    wanted = [
        float(row["psnr"])
        for row in table
        if (row["view"], row["frame"], row["success"]) == ("right", "2", "False")
    ]
    (row,) = [r for r in rows if (r["view"], r["frame"], r["success"]) == ("right", 2, False)]
    assert row["n"] == len(wanted) == 6 * 5
    assert row["psnr"] == pytest.approx(np.mean(wanted), abs=1e-4)
    assert row["latent"] is None


def test_too_few_successes_are_measured_but_not_split(evaluation: Path, tmp_path: Path) -> None:
    lines = (evaluation / "journal.jsonl").read_text().splitlines(keepends=True)
    for kind in ("pairs", "traces"):
        shutil.copytree(evaluation / kind, tmp_path / kind)
    (tmp_path / "journal.jsonl").write_text("".join(lines[10:18]))
    results = audit(AuditSettings(folder=tmp_path))
    assert results["thresholds_db"] is None
    assert len(results["no_verdict"]) == 6
    given = audit(AuditSettings(folder=tmp_path, threshold=3.0, start_threshold=25.0))
    counts = [len(given[name]) for name in ("video_elsewhere", "video_followed", "actions")]
    assert counts == [1, 2, 3]


def test_the_page_shows_both_groups_and_needs_no_network(evaluation: Path) -> None:
    audit(AuditSettings(folder=evaluation, show=1))
    page = (evaluation / "audit.html").read_text()
    assert "it began elsewhere: 1" in page
    assert "it was followed: 2" in page
    assert "The actions were not right: 3" in page
    assert page.count("data:video/mp4;base64,") == 4  # one of each group, and a success
    assert page.count("data:image/jpeg;base64,") == 8  # two plans of each
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)]{1,40})', page)
    assert all(source.startswith("data:") for source in sources)


def test_the_latent_distance_is_measured_by_the_agent_that_flew(tmp_path: Path) -> None:
    from small import small_model

    from vp_agent.folder import fingerprint, save_agent

    save_agent(small_model(), tmp_path / "agent", card="")
    hashed = fingerprint(tmp_path / "agent")
    write_journal(tmp_path, [fly(tmp_path, 0, imagines=True, moves=False, agent=hashed)])
    rows = audit(AuditSettings(folder=tmp_path, agent=str(tmp_path / "agent")))["by_view"]
    assert all(row["latent"] > 0 for row in rows)


def test_another_agent_than_the_one_that_flew_is_refused(evaluation: Path) -> None:
    with pytest.raises(ConfigError, match=f"flown by the agent {AGENT}, but packaged:lift is"):
        audit(AuditSettings(folder=evaluation, agent="packaged:lift"))


def test_a_folder_without_recordings_is_refused_with_the_next_command(tmp_path: Path) -> None:
    line = {"env": "Reach-v0", "agent": AGENT, "seed": 0, "success": True, "video": None}
    with pytest.raises(EvaluationError, match="an outcome and no steps, plans, seconds_per_plan"):
        audit(AuditSettings(folder=write_journal(tmp_path, [line])))
    line |= {"steps": 1, "plans": 1, "wall_s": 1.0, "seconds_per_plan": 1.0}
    with pytest.raises(RecordingError, match=r"no recorded episode.*1 in the journal.*--record N"):
        audit(AuditSettings(folder=write_journal(tmp_path, [line])))


def test_recordings_outside_the_folder_and_damaged_films_are_refused(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    lines = [fly(theirs, 0, imagines=True, moves=True)]
    (mine / "traces").mkdir(parents=True)
    shutil.copy(theirs / "traces/Reach-00000.json", mine / "traces")
    (mine / "pairs").symlink_to(theirs / "pairs")
    with pytest.raises(RecordingError, match="missing or lies outside the folder"):
        audit(AuditSettings(folder=write_journal(mine, lines)))
    (theirs / "pairs/Reach-00000.mp4").write_bytes(b"no film")
    with pytest.raises(
        RecordingError, match=r"Reach-00000\.mp4 is damaged .*fly the episode again"
    ):
        audit(AuditSettings(folder=write_journal(theirs, lines)))


def test_pairs_of_another_flight_are_refused(tmp_path: Path) -> None:
    lines = [fly(tmp_path, seed, imagines=True, moves=seed == 0) for seed in (0, 1)]
    (tmp_path / "pairs/Reach-00000.mp4").replace(tmp_path / "pairs/Reach-00001.mp4")
    with pytest.raises(RecordingError, match="does not hold the 15 pairs"):
        audit(AuditSettings(folder=write_journal(tmp_path, lines[1:])))


def test_the_command_says_what_it_found(
    evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(evaluation), "--show", "0"]) == 0
    out = capsys.readouterr().out
    assert "18 recorded episodes" in out
    assert "6 failures: the video was wrong in 3 (it began elsewhere in 1, " in out
    assert "the actions were not right in 3" in out
    assert re.search(r"AUC 0\.\d\d \(95 % 0\.\d\d-[01]\.\d\d, first \d plans\)", out)
    assert str(evaluation / "audit.html") in out
