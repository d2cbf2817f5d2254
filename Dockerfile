# The three programs in one small image: cuponera, cuponera-api, cuponera-worker. Name the one to run as the command.
#
#   docker build -t cuponera .
#   docker run --rm cuponera cuponera-worker --help
#
# It needs BuildKit, the default since Docker 23, and no `# syntax=` line, which fetches a builder from a registry each time.

FROM rust:1.95-slim-bookworm AS builder
# aws-lc is C, and some of it is made by cmake.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Queries are checked against what .sqlx has of the schema.
ENV SQLX_OFFLINE=true CARGO_INCREMENTAL=0
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin cuponera --bin cuponera-api --bin cuponera-worker \
    && mkdir /programs \
    && cp target/release/cuponera target/release/cuponera-api target/release/cuponera-worker /programs/ \
    && strip /programs/*

FROM debian:bookworm-slim
# TLS to the queue, the bucket and a collector is checked against the system's certificates; without any, not even
# `cuponera health` can ask. Postgres and Redis are checked against roots in the programs: docs/fleet.md, TLS.
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
# As ECS and docker see it: a container listens for all of its network.
ENV CUPONERA_HTTP_ADDR=0.0.0.0:8080 CUPONERA_LOG_FORMAT=json
EXPOSE 8080
# A worker has no such port: whoever runs one gives it a check of its own, or none.
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 \
    CMD ["cuponera", "health", "http://127.0.0.1:8080/health/live"]
STOPSIGNAL SIGTERM
CMD ["cuponera-api"]
