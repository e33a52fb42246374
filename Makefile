# `make help` lists the commands.
SECONDS ?= 60
SCENARIO ?=
MODE ?=
PORT ?= 8080
VERSION ?=
BINARY ?=
PACKAGE ?=
ARCH ?= $(shell uname -m)
.PHONY: help run build check test bench bwe-table links layers compare memory fuzz \
	package package-test static image-root image-test release

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: ## build, start a bridge with a built-in focus on PORT, and print the address of its page for calls
	@./scripts/run.sh $(PORT)

build: ## release binaries of the bridge and of the load generator
	cargo build --release --workspace

check: ## format, lint and unit tests of the packages that changed: for everyday use
	./scripts/check.sh

test: ## everything that CI runs (installs its tools)
	./scripts/test.sh

bench: ## criterion benches, and packets per second per core
	./scripts/bench.sh

bwe-table: ## the estimator's scenarios on its link model, as committed in crates/bwe/table.txt
	@cargo run --release -q -p rialto-bwe --example table

links: ## calls over emulated links, next to the committed table: all, or SCENARIO (needs root)
	@./scripts/links.sh $(SCENARIO)

layers: ## calls with the layers of each codec, next to the committed table: all, or MODE
	@./scripts/layers.sh $(MODE)

compare: ## compare the ICE and DTLS libraries (docs/decisions.md)
	cd benches/libraries && cargo run --release --quiet --locked

memory: ## resident memory of an endpoint and of a receiver, against their limits
	./scripts/memory.sh

fuzz: ## each fuzz target for SECONDS (needs a nightly toolchain)
	./scripts/fuzz.sh $(SECONDS)

package: ## build a Debian package, from a new release build or from BINARY, and print its path
	@./scripts/package/build.sh $(BINARY)

package-test: ## install, upgrade and purge it, or PACKAGE, in a clean Debian that boots (needs root)
	@./scripts/package/test.sh $(PACKAGE)

static: ## static binary for ARCH, x86_64 or aarch64
	@./scripts/static.sh $(ARCH)

image-root: ## root file system of the container image
	@./scripts/image/root.sh $(BINARY)

image-test: ## run it as a container engine would (needs root)
	@./scripts/image/test.sh $(BINARY)

release: ## commit, packages, checksums, SBOM and tag of VERSION; pushes nothing
	@./scripts/release.sh $(VERSION)
