"""`vp-agent bench`: a table of a plan's parts, of an agent or of a preset with random weights."""

import json

import pytest
import torch
from small import SMALL, small_model

from vp_agent.bench import PARTS, BenchSettings, bench, random_policy
from vp_agent.errors import ConfigError
from vp_agent.folder import save_agent


def test_bench_writes_the_parts_of_a_plan(tmp_path, capsys):
    save_agent(small_model(), tmp_path / "agent", card="")
    out = tmp_path / "bench.json"
    settings = BenchSettings(agent=str(tmp_path / "agent"), video=True, repeats=2, out=out)
    bench(settings)
    results = json.loads(out.read_text())
    parts = [results["median_s"][part] for part in PARTS]
    assert all(seconds > 0 for seconds in parts)
    assert len(results["plans_s"]) == 2
    assert max(parts) < results["median_s"]["plan"]
    assert results["unet_tflop_per_step"] > 0
    printed = capsys.readouterr().out
    assert all(f"| {part} |" in printed for part in PARTS)


def test_without_the_video_nothing_is_decoded(tmp_path):
    save_agent(small_model(), tmp_path / "agent", card="")
    results = bench(BenchSettings(agent=str(tmp_path / "agent"), repeats=1, warmup=0))
    assert results["median_s"]["decode video"] == 0


def test_random_weights_are_the_same_at_every_call_and_keep_the_signal_finite():
    a, b = random_policy(SMALL), random_policy(SMALL)
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)
    video, text = torch.ones(1, 7, 4, 4, 4), torch.ones(1, 1, 32)
    with torch.no_grad():
        out = a(video, video, text, torch.zeros(1), torch.ones(1, 1, 8, 7))
    assert all(x.isfinite().all() for x in out)


def test_what_to_measure_must_be_one_thing():
    with pytest.raises(ConfigError, match="either --agent or --preset"):
        BenchSettings()
    with pytest.raises(ConfigError, match="goes with --preset"):
        BenchSettings(agent="packaged:lift", resolution=(64, 64))
