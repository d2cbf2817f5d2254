# One small image with three programs: cuponera, cuponera-api, cuponera-worker. The command selects the program.
#
#   docker build -t cuponera .
#   docker run --rm cuponera cuponera-worker --help
#
# Needs BuildKit, the default since Docker 23. A `# syntax=` line would fetch a builder from a registry at each build.

FROM rust:1.95-slim-bookworm AS builder
# aws-lc is C code that is built partly with cmake.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Check queries against .sqlx instead of a database.
ENV SQLX_OFFLINE=true CARGO_INCREMENTAL=0
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin cuponera --bin cuponera-api --bin cuponera-worker \
    && mkdir /programs \
    && cp target/dist/cuponera target/dist/cuponera-api target/dist/cuponera-worker /programs/ \
    && strip /programs/*

FROM debian:bookworm-slim
# TLS to the queue, the bucket and a collector is verified against the system's certificates, without which even
# `cuponera health` fails. Postgres and Redis are verified against roots in the programs: see docs/fleet.md, TLS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 cuponera \
    && useradd --uid 10001 --gid 10001 --no-log-init --shell /usr/sbin/nologin \
        --home-dir /var/lib/cuponera --create-home --skel /var/empty cuponera
COPY --from=builder /programs/ /usr/local/bin/
USER 10001:10001
WORKDIR /var/lib/cuponera
# A container must listen on all of its addresses.
ENV CUPONERA_HTTP_ADDR=0.0.0.0:8080 CUPONERA_LOG_FORMAT=json
EXPOSE 8080
# A worker does not listen on this port: override the check or disable it.
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 \
    CMD ["cuponera", "health", "http://127.0.0.1:8080/health/live"]
STOPSIGNAL SIGTERM
CMD ["cuponera-api"]
