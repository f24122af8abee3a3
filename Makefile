# One word per job. OUT=... and EPISODES=... change the demo; MUJOCO_GL=egl renders on a GPU.
.PHONY: setup demo test check clean

export MUJOCO_GL ?= osmesa
PYTHON := .venv/bin/python
EPISODES ?= 5
OUT ?= outputs/demo

setup:
	@scripts/setup.sh

demo: setup
	.venv/bin/vp-agent demo --agent packaged:lift --episodes $(EPISODES) --out $(OUT)

test: setup
	$(PYTHON) -m pytest -n 2 --dist loadfile

check: setup
	.venv/bin/ruff check .
	.venv/bin/typos
	.venv/bin/pyright
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow"

clean:
	rm -rf .venv build dist outputs *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
