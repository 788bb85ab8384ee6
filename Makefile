# The commands of this project. `make` alone lists them.
#
# All of them share one cargo profile and one target folder: RocksDB is compiled once.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/twinkeep/target
RUNS ?= 100
BIN := $(CARGO_TARGET_DIR)/release
.DEFAULT_GOAL := help
.PHONY: help build run down demo bench bench-failover bench-learners flamegraphs test negative-controls fix screenshots

help: ## Lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Installs what is missing and builds the binaries (RocksDB: 12 to 17 minutes, once)
	@scripts/setup
	@cargo build --release --locked --workspace

run: build ## Starts a two-zone cluster of five processes on this machine, with a first key
	@$(BIN)/twinkeep dev up

down: ## Stops that cluster; it keeps its keys
	@$(BIN)/twinkeep dev down

demo: build ## Kills a zone under load, measures what callers notice, writes reports/demo.json
	@$(BIN)/twinkeep dev demo

bench: build ## Measures a cluster beside its yardsticks (7 minutes), writes reports/bench.json and bench.svg
	@scripts/setup bench
	@$(BIN)/twinkeep-bench $(BENCH)

bench-failover: build ## Loses zones 100 times each way, as root (an hour; it can be interrupted); RUNS=n for fewer
	@scripts/setup bench
	@$(BIN)/twinkeep-failover --runs $(RUNS) $(BENCH)

bench-learners: build ## Measures what 0, 2 and 4 serving learners add, as root (8 minutes; it can be interrupted)
	@scripts/setup bench
	@$(BIN)/twinkeep-learners $(BENCH)

flamegraphs: build ## Draws where the time goes in each benchmark into docs/img (needs perf, as root)
	@scripts/setup bench
	@scripts/flamegraphs

test: ## Runs every check and every test
	@scripts/test

negative-controls: ## Switches guarantees off, one at a time, and sees tests go red (4 minutes each)
	@scripts/setup
	@scripts/negative-controls

fix: ## Formats and applies what clippy can mend
	@cargo fmt --all
	@cargo clippy --release --workspace --all-targets --fix --allow-dirty

screenshots: build ## Draws the pictures of `twinkeep cluster status` in docs/img anew
	@scripts/screenshots
