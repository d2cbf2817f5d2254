# Each target is a few lines that call programs and scripts.

CARGO ?= cargo
# Run one command with a Postgres, or with a new database that has the schema. `tools` builds the programs.
TARGET = $${CARGO_TARGET_DIR:-target}
WITH_POSTGRES = SQLX_OFFLINE=true $(TARGET)/debug/with-postgres --
WITH_DATABASE = $(WITH_POSTGRES) env -u SQLX_OFFLINE $(TARGET)/debug/with-database --

# The current program. If the tests have built it already, pass CUPONERA=target/debug/cuponera to skip the build.
ifndef CUPONERA
CUPONERA = target/debug/cuponera
BUILT = debug
endif

.PHONY: run run-aws build debug tools postgres emulator redis test test-localstack soak lint lint-format lint-openapi lint-ops sqlx openapi fresh schemathesis deny coverage bench bench-quick storm storm-all storm-mixed

run: postgres ## Install missing tools, build, and start everything on this machine
	$(CARGO) build --release -p cuponera
	./target/release/cuponera up

run-aws: postgres emulator redis ## Run a fleet without Docker: emulators of SQS and S3, Redis, an API, two workers
	$(CARGO) build --release --workspace --bins
	./target/release/run-aws

build:
	$(CARGO) build --release -p cuponera

# Without -p: a package alone selects fewer features of the dependencies than the tests do, and builds most of them again.
debug:
	SQLX_OFFLINE=true $(CARGO) build -q --bin cuponera

tools:
	SQLX_OFFLINE=true $(CARGO) build -q --bin with-postgres --bin with-database

postgres: ## Find Postgres binaries (15 or newer), or install them
	./scripts/ensure-postgres.sh

emulator: ## Install the emulator of SQS and S3 for the tests
	./scripts/ensure-emulator.sh >/dev/null

redis: ## Install the Redis for the tests
	./scripts/ensure-redis.sh >/dev/null

test: postgres emulator redis tools ## Run all tests on a private Postgres
	$(WITH_POSTGRES) $(CARGO) test --workspace --no-fail-fast

test-localstack: postgres redis tools ## Run the tests of a fleet against LocalStack; needs Python 3.13 with venv, no Docker
	$(WITH_POSTGRES) ./scripts/with-localstack.sh sh -c '$(CARGO) test -p cuponera-worker && \
		$(CARGO) test -p cuponera-platform --test files && $(CARGO) test -p cuponera-api --test main queue:: && \
		$(CARGO) test -p cuponera --test main fleet:: && $(CARGO) test -p cuponera --test main queue::'

soak: postgres emulator redis tools ## Run the long tests and storms in full, and a fleet of two versions: half an hour
	CUPONERA_SOAK=1 $(WITH_POSTGRES) $(CARGO) test --workspace
	$(MAKE) storm-mixed

storm-mixed: postgres emulator redis ## Run storms on a fleet of which half runs the last merged commit, or COMMIT
	./scripts/build-previous.sh
	@$(STORM) --seed 1-8 --previous target/previous/debug

# make passes variables such as SEED=5 to its commands in the environment.
STORM = $(CARGO) build -q --workspace --bins && ./target/debug/cuponera-storm

storm: postgres emulator redis ## Inject faults from a seed: SEED=5; BUG=name removes a guard; see docs/storm.md
	@$(STORM)

storm-all: postgres emulator redis ## Run a hundred seeds, and each bug: half an hour
	@$(STORM) --seed 1-100
	@./target/debug/cuponera-storm --all-bugs

lint: lint-format lint-openapi ## Check formatting, clippy with warnings denied, and the OpenAPI document
	SQLX_OFFLINE=true $(CARGO) clippy --workspace --all-targets -- -D warnings

schemathesis: postgres $(BUILT) ## Check a running server against its OpenAPI document, as each role; needs Python 3.11 with venv
	./scripts/schemathesis.sh $(CUPONERA)

sqlx: postgres tools ## Generate .sqlx: the parameters and columns of the checked queries
	$(WITH_DATABASE) ./scripts/write-queries.sh .sqlx

fresh: postgres tools $(BUILT) ## Check that .sqlx and the generated files in docs/ are current
	$(WITH_DATABASE) ./scripts/write-queries.sh target/queries
	@# sqlx may infer from a plan whether a column is nullable: ignore differences in that.
	diff -r -I '^ *\(null\|true\),\?$$' .sqlx target/queries
	$(CUPONERA) openapi --format json | diff docs/openapi.json -
	$(CUPONERA) openapi --format http | diff docs/cuponera.http -
	$(CUPONERA) openapi --format errors | diff docs/errors.md -
	$(CUPONERA) openapi --format permissions | diff docs/permissions.md -

openapi: $(BUILT) ## Generate docs/openapi.json, docs/cuponera.http, docs/errors.md and docs/permissions.md
	@# Replace the files only after all of them are generated.
	mkdir -p target/openapi
	$(CUPONERA) openapi --format json > target/openapi/openapi.json
	$(CUPONERA) openapi --format http > target/openapi/cuponera.http
	$(CUPONERA) openapi --format errors > target/openapi/errors.md
	$(CUPONERA) openapi --format permissions > target/openapi/permissions.md
	cd target/openapi && mv openapi.json cuponera.http errors.md permissions.md ../../docs/

lint-format:
	$(CARGO) fmt --all --check

lint-openapi: ## Check docs/openapi.json with redocly and redocly.yaml; needs npx (Node.js 20 or newer)
	./scripts/lint-openapi.sh docs/openapi.json

deny: ## Check licenses, advisories and sources of the dependencies; installs cargo-deny if missing
	command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check

coverage: postgres tools ## Measure the line coverage of core, API and worker; installs cargo-tarpaulin if missing
	command -v cargo-tarpaulin > /dev/null || $(CARGO) install --locked cargo-tarpaulin
	$(WITH_POSTGRES) $(CARGO) tarpaulin --engine llvm --skip-clean --no-fail-fast --target-dir target/coverage --timeout 600 \
		-p cuponera-domain -p cuponera-store -p cuponera-platform -p cuponera-api -p cuponera-worker --include-files 'core/*/src/*' 'api/src/*' 'worker/src/*'

lint-ops: ## Check docker-compose.yml, the Dockerfile, workflows and shell scripts; needs Python with venv, no Docker
	./scripts/lint-ops.sh

BENCH = --bin cuponera --bin cuponera-api --bin cuponera-worker --bin cuponera-bench

bench: postgres ## Measure performance relative to yardsticks (docs/bench.md); needs psql and pgbench
	$(CARGO) build --release $(BENCH)
	./target/release/cuponera-bench

bench-quick: postgres ## Measure the same rows with smaller sizes
	$(CARGO) build --release $(BENCH)
	./target/release/cuponera-bench --quick

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
