# Each target is a few lines; what they do is in the programs they call.

CARGO ?= cargo
# A Postgres, and a fresh database with the schema, for one command.
WITH_POSTGRES = SQLX_OFFLINE=true $(CARGO) run -q -p cuponera-tools --bin with-postgres --
WITH_DATABASE = $(WITH_POSTGRES) env -u SQLX_OFFLINE $(CARGO) run -q -p cuponera-tools --bin with-database --

# The command as it is now. Who has built it already, as a part of the tests, may name it: CUPONERA=target/debug/cuponera.
ifndef CUPONERA
CUPONERA = target/debug/cuponera
BUILT = debug
endif

.PHONY: run run-aws build debug postgres emulator redis test test-localstack soak lint lint-openapi lint-ops sqlx openapi fresh schemathesis deny coverage bench bench-quick storm storm-all storm-mixed

run: postgres ## Installs what is missing, builds, and starts everything on this machine
	$(CARGO) build --release -p cuponera
	./target/release/cuponera up

run-aws: postgres emulator redis ## The fleet without Docker: stand-ins for SQS and S3, Redis, an API, two workers
	$(CARGO) build --release --workspace --bins
	./target/release/run-aws

build:
	$(CARGO) build --release -p cuponera

debug:
	$(CARGO) build -q -p cuponera

postgres: ## Finds Postgres binaries (15 or newer), or installs them
	./scripts/ensure-postgres.sh

emulator: ## Gets the stand-in for SQS that tests run against
	./scripts/ensure-emulator.sh >/dev/null

redis: ## Gets the Redis that tests start
	./scripts/ensure-redis.sh >/dev/null

test: postgres emulator redis ## Runs all tests on a Postgres of their own
	$(WITH_POSTGRES) $(CARGO) test --workspace

test-localstack: postgres redis ## The tests of a fleet against LocalStack itself; needs Python 3.13 with venv, and no Docker
	$(WITH_POSTGRES) ./scripts/with-localstack.sh sh -c '$(CARGO) test -p cuponera-worker && \
		$(CARGO) test -p cuponera-core --test files && $(CARGO) test -p cuponera-api --test main queue:: && \
		$(CARGO) test -p cuponera --test main fleet:: && $(CARGO) test -p cuponera --test main queue::'

soak: postgres emulator redis ## Runs the long storms whole, as the tests run them in part, and a fleet of two versions: half an hour
	CUPONERA_SOAK=1 $(WITH_POSTGRES) $(CARGO) test --workspace
	$(MAKE) storm-mixed

storm-mixed: postgres emulator redis ## Storms a fleet half of which runs the last landed commit, or COMMIT
	./scripts/build-previous.sh
	@$(STORM) --seed 1-8 --previous target/previous/debug

# What is given to make, such as SEED=5, is in the environment of its commands.
STORM = $(CARGO) build -q --workspace --bins && ./target/debug/cuponera-storm

storm: postgres emulator redis ## Injects faults as a seed says: SEED=5; BUG=name takes a guard out; docs/storm.md has the rest
	@$(STORM)

storm-all: postgres emulator redis ## A hundred seeds, and each bug: half an hour
	@$(STORM) --seed 1-100
	@./target/debug/cuponera-storm --all-bugs

lint: lint-openapi ## Formatting, clippy with warnings denied, the OpenAPI document
	$(CARGO) fmt --all --check
	SQLX_OFFLINE=true $(CARGO) clippy --workspace --all-targets -- -D warnings

schemathesis: postgres $(BUILT) ## Asks a running server what its document promises, as each role; needs Python 3.11 with venv
	./scripts/schemathesis.sh $(CUPONERA)

sqlx: postgres ## Writes .sqlx anew: what the checked queries take and give
	$(WITH_DATABASE) ./scripts/write-queries.sh .sqlx

fresh: postgres $(BUILT) ## Whether .sqlx and docs/ are what the code makes of them
	$(WITH_DATABASE) ./scripts/write-queries.sh target/queries
	@# Whether a column may be null is sometimes read off a plan: that alone is no difference.
	diff -r -I '^ *\(null\|true\),\?$$' .sqlx target/queries
	$(CUPONERA) openapi --format json | diff docs/openapi.json -
	$(CUPONERA) openapi --format http | diff docs/cuponera.http -
	$(CUPONERA) openapi --format errors | diff docs/errors.md -
	$(CUPONERA) openapi --format permissions | diff docs/permissions.md -

openapi: $(BUILT) ## Writes docs/openapi.json anew, and what is made like it: docs/cuponera.http, docs/errors.md, docs/permissions.md
	@# All or none, and what is there stays until then.
	mkdir -p target/openapi
	$(CUPONERA) openapi --format json > target/openapi/openapi.json
	$(CUPONERA) openapi --format http > target/openapi/cuponera.http
	$(CUPONERA) openapi --format errors > target/openapi/errors.md
	$(CUPONERA) openapi --format permissions > target/openapi/permissions.md
	cd target/openapi && mv openapi.json cuponera.http errors.md permissions.md ../../docs/

lint-openapi: ## Checks docs/openapi.json with redocly, as redocly.yaml says; needs npx (Node.js 20 or newer)
	./scripts/lint-openapi.sh docs/openapi.json

deny: ## What the programs are built from: licenses, advisories, sources; installs cargo-deny if it is missing
	command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check

coverage: postgres ## How many lines of core, API and worker their tests run; installs cargo-tarpaulin if it is missing
	command -v cargo-tarpaulin > /dev/null || $(CARGO) install --locked cargo-tarpaulin
	$(WITH_POSTGRES) $(CARGO) tarpaulin --engine llvm --skip-clean --no-fail-fast --target-dir target/coverage --timeout 600 \
		-p cuponera-core -p cuponera-api -p cuponera-worker --include-files 'core/src/*' 'api/src/*' 'worker/src/*'

lint-ops: ## Checks docker-compose.yml, the Dockerfile, workflows and shell scripts; needs Python with venv, no Docker
	./scripts/lint-ops.sh

bench: postgres ## Measures against yardsticks of the same run, as docs/bench.md says; needs psql and pgbench
	$(CARGO) build --release --workspace --bins
	./target/release/cuponera-bench

bench-quick: postgres ## The same rows with smaller sizes, in three minutes
	$(CARGO) build --release --workspace --bins
	./target/release/cuponera-bench --quick

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
