# `make help` lists the targets. CARGO_TARGET_DIR is honoured where set.
.DEFAULT_GOAL := help
.PHONY: help deb lint unit test quick demo bench soak lintian piuparts reproducible clean

help: ## This list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '%-18s %s\n' "$$target" "$$text"; done

deb: ## Build the Debian package and print its path (on Debian 12: it then suits 12 and 13; ARCH=arm64: suits 13, as root)
	@$(if $(filter-out $(shell dpkg --print-architecture),$(ARCH)),packaging/build-deb-cross $(ARCH),packaging/build-deb)

lint: ## Check formatting, clippy, shell scripts, Python and manual pages
	@packaging/lint

unit: ## Run the unit tests
	@. packaging/find-cargo && packaging/install-build-deps && cargo test --workspace --locked

lintian: deb ## Check the Debian package with the policy checkers of Debian 12 and 13 (as root)
	@tests/lintian

piuparts: deb ## Run Debian's own tests of the package, autopkgtest and piuparts, on Debian 12 and 13 (as root)
	@tests/e2e -k package_checkers

reproducible: ## Build the package twice, in different circumstances, and compare the bytes (as root; 10 minutes)
	@packaging/reproducible

test: ## Lints, unit tests and end-to-end tests on Debian 12 and 13 (as root)
	@tests/run

quick: ## Lints, unit tests and some end-to-end tests, in a few minutes: while working (as root)
	@tests/run quick

demo: ## A real JupyterHub and a bastion in a sandbox, a terminal and an sftp session shown (as root; Ctrl-C ends it)
	@tests/demo

bench: ## Measure logins, echo, throughput, files and memory (as root)
	@tests/bench

soak: ## A day of traffic in twenty minutes: nothing may grow (as root)
	@tests/soak

clean: ## Remove everything that was built
	cargo clean
