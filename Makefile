# Each target installs what it needs: packages with tests/setup.sh, cargo's own tools in .cache/tools.

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := .cache/tools
DENY := $(TOOLS)/bin/cargo-deny
DENY_VERSION := 0.20.2
FUZZ_VERSION := 0.13.2
FUZZ_SECONDS ?= 30
# the advisories are no part of the crates: their database has to be fetched from GitHub
ADVISORIES ?= 0

# $(call tool,NAME,VERSION): unless that version is there already
tool = @"$(TOOLS)/bin/$1" --version 2>/dev/null | grep -qx "$1 $2" || \
	cargo install --locked --version $2 --root $(TOOLS) $1

# what the image holds: it runs on any Linux of this machine's kind
STATIC := $(shell uname -m)-unknown-linux-musl
IMAGE ?= queue-exporter:0.1.0
CYCLONEDX_VERSION := 0.5.9

.PHONY: help demo test test-pages e2e e2e-smoke e2e-latency e2e-killed e2e-activation pictures cluster test-libraries test-servers lint bench bench-libraries soak churn suite golden fuzz image tools chart-tools static fuzz-tools

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## real queues with real workers, and what the exporter says of them; DEMO_ARGS="--seconds 20" checks it and ends
	@tests/setup.sh redis-server gcc
	cargo build --locked --release --bin queue-exporter --example demo
	@$(TARGET)/release/examples/demo $(TARGET)/release/queue-exporter $(DEMO_ARGS)

test: chart-tools static ## all tests
	@tests/setup.sh redis-server prometheus prometheus-alertmanager buildah nodejs npm faketime
	cargo test --locked

test-pages: ## the alerts for real, through Prometheus and Alertmanager, and how soon each arrives
	@tests/setup.sh redis-server prometheus prometheus-alertmanager gcc
	cargo test --locked --test pages -- --nocapture

e2e: CLUSTER_TESTS =
e2e-smoke: CLUSTER_TESTS = burst exporter-killed
e2e-latency: CLUSTER_TESTS = latency
e2e-killed: CLUSTER_TESTS = killed
e2e-activation: CLUSTER_TESTS = activation
e2e: cluster ## the whole loop on the real control plane and KEDA, every scenario and fault; a report in target/e2e
e2e-smoke: cluster ## the same, of a burst with its drain and of a killed exporter
e2e-latency: cluster ## how soon workers come, beside KEDA's own redis trigger
e2e-killed: cluster ## how many long jobs are killed, beside KEDA's own redis trigger
e2e-activation: cluster ## how soon the first worker of an idle queue comes, with the real defaults, for each kind of trigger
e2e e2e-smoke e2e-latency e2e-killed e2e-activation:
	tests/cluster/target/release/cluster $(CLUSTER)/bin .cache/chart $(TARGET)/release/queue-exporter target/e2e $(CLUSTER_TESTS)

pictures: cluster ## the dashboards with live data, drawn by our own page into docs/
	@tests/setup.sh nodejs npm chromium
	tests/cluster/target/release/cluster $(CLUSTER)/bin .cache/chart $(TARGET)/release/queue-exporter target/e2e pictures
	tests/pictures/draw.sh target/e2e/pictures.json .cache/pictures docs

test-libraries: ## real workers of nine libraries, each for LIVE_SECONDS (60), against what the exporter says
	@tests/setup.sh redis-server gcc python3 nodejs npm ruby-sidekiq
	tests/live/setup.sh .cache/live
	LIVE_SECONDS=$(or $(LIVE_SECONDS),60) cargo test --locked --test live -- --ignored --test-threads=1

