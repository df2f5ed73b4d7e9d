# memsuite: `make demo` trains the golden run, `make test` runs the tests; both set up first. Nothing else is needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
SHELL := /bin/bash
BEYOND := 50,100,200,500,1000,2000,5000,10000,20000,50000,100000,200000,500000,1000000
# Small matrices: one thread a process is faster than two, and leaves the other cores to other runs.
export OMP_NUM_THREADS ?= 1
# Bytecode is kept: the tests start hundreds of processes, and each would compile the whole package anew. Set-up leaves compiling to the
# first import, as most of what it installs is never imported.
unexport PYTHONDONTWRITEBYTECODE

CPP := $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*.cuh tests/ops/build/emulated/*.h)

.PHONY: setup demo test test-pythons notebooks jupyter site peers clusters test-slow fuzz learn docs reference reference-v1 recipe recipe-v1 controls horizons beyond contamination map minigrid pendulum products solve-easy solve-medium solve-hard solve-extreme longest records bench-peers bench-learning bench-recurrent-ppo bench-gymnasium gpu-check check clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("memsuite needs Python 3.10 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	@begin=$$SECONDS; set -e; \
	  $(PYTHON) -m venv $(VENV); \
	  $(RUN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	  $(RUN)/memsuite build || true; \
	  touch $@; \
	  echo "set-up took $$((SECONDS - begin)) s"

demo: setup
	@begin=$$SECONDS; set -e; \
	  $(RUN)/memsuite fit --config configs/golden.yaml --out runs/golden --overwrite; \
	  echo "the golden run took $$((SECONDS - begin)) s"

test: setup
	@begin=$$SECONDS; set -e; \
	  $(RUN)/ruff check .; \
	  $(RUN)/ruff format --check --quiet .; \
	  $(RUN)/clang-format --dry-run --Werror $(CPP); \
	  $(RUN)/mypy > $(VENV)/mypy.txt & types=$$!; \
	  $(RUN)/pytest -n 4 --dist worksteal -m 'not slow and not gpu and not learns'; \
	  wait $$types || { cat $(VENV)/mypy.txt; exit 1; }; \
	  echo "the tests took $$((SECONDS - begin)) s"

# Runs every notebook top to bottom; the executed copies, with their figures, are left in notebooks/executed/.
notebooks: setup
	@begin=$$SECONDS; set -e; mkdir -p notebooks/executed; \
	  $(RUN)/jupyter execute --timeout 600 --output 'executed/{notebook_name}' notebooks/*.ipynb; \
	  echo "the notebooks took $$((SECONDS - begin)) s"

# Opens the notebooks in a browser.
jupyter: setup
	$(RUN)/pip install --quiet --disable-pip-version-check 'jupyterlab>=4.2'
	$(RUN)/jupyter lab notebooks

$(VENV)/.docs: $(VENV)/.ready
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

# The documentation as a site that can be searched, into site/: python -m http.server -d site shows it. Nothing is downloaded; a
# link that leads nowhere, and every other warning, fails. The notebooks are run first where they have changed.
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
site: $(VENV)/.docs $(NOTEBOOKS:notebooks/%=notebooks/executed/%)
	@begin=$$SECONDS; set -e; \
	  NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --quiet; \
	  echo "the site took $$((SECONDS - begin)) s: site/index.html"

notebooks/executed/%.ipynb: notebooks/%.ipynb
	@mkdir -p notebooks/executed
	$(RUN)/jupyter execute --timeout 600 --output 'executed/{notebook_name}' $<

# The tests, once with every Python that is found, each in an environment of its own.
PYTHONS ?= 3.10 3.11 3.12 3.13
test-pythons:
	tests/pythons.sh $(PYTHONS)

# Other people's agents on our tasks, and POPGym's environments under our agents, need their packages.
peers: setup
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peers]'

# So do suites on clusters.
clusters: setup
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,slurm]'

test-slow: peers clusters
	$(RUN)/pytest -m 'slow and not gpu and not learns' --timeout 3600
	$(RUN)/pytest tests/controllers/test_laws.py --hypothesis-profile many --timeout 3600

# What users bring, drawn: 2,000 examples of each kind, or as many as MEMSUITE_FUZZ says; the last lines count them. Half an hour on one core.
fuzz: setup
	$(RUN)/pytest tests/strangers/fuzz -m slow --timeout 7200

# What is reported to be learnt, on seeds 0-4: writes results/*.jsonl.
learn: peers
	$(RUN)/pytest -m learns --timeout 7200 -s

# The tables of README.md and docs/ that are made from results/.
docs: setup
	$(RUN)/python docs/tables.py

# What is published as reached: trains or goes on with the suite (days of two cores), then its file of results and a report.
reference: setup
	$(RUN)/memsuite suite configs/suites/reference_v2.yaml
	$(RUN)/memsuite report --results runs/reference_v2 --out report --overwrite --collect results/reference_v2.jsonl

# The same of the first recipe.
reference-v1: setup
	$(RUN)/memsuite suite configs/suites/reference_v1.yaml
	$(RUN)/memsuite report --results runs/reference_v1 --out report --overwrite --collect results/reference.jsonl

# What each part of the recipe is worth (docs/recipe.md): about twenty minutes on two cores.
recipe: setup
	$(RUN)/memsuite suite configs/suites/recipe_v2.yaml
	$(RUN)/memsuite report --results runs/recipe_v2 --out report --overwrite --collect results/recipe_v2.jsonl

# The same of the first recipe.
recipe-v1: setup
	$(RUN)/memsuite suite configs/suites/recipe_v1.yaml
	$(RUN)/memsuite report --results runs/recipe_v1 --out report --overwrite --collect results/recipe.jsonl

# What has no memory, or cannot bind, and must stay below the ceiling of its kind: about half an hour on two cores.
controls: setup
	$(RUN)/memsuite suite configs/suites/controls_v1.yaml
	$(RUN)/memsuite report --results runs/controls_v1 --out report --overwrite --collect results/controls.jsonl
	$(RUN)/memsuite suite configs/suites/controls_second_v1.yaml
	$(RUN)/memsuite report --results runs/controls_second_v1 --out report --overwrite --collect results/controls_second.jsonl
	$(RUN)/memsuite suite configs/suites/controls_window_v2.yaml
	$(RUN)/memsuite report --results runs/controls_window_v2 --out report --overwrite --collect results/controls_window.jsonl

# Steps until delayed cue is learnt against its horizon, to 5,000 steps: about half an hour on two cores.
horizons: setup
	$(RUN)/memsuite suite configs/suites/horizons_v1.yaml
	$(RUN)/memsuite report --results runs/horizons_v1 --out report --overwrite --collect results/horizons.jsonl

# How far beyond its training each controller holds: trains or goes on with the suite, then evaluates every run at up to a
# million steps; what is measured already is not measured again.
beyond: setup
	$(RUN)/memsuite suite configs/suites/beyond_v1.yaml
	$(RUN)/memsuite retention runs/beyond_v1 --horizons $(BEYOND) --episodes all --out results/beyond.json --plot docs/images/retention.png

# Whether a memory holds through a delay that is not blank: trains or goes on with the suite, then asks every run at 200 to
# 100,000 steps with three amounts of noise; a blank delay has one episode a cue, of the others 32 are drawn.
contamination: setup
	$(RUN)/memsuite suite configs/suites/contamination_v2.yaml
	$(RUN)/memsuite retention runs/contamination_v2 --horizons 200,1000,10000,100000 --task_args.noise 0,0.01,0.1 --episodes all,32 \
	  --out results/contamination.json --plot docs/images/contamination.png

# The map of solved cells: trains or goes on with the suite (hours of two cores), then its results, table and picture.
map: setup
	$(RUN)/memsuite suite configs/suites/map_v2.yaml
	$(RUN)/memsuite report --results runs/map_v2 --out report --overwrite --collect results/map_v2.jsonl
	$(RUN)/memsuite bench map --runs results/map_v2.jsonl --out results/map.json --plot docs/images/map.png

# MiniGrid's MemoryS7, seeds 0 to 2.
minigrid: peers
	for seed in 0 1 2; do \
	  $(RUN)/memsuite fit --config minigrid_memory --seed $$seed --out runs/minigrid_memory/seed$$seed --overwrite || exit 1; \
	done
	$(RUN)/memsuite report --results runs/minigrid_memory --out report --overwrite --collect results/minigrid_memory.jsonl
	cp report/figures/curves.png docs/images/minigrid_memory.png

# Pendulum without its velocity in 100,000 steps, seeds 0 to 4.
pendulum: setup
	$(RUN)/memsuite suite configs/suites/pendulum_v1.yaml
	$(RUN)/memsuite report --results runs/pendulum_v1 --out report --overwrite --collect results/pendulum_v1.jsonl
	cp report/figures/curves.png docs/images/pendulum.png

# Products in bfloat16, on a processor that has them: how fast they are beside float32, and that they learn alike.
products: setup
	$(RUN)/memsuite bench training --controllers gru,s5,mamba,gated_deltanet,linear_attention,transformer,mlstm,rwkv7 \
	  --horizons 200 --products float32,bfloat16 --repeats 4 --out results/products.json
	$(RUN)/memsuite suite configs/suites/products_v1.yaml
	$(RUN)/memsuite report --results runs/products_v1 --out report --overwrite --collect results/products_v1.jsonl

# One solved cell of each tier, the cheapest, from scratch until its target: seconds each.
solve-easy: setup
	$(RUN)/memsuite suite configs/suites/map_v2.yaml --only delayed_cue-easy/lru/seed0
solve-medium: setup
	$(RUN)/memsuite suite configs/suites/map_v2.yaml --only delayed_cue-medium/lru/seed0
solve-hard: setup
	$(RUN)/memsuite suite configs/suites/map_v2.yaml --only delayed_cue-hard/lru/seed0
solve-extreme: setup
	$(RUN)/memsuite suite configs/suites/map_v2.yaml --only delayed_cue-extreme/gru/seed0

# A wait of 20,000 steps, learnt from scratch: one seed of a GRU and of an LRU, a minute or two.
longest: setup
	$(RUN)/memsuite suite configs/suites/longest_v2.yaml --only delayed_cue-extreme-H20000/gru/seed0 --only delayed_cue-extreme-H20000/lru-free/seed0

# All the longest waits (hours), and what they took.
records: setup
	$(RUN)/memsuite suite configs/suites/longest_v2.yaml
	$(RUN)/memsuite report --results runs/longest_v2 --out report --overwrite --collect results/longest_v2.jsonl
	$(RUN)/memsuite bench records --out results/records.json

# Training beside JAX and memax, in turn, each with one thread on core 1: half an hour at 200 steps, an hour at 1,000, on a core of its own.
PEERS = gru s5 mamba gated_deltanet linear_attention transformer memax_s6 memax_gdn memax_gdn_64 memax_fart memax_fart_64
OURS = gru,lru,s5,s5:mlp_ratio=0,pseudo_mamba,mamba,gated_deltanet,linear_attention,transformer
bench-peers: setup .venv-jax/bin/python
	for horizon in 200 1000; do \
	  taskset -c 1 $(RUN)/memsuite bench peers --controllers $(OURS) --horizons $$horizon --repeats 7 --out results/peers_$$horizon.json \
	    $(foreach cell,$(PEERS),--peer 'jax_$(cell)=.venv-jax/bin/python tests/peers/jax_ppo.py --cell $(cell) --horizon {horizon} --span 200 --repeats 1') \
	    || exit 1; \
	done

# CPU time until delayed cue is learnt, beside JAX with settings chosen for each model: about two hours of one core.
bench-learning: setup .venv-jax/bin/python
	taskset -c 1 $(RUN)/python tests/peers/learning.py .venv-jax/bin/python

.venv-jax/bin/python:
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'optax==0.2.8' 'memax==0.1.1' 'equinox==0.13.8'

# Training on CartPole without its velocities and on distractor_nav beside sb3-contrib, TorchRL and a loop in the style of CleanRL, into
# results/peers_recurrent_ppo.json.
bench-recurrent-ppo: setup
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gym]' 'sb3-contrib==2.9.2' 'torchrl==0.14.1'
	taskset -c 0 $(RUN)/python tests/peers/recurrent_ppo/compare.py .venv-peers/bin/python

# sb3-contrib on MiniGrid's MemoryS7 and on Pendulum, beside results/minigrid_memory.jsonl and pendulum_v1.jsonl.
bench-gymnasium: setup
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gym]' 'sb3-contrib==2.9.2' minigrid
	.venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py
	.venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py --task pendulum

# On a machine with a GPU: what is built, what runs and with which numbers (results/gpu.json, written after every step), the
# gpu tests (gpu_tests.txt), then how fast it trains (gpu_speed.json). The most valuable comes first, so a check that is cut
# short is worth something; a part that fails, or kernels that cannot be built, do not end it, and are told by its status.
KEPT := $${XDG_CACHE_HOME:-$$HOME/.cache}/memsuite
gpu-check: setup
	@begin=$$SECONDS; failed=0; set -o pipefail; \
	  timeout -k 9 300 $(RUN)/memsuite build 2>&1 | tee results/gpu_build.txt || \
	    { failed=1; tail -n 40 $(KEPT)/c*.log 2>&1 | tee -a results/gpu_build.txt; }; \
	  $(RUN)/memsuite bench gpu --stages build,ops,controllers,golden --out results/gpu.json || failed=1; \
	  timeout -k 9 300 $(RUN)/pytest -m gpu -W default --timeout 300 | tee results/gpu_tests.txt || failed=1; \
	  $(RUN)/memsuite bench gpu --stages training,processes,profile --out results/gpu_speed.json || failed=1; \
	  echo "the check took $$((SECONDS - begin)) s"; exit $$failed

clean:
	rm -rf $(VENV) .venvs site runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
