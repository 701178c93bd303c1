# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
UV := .tools/bin/uv
RUN := $(UV) run --frozen

# The images' Python, if this system has it: tests and benchmarks then run on the Python that ships,
# and other builds, such as pyenv's, are often slower by a fifth.
export UV_PYTHON ?= $(or $(wildcard /usr/bin/python3.11),3.11)

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "installing uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools
	@.tools/bin/python -m pip install --quiet "uv==$(UV_VERSION)"

.venv/installed: $(UV) Makefile pyproject.toml uv.lock .python-version
	@echo "installing the locked packages into .venv"
	@$(UV) sync --frozen --all-extras --quiet
	@touch $@

.PHONY: tools
tools: $(UV) .venv/installed ## uv and the locked environment, in this folder

.PHONY: lock
lock: $(UV) ## resolve pyproject.toml into uv.lock
	@$(UV) lock

.PHONY: generate
generate: tools ## write everything that is generated from a single source
	@$(RUN) python -m docs.generate

.PHONY: check
check: tools ## formatting, lint, types, layers, private names, words, generated files
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) pytest -q tests/unit/test_boundaries.py tests/unit/test_house_words.py tests/unit/test_test_names.py tests/unit/test_plain_english.py
	@$(RUN) python -m docs.generate --check

FAST := not (integration or cluster or node or benchmark or soak)
# Two files at once, in the order of their names; fixtures that a file's tests share are made once.
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder
# The oldest minor of Kubernetes that the chart takes, and what runs there each time: whether the
# definitions install and refuse, the adapter to the API server, and injection.
OLDEST := 1.29
ON_OLDEST := $(addprefix tests/,contract/test_cluster_port.py contract/test_class_crd.py \
	contract/test_limits_page.py integration/test_webhook.py)
FORM := $(if $(filter 0,$(shell id -u)),node,control-plane)

.PHONY: test
test: check ## every test: fast tiers first, then real Redis, OpenBao, Kubernetes
	@$(RUN) pytest -q $(BESIDE) -m "$(FAST)" tests
	@$(RUN) python -m dev.cluster build --form $(FORM)
	@$(RUN) python -m tests.parts.client_programs
	@$(RUN) pytest -q $(BESIDE) --all-rights-used -m "(integration or cluster) and not soak" tests
	@# Tests on a node mostly wait for kubelet, and leave a core to those on the oldest minor.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line test-node test-oldest

.PHONY: test-oldest
test-oldest: tools
	@KUBERNETES=$(OLDEST) $(RUN) python -m dev.cluster build --form control-plane
	@KUBERNETES=$(OLDEST) $(RUN) pytest -q -m cluster $(ON_OLDEST)

.PHONY: test-node
test-node: tools
ifeq ($(FORM),node)
	@$(RUN) pytest -q -m "node and not soak" tests
else
	@echo "not root: the tests that need a Kubernetes node were NOT run"; exit 1
endif

.PHONY: test-fast
test-fast: tools ## the tests that start no program of others
	@$(RUN) pytest -q $(BESIDE) -m "$(FAST)" tests

.PHONY: golden
golden: tools ## write tests/golden/files again, for an intended change of a public format
	@$(RUN) python -m tests.golden

.PHONY: demo
demo: tools ## show the main job on a real Kubernetes node; leaves it up; CLUSTER=current: on yours
ifneq ($(CLUSTER),current)
	@$(RUN) python -m dev.cluster build --form node
endif
	@$(RUN) python -m examples.demo up

.PHONY: push
push: tools ## build our images and push them to REGISTRY, for `make demo CLUSTER=current`
	@$(RUN) python -m examples.demo push

.PHONY: demo-down
demo-down: tools ## remove everything that `make demo` created
	@$(RUN) python -m examples.demo down

.PHONY: bench
bench: tools ## measure every path as a ratio to the raw server, into docs/benchmarks.md
	@$(RUN) python -m tests.benchmarks $(BENCH)

.PHONY: bench-peers
bench-peers: tools ## the same loads on LiteLLM and Portkey's gateway, side by side
	@$(RUN) python -m tests.benchmarks.peers

.PHONY: bench-clients
bench-clients: tools ## HTTP clients side by side in a bare proxy
	@$(RUN) python -m tests.benchmarks.clients

.PHONY: bench-secrets
bench-secrets: tools ## 2,000 policies with 3 synced Secrets each, written to docs
	@$(RUN) python -m dev.cluster build --form control-plane
	@$(RUN) python -m tests.benchmarks.secrets --page docs/benchmarks-secrets.md

.PHONY: bench-vectors
bench-vectors: tools ## a search against its own SQL, at 1,000 and 100,000 rows, into docs
	@$(RUN) python -m tests.benchmarks.vectors

.PHONY: compatibility
compatibility: tools ## run clients and servers again, and write docs/compatibility.md
	@$(RUN) python -m tests.compatibility

.PHONY: sbom
sbom: tools ## CycloneDX of our images into sbom/; fails on a licence that is not listed
	@$(RUN) python -m dev.sbom

.PHONY: kubernetes
kubernetes: tools ## the cluster tests on each minor of Kubernetes, and their table in docs
	@for minor in "" 1.33 1.29; do KUBERNETES=$$minor $(RUN) python -m dev.cluster build; done
	@$(RUN) python -m tests.kubernetes_versions

.PHONY: redis
redis: tools ## the tests of Redis on Redis and on Valkey, and their table in docs
	@$(RUN) python -m tests.redis_servers

.PHONY: pictures
pictures: tools ## docs/pictures, from a real run of sidecars, indexes, Redis, PostgreSQL and Prometheus
	@$(RUN) python -m tests.pictures

.PHONY: soak
soak: tools ## long campaigns, same code as in `make test`, two hours each at most; SOAK=NAME: one of them
	@$(RUN) python -m dev.cluster build --form $(FORM)
	@$(RUN) pytest -v -m "soak$(if $(filter node,$(FORM)),, and not node)" -k "$(SOAK)" tests

.PHONY: scale
scale: tools ## many policies beside a bare client, SCALE=NAME for one size; written to docs/scale.md
	@$(RUN) python -m dev.cluster build --form control-plane
	@$(RUN) python -m tests.scale --keep $(SCALE)
	@$(if $(SCALE),,$(RUN) python -m tests.scale.model --keep)
