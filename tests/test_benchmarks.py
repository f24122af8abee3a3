"""The benchmarks run, and what they compare is the same thing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_plain_plan_gives_the_same_actions_with_and_without_each_saving(tmp_path):
    out = tmp_path / "plain.json"
    command = [sys.executable, str(BENCHMARKS / "plain_plan.py"), "--out", str(out)]
    flags = ["--preset", "tiny-lift", "--steps", "2", "--threads", "1"]
    subprocess.run([*command, *flags], check=True)
    rows = json.loads(out.read_text())
    assert len(rows) == 5
    # Random weights, guidance 2: actions of about 1, other orders of float32 sums.
    assert all(row["largest_action_difference"] < 1e-3 for row in rows)
