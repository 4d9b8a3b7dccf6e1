# The two commands of the README, and what they are made of.
.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint unit lab-down setup setup-dev setup-lab locks docs

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

quickstart: ## make a lab host on this machine, deploy three model servers to it, prove that they work
	@scripts/bootstrap --lab
	@scripts/lab up
	@scripts/deploy site.yml

test: setup-lab lint ## everything: lint, unit tests, the lab from nothing
	@scripts/test

test-slow: setup-lab ## minutes more: Debian's own NVIDIA driver, built for its kernel on a lab host
	@VLLM_FLEET_SLOW_TESTS=yes scripts/test tests/slow

lint: setup-dev ## all linters
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/yamllint --strict .
	@PATH="$(CURDIR)/.venv/bin:$$PATH" ANSIBLE_INVENTORY=inventory/example .venv/bin/ansible-lint --offline -q

unit: setup-dev ## the tests that need no lab
	@scripts/python -m pytest tests/unit

lab-down: setup ## remove the lab: hosts, network, files
	@scripts/lab down

setup: ## what the controller needs, locked, in .venv; installs missing Debian packages when root
	@scripts/bootstrap

setup-dev:
	@scripts/bootstrap --dev

setup-lab:
	@scripts/bootstrap --dev --lab

locks: setup-dev ## bring the lock files of the controller, of the hosts and of the clients in the tests up to date
	@scripts/lock-controller
	@scripts/lock-clients
	@scripts/lock-runtime

docs: setup-dev ## write the roles' READMEs from their argument specs
	@scripts/role-docs