# Redis 6.0 has not all that the other tests set up, or take for true.
test-servers: MODELS = --test fifo_model --test libraries --test scaler --test stream_model
test-servers: ## the tests of what is read, against Redis 6.0 and 8.0 and Valkey 8.1 in place of this machine's Redis
	tests/servers.sh .cache/servers
	PATH="$(CURDIR)/.cache/servers/redis-6.0/bin:$$PATH" cargo test --locked $(MODELS) -- --skip recorded_queues
	for server in redis-8.0 valkey-8.1; do \
		PATH="$(CURDIR)/.cache/servers/$$server/bin:$$PATH" \
		cargo test --locked $(MODELS) --test differential --test discovery --test faults --test layouts --test matrix --test topologies || exit; \
	done

lint: tools ## format, clippy, dependencies; ADVISORIES=1 looks for known vulnerabilities too
	cargo fmt --check
	cargo fmt --check --manifest-path tests/cluster/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	$(DENY) --locked check bans licenses sources $(if $(filter 1,$(ADVISORIES)),advisories)

bench: ## this exporter against its peers
	@tests/setup.sh redis-server prometheus-redis-exporter gcc
	cargo bench --locked --bench peers

bench-libraries: ## this exporter against rq-exporter and BullMQ's own export
	@tests/setup.sh redis-server gcc python3 nodejs npm
	tests/live/setup.sh .cache/live
	cargo bench --locked --bench libraries

soak: ## 1,000 queues and 1,000 streams for SOAK_SECONDS (3600): memory, descriptors, and how soon first jobs are pushed
	@tests/setup.sh redis-server gcc
	SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) cargo bench --locked --bench soak

churn: ## 10,000 queues that come and go for SOAK_SECONDS (3600), five scrapers, Redis killed every five minutes: memory, descriptors, polls
	@tests/setup.sh redis-server gcc
	SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) cargo bench --locked --bench churn

suite: ## tuned rows of four workers under seven shapes of load, beside other ways to scale and the least possible cost; 15 minutes
	@tests/setup.sh gcc
	cargo bench --locked --bench suite

golden: chart-tools ## writes the golden files anew, the rendered manifests among them
	@tests/setup.sh redis-server prometheus gcc
	UPDATE_GOLDEN=1 cargo test --locked golden

fuzz: fuzz-tools ## from the recorded payloads on, each fuzz target for FUZZ_SECONDS (30); needs a nightly Rust
	@python3 tests/fuzz/seeds.py tests/fixtures tests/fuzz/corpus/library_payloads
	@export PATH="$(abspath $(TOOLS))/bin:$$PATH" && targets=$$(cargo +nightly fuzz list --fuzz-dir tests/fuzz) && \
	for target in $$targets; do \
		cargo +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit; \
	done

image: ## builds IMAGE (queue-exporter:0.1.0) with docker, podman or buildah, and its bill of materials
	@tests/setup.sh gcc
	$(call tool,cargo-cyclonedx,$(CYCLONEDX_VERSION))
	@PATH="$(abspath $(TOOLS))/bin:$$PATH" docker/image.sh $(IMAGE) $(IMAGE_ARGS)

tools: ## cargo-deny, in the version that lint uses
	@tests/setup.sh gcc
	$(call tool,cargo-deny,$(DENY_VERSION))

# where the control plane and KEDA are built: outside of the tree, for it takes a quarter of an hour
CLUSTER := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/queue-exporter/cluster

cluster: chart-tools
	@tests/setup.sh redis-server prometheus gcc
	tests/cluster/build.sh $(CLUSTER)
	cargo build --locked --release --bin queue-exporter
	cargo build --locked --release --manifest-path tests/cluster/Cargo.toml

# helm and others, built once
chart-tools:
	@tests/setup.sh python3-venv
	tests/tools/setup.sh .cache/chart

static:
	@tests/setup.sh gcc musl-tools make
	rustup target add $(STATIC)
	cargo build --locked --release --target $(STATIC) --bin queue-exporter

fuzz-tools:
	@tests/setup.sh gcc g++
	@cargo +nightly --version >/dev/null || { echo "make fuzz needs a nightly Rust: rustup toolchain install nightly" >&2; exit 1; }
	$(call tool,cargo-fuzz,$(FUZZ_VERSION))
