# Each target is a few lines; what they do is in the programs they call.

CARGO ?= cargo
# A Postgres, and a fresh database with the schema, for one command.
WITH_POSTGRES = SQLX_OFFLINE=true $(CARGO) run -q -p cuponera-testkit --bin with-postgres --
WITH_DATABASE = $(WITH_POSTGRES) env -u SQLX_OFFLINE $(CARGO) run -q -p cuponera-testkit --bin with-database --

.PHONY: run build postgres emulator test lint sqlx openapi fresh bench

run: postgres ## Installs what is missing, builds, and starts everything on this machine
	$(CARGO) build --release -p cuponera
	./target/release/cuponera up

build:
	$(CARGO) build --release -p cuponera

postgres: ## Finds Postgres binaries (15 or newer), or installs them
	./scripts/ensure-postgres.sh

emulator: ## Gets the stand-in for SQS that tests run against
	./scripts/ensure-emulator.sh >/dev/null

test: postgres emulator ## Runs all tests on a Postgres of their own
	$(WITH_POSTGRES) $(CARGO) test --workspace

lint: ## Formatting, clippy with warnings denied, scripts
	$(CARGO) fmt --all --check
	SQLX_OFFLINE=true $(CARGO) clippy --workspace --all-targets -- -D warnings

sqlx: postgres ## Writes .sqlx anew: what the checked queries take and give
	$(WITH_DATABASE) ./scripts/write-queries.sh .sqlx

fresh: postgres ## Whether .sqlx and docs/openapi.json are what the code makes of them
	$(WITH_DATABASE) ./scripts/write-queries.sh target/queries
	@# Whether a column may be null is sometimes read off a plan: that alone is no difference.
	diff -r -I '^ *\(null\|true\),\?$$' .sqlx target/queries
	$(CARGO) run -q -p cuponera -- openapi | diff docs/openapi.json -

openapi: ## Writes docs/openapi.json anew
	$(CARGO) run -q -p cuponera -- openapi > docs/openapi.json

bench: build ## Measures, in ratios to yardsticks of the same run; needs psql
	$(CARGO) run -q --release -p cuponera-bench

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
