# Everything the project does, for a person and for CI alike: `make help`.
# LAB names a lab (its containers, its network, its folder .lab/LAB), SUITE the Debian release of its hosts.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

export LAB ?= pgrescue
export SUITE ?= trixie
export LAB_HOSTS ?=

# Scenarios run in this order on one lab; each finds what the one before it has left.
SCENARIOS := default site modules recover soak faults
# The same for `make test`, on two labs side by side.
lane-1 := default site recover
lane-2 := default modules soak faults
DESTROY := always

build := $(CURDIR)/.build
collection := $(build)/ansible_collections/pgrescue/barman

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(build)
export ANSIBLE_INVENTORY := $(CURDIR)/.lab/$(LAB)/inventory.yml
export MOLECULE_GLOB := molecule/*/molecule.yml
export MOLECULE_EPHEMERAL_DIRECTORY := $(build)/molecule/$(LAB)
export MOLECULE_COMMAND_BORDERS := false

# No colours in a log.
ifndef MAKE_TERMOUT
export NO_COLOR := 1
export ANSIBLE_NOCOLOR := 1
endif

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

lab: setup ## Boot two hosts, barman-copia and bd-principal (LAB, SUITE, LAB_HOSTS)
	ansible-playbook -i localhost, molecule/default/create.yml
	@echo "The lab is up. Its inventory: .lab/$(LAB)/inventory.yml"

demo: lab ## The story: backup, disaster, recovery, proof (SCALE of TPC-H, 0.1; ends with the lab running)
	.venv/bin/python demo/story.py

clean: setup ## Remove the lab
	ansible-playbook -i localhost, molecule/default/destroy.yml

test: checks lanes ## Run every test

checks: setup
	$(MAKE) --no-print-directory -j2 --output-sync=target lint sanity unit

lint: setup ## ansible-lint, profile production
	ansible-lint

sanity: setup ## ansible-test sanity, every test, nothing ignored
	tests/sanity/run

unit: setup ## pytest
	PYTHONPATH=$(build) pytest -q tests/unit

# Each on a lab of its own, LAB-1 and LAB-2.
lanes: setup
	$(MAKE) --no-print-directory -j2 lane-1 lane-2

lane-1 lane-2:
	$(MAKE) molecule LAB=$(LAB)-$(@:lane-%=%) SCENARIOS="$($@)" </dev/null 2>&1 | sed -u 's/^/$@: /'

# From bare hosts, whatever an earlier run has left.
molecule: clean ## The scenarios, on one lab (SCENARIOS="default site", DESTROY=never)
	rm -rf $(MOLECULE_EPHEMERAL_DIRECTORY)
	molecule test --destroy=$(DESTROY) $(addprefix -s ,$(SCENARIOS))

bench: setup $(build)/barman/.done ## Benchmarks: the catalogue beside bare Barman (BACKUPS, WALS, ROUNDS)
	PYTHONPATH=$(build) .venv/bin/python tests/benchmarks/catalogue.py $(build)/barman/bin/barman

bench-service: lab ## Benchmark: recover.yml beside the same steps by hand (GIGABYTES, ROUNDS, DATA=delta, LIMIT, JOBS)
	ansible-playbook playbooks/site.yml >/dev/null
	[ "$(DATA)" != delta ] || molecule/recover/files/xfs.sh bd-principal 40
	.venv/bin/python tests/benchmarks/service.py

# Bare Barman to measure against, as Debian 13 has it; its psycopg2 without a compiler.
$(build)/barman/.done:
	python3 -m venv $(@D)
	$(@D)/bin/pip install -qq --disable-pip-version-check --no-deps barman==3.13.3 psycopg2-binary python-dateutil six
	touch $@

# Hours. On a lab of its own, or on the one that is there after `make molecule DESTROY=never`. START=N is cuts.py alone, from its line N on.
soak: lab ## The long tests: every cut, random targets, two people at once (SEED, START, BREADTH, ROUNDS, RECOVERIES, PAIRS)
	ansible-playbook playbooks/site.yml
	export ROUNDS=$${ROUNDS:-60} RECOVERIES=$${RECOVERIES:-3}; status=0; tests=$${START:+cuts}; \
	for test in $${tests:-targets together clones lost cuts}; do .venv/bin/python tests/soak/$$test.py || status=1; done; exit $$status

collection: setup ## Build the collection's tarball, as ansible-galaxy installs it
	ansible-galaxy collection build --force

# --- Setting up: only what is missing, and nothing into the user's Python ---

setup: system .venv/.done $(collection)

# As root with apt, install what is missing; elsewhere the first command that misses something says so.
packages := podman runc netavark aardvark-dns iptables mmdebstrap openssh-client rsync git
system:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; \
	docker info >/dev/null 2>&1 && ! command -v podman >/dev/null && exit 0; \
	wanted="$(packages)"; python3 -c 'import ensurepip' 2>/dev/null || wanted="$$wanted python3-venv"; \
	missing=; for package in $$wanted; do \
	    [ "$$(dpkg-query -Wf '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing="$$missing $$package"; \
	done; \
	[ -z "$$missing" ] || { echo "Installing$$missing"; apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $$missing >/dev/null; }

.venv/.done: requirements-dev.txt | system
	python3 -m venv .venv
	.venv/bin/pip install -qq --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Ansible finds a collection only below ansible_collections/NAMESPACE/NAME; the tree itself may lie anywhere.
$(collection):
	mkdir -p $(@D)
	ln -sfn ../../.. $@

.PHONY: help lab demo clean collection bench bench-service test checks lint sanity unit lanes lane-1 lane-2 molecule setup system
