# Each target is a few lines; what they do is in the programs they call.

CARGO ?= cargo

.PHONY: run build postgres test lint openapi sqlx bench clean

run: postgres ## Installs what is missing, builds, and starts everything on this machine
	$(CARGO) build --release -p cuponera
	./target/release/cuponera up

build:
	$(CARGO) build --release -p cuponera

postgres: ## Finds Postgres binaries (15 or newer), or installs them
	./scripts/ensure-postgres.sh

test: postgres ## Runs all tests on a Postgres of their own
	$(CARGO) run -q -p cuponera-testkit --bin with-postgres -- $(CARGO) test --workspace

lint: ## Formatting, clippy with warnings denied, generated files fresh
	$(CARGO) fmt --all --check
	SQLX_OFFLINE=true $(CARGO) clippy --workspace --all-targets -- -D warnings

openapi: ## Writes docs/openapi.json anew
	$(CARGO) run -q -p cuponera -- openapi > docs/openapi.json
