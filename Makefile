# One word per job. OUT=... and EPISODES=... change the demo; MUJOCO_GL=egl renders on a GPU.
.PHONY: setup demo test test-parity test-libero check clean

export MUJOCO_GL ?= osmesa
PYTHON := .venv/bin/python
EPISODES ?= 5
OUT ?= outputs/demo
# without a folder LIBERO's assets come from the Hugging Face Hub
LIBERO_ASSETS := $(or $(VP_AGENT_LIBERO_ASSETS),$(wildcard ../shared/libero_assets))

setup:
	@scripts/setup.sh

demo: setup
	.venv/bin/vp-agent demo --agent packaged:lift --episodes $(EPISODES) --out $(OUT)

test: setup
	$(PYTHON) -m pytest -n 2 --dist loadfile

# On the plainest arithmetic that torch has: a bound must hold on a processor without AVX, too.
test-parity: setup
	ATEN_CPU_CAPABILITY=default $(PYTHON) -m pytest -n 2 --dist loadfile tests/test_parity_*.py tests/test_savings.py tests/test_model.py

test-libero:
	@scripts/setup.sh .venv-libero libero pytest
	VP_AGENT_LIBERO_ASSETS=$(LIBERO_ASSETS) .venv-libero/bin/python -m pytest tests/test_libero_real.py

check: setup
	.venv/bin/ruff check .
	.venv/bin/typos
	.venv/bin/pyright
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow"

clean:
	rm -rf .venv .venv-libero build dist outputs *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
