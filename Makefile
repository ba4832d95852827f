# Everything a developer or a CI machine runs. Each target installs what it lacks (see .ci/deps).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.ONESHELL:

export PATH := $(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin:$(PATH)

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Hosts of the labs are made of namespaces, which takes root. Only the programs run as root when the
# user is not: cargo itself and all that it writes stay the user's.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
# More arguments for the test run: make test T='-E "binary(kernel)"'
T ?=

.PHONY: build demo bpf bpf-check test test-all sim faults bench lint static plugin dist deb clean-labs deps deps-rust deps-test deps-lint \
	deps-bench deps-bpf

build: deps-rust
	cargo build --locked --workspace

# The kernel carries the packets: an optimised build would show the same, minutes later.
demo: deps
	cargo build --locked --workspace --bins
	$(SUDO) $(TARGET)/debug/netns-harness demo --daemon $(TARGET)/debug/rs-overlay

# A binary that needs nothing of the machine it runs on: $(STATIC). Only the last link is another one than in
# a plain build, so all that was compiled for one serves the other: PROFILE=dev costs a second where a plain
# build is up to date. (RUSTFLAGS would compile everything anew, and fail at procedural macros.)
PROFILE ?= dist
STATIC := $(TARGET)/static/$(PROFILE)/rs-overlay

static: deps-rust
	cargo rustc --locked --profile $(PROFILE) --bin rs-overlay -- -C target-feature=+crt-static -C strip=symbols
	install -D $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/rs-overlay $(STATIC)

# What `docker plugin create rs-overlay $(PLUGIN)` takes.
PLUGIN ?= $(TARGET)/plugin

plugin: static
	rm -rf $(PLUGIN)
	install -D $(STATIC) $(PLUGIN)/rootfs/rs-overlay
	install -m 644 plugin-config.json $(PLUGIN)/config.json

# All that a release is made of, with sums that `sha256sum -c` accepts: the binary, the Debian package, the
# managed plugin's directory, completions and man pages. PROFILE=dev makes the same from a quick build.
DIST ?= $(TARGET)/dist
RELEASE := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
MACHINE := $(shell uname -m)

dist: plugin
	rm -rf $(DIST)
	install -D $(STATIC) $(DIST)/rs-overlay-$(RELEASE)-linux-$(MACHINE)
	packaging/build-deb $(STATIC) $(DIST)
	mkdir -p $(DIST)/completions
	for shell in bash zsh fish; do $(STATIC) completions $$shell >$(DIST)/completions/rs-overlay.$$shell; done
	epoch="$$(git log -1 --format=%ct 2>/dev/null || date +%s)"
	$(STATIC) man-pages $(DIST)/man "$$(date -u -d "@$$epoch" +%F)"
	pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$$epoch" -c "$$@" | gzip -9n; }
	pack -C $(PLUGIN) . >$(DIST)/rs-overlay-$(RELEASE)-plugin.tar.gz
	pack -C $(DIST) man completions >$(DIST)/rs-overlay-$(RELEASE)-docs.tar.gz
	cd $(DIST)
	find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS
	sha256sum --check --quiet SHA256SUMS
	ls -l *
	size="$$(stat -c %s rs-overlay-$(RELEASE)-linux-$(MACHINE))"
	printf 'dist: the binary has %d.%d MB, the goal is less than 15\n' $$((size / 1000000)) $$((size / 100000 % 10))

# The Debian package alone.
deb: static
	packaging/build-deb $(STATIC) $(DIST)

# The fast path's programs for the kernel. The object is committed, so that nobody who only builds needs clang; its
# version is fixed, because another one would make another object of the same source.
BPF := src/dataplane/fast_path/program
BPF_CLANG := clang-14 -O2 -g -target bpf -mcpu=v3 -fno-addrsig -fdebug-compilation-dir=. -Wall -Wextra -Werror -c

bpf: deps-bpf
	$(BPF_CLANG) $(BPF).c -o $(BPF).o
	llvm-strip-14 -g $(BPF).o

bpf-check: deps-bpf
	@made="$$(mktemp)"
	trap 'rm -f "$$made"' EXIT
	$(BPF_CLANG) $(BPF).c -o "$$made"
	llvm-strip-14 -g "$$made"
	cmp -s "$$made" $(BPF).o || { echo "$(BPF).o is not what $(BPF).c makes: run 'make bpf'" >&2; exit 1; }

# Doc tests first, so that the output ends with the summary of all others. An ignored test is a test that
# nobody runs: ALLOW_SKIP=1 lets one pass.
test: deps deps-test
	@runner="$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')"
	if [ -n "$(SUDO)" ]; then export "CARGO_TARGET_$${runner}_RUNNER=$(SUDO)"; fi
	cargo test --locked --workspace --doc --quiet
	$(MAKE) --no-print-directory plugin PROFILE=dev PLUGIN=$(TARGET)/test-plugin
	export RS_OVERLAY_PLUGIN="$(TARGET)/test-plugin"
	ignored="$$(cargo nextest list --locked --workspace --run-ignored only --message-format oneline)"
	if [ -n "$$ignored" ] && [ "$(ALLOW_SKIP)" != 1 ]; then
		printf 'make test: ignored tests are not allowed (ALLOW_SKIP=1 lets them pass):\n%s\n' "$$ignored" >&2
		exit 1
	fi
	cargo nextest run --locked --workspace $(T)

# Everything that `make test` runs, with the whole matrix of engines, modes, stores and families;
# writes docs/COMPATIBILITY.md from what passed.
test-all: export RS_OVERLAY_MATRIX := all
test-all: export RS_OVERLAY_TEST_ALL := 1
test-all: test

# Real faults in full: `make test` plays a part of the rounds. One round again: RS_OVERLAY_FAULT_SEED=… make faults
faults: deps deps-test
	@runner="$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')"
	if [ -n "$(SUDO)" ]; then export "CARGO_TARGET_$${runner}_RUNNER=$(SUDO)"; fi
	export RS_OVERLAY_FAULT_ROUNDS="$${RS_OVERLAY_FAULT_ROUNDS:-300}"
	cargo nextest run --locked --profile faults -E 'binary(engines_faults)' $(T)

# Ten thousand simulated clusters, or as many as fit in five minutes; SEED=n replays one of them and tells
# all that happens in it.
SEED ?=
SEEDS ?= 10000
BUDGET ?= 300

sim: deps-rust deps-test
	@if [ -n "$(SEED)" ]; then
		SEED=$(SEED) cargo nextest run --locked --cargo-profile sim --test sim --no-capture no_seed
	else
		SEEDS=$(SEEDS) BUDGET=$(BUDGET) cargo nextest run --locked --cargo-profile sim --test sim --no-capture
	fi

# The figures of docs/performance.md, measured anew in about ten minutes, after an optimised build of the daemon and
# of the bench: $(TARGET)/bench has the report. Some groups only: make bench ONLY=1,3 (`make bench ARGS=--help` lists
# them); a first look in about two minutes: QUICK=1; with the time of builds from nothing, which take minutes: COLD=1;
# with the tables put into docs/performance.md: DOC=1.
ONLY ?=
QUICK ?=
COLD ?=
DOC ?=
ARGS ?=

bench: deps deps-bench
	@runner="$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')"
	if [ -n "$(SUDO)" ]; then export "CARGO_TARGET_$${runner}_RUNNER=$(SUDO)"; fi
	cargo bench --locked --bench figures -- --out "$(abspath $(TARGET))/bench" $(if $(ONLY),--only $(ONLY)) \
		$(if $(QUICK),--quick) $(if $(COLD),--cold-build) $(if $(DOC),--document docs/performance.md) $(ARGS)

# Advisories are not checked here: their database is fetched from a git host, and a check that needs one
# fails on machines that reach the crate registry only. Where it can be had: cargo deny check advisories
lint: deps-rust deps-lint bpf-check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	cargo deny --locked check bans licenses sources
	bash -n .ci/run .ci/deps packaging/build-deb
	sh -n packaging/deb/postinst; sh -n packaging/deb/prerm; sh -n packaging/deb/postrm

# Takes down every lab of this machine, also one that somebody is using. What a killed test or demo leaves
# behind is cleared away by the next one as well.
clean-labs: deps-rust
	cargo build --locked --bins -p netns-harness
	$(SUDO) $(TARGET)/debug/netns-harness down --all

deps:
	@.ci/deps rust lab

deps-rust deps-test deps-lint deps-bench deps-bpf: deps-%:
	@.ci/deps $*
