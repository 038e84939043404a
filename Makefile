# The build directory is outside the clone (see .ci/target-dir), unless the user chose another one.
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(shell .ci/target-dir)
endif
export PATH := $(HOME)/.cache/tenon/tools/bin:$(PATH)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

run: ## install what is missing, build what is needed, fetch a small model, serve it on http://localhost:8080
	@.ci/setup --run
	@.ci/fetch-model >/dev/null & fetch=$$!; .ci/build --run || exit; \
	wait $$fetch || { echo "The model could not be fetched: the reason is above." >&2; exit 1; }; \
	exec target/dist/tenon serve --config config/tenon.toml

build: setup ## leave the server in target/dist/tenon and its plugins in target/dist/plugins
	@.ci/build

dist: setup ## make the files of a release in target/dist: an archive and a Python wheel, for every CPU from x86-64-v2 on
	@.ci/dist

emulate: ## run the archive that `make dist` made on emulated CPUs, old and new
	@.ci/setup --emulate
	cargo run --quiet --release -p tenon-tests --example emulated -- target/dist/tenon-*-linux-x86_64.tar.gz

test: build ## run every test: documentation examples, unit tests, end-to-end tests
	@.ci/fetch-model >/dev/null
	cargo test --doc --release --workspace
	@if command -v cargo-nextest >/dev/null; then \
		cargo nextest run --release --workspace; \
	else \
		cargo test --release --workspace --tests; \
	fi

bench: build ## print the tables of tests/examples/benchmarks/README.md; PEERS=DIR with llama-server and llama-batched-bench compares with these
	@.ci/fetch-model >/dev/null
	cargo run --quiet --release -p tenon-tests --example benchmarks -- $(if $(PEERS),--peers $(PEERS)) $(BENCH)

lint: setup ## check format, dependencies, clippy and documentation; warnings are errors
	cargo fmt --all --check
	@if command -v cargo-deny >/dev/null; then \
		cargo deny check --hide-inclusion-graph licenses bans sources; \
	else \
		echo "cargo-deny is not installed: licences and sources are not checked (.ci/setup --ci installs it)."; \
	fi
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

setup: ## install the system packages the build needs and this machine lacks
	@.ci/setup

.PHONY: help run build dist emulate test bench lint setup
