# syntax=docker/dockerfile:1
# One agent. Its state is the volume /state: keys, certificate, journal, configuration.
#   docker build -t gossamer .        (the first build compiles llama.cpp for this processor)
FROM debian:bookworm-slim AS build
# Security updates matter more than the same bytes: versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/gossamer/venv && /opt/gossamer/venv/bin/pip install --no-cache-dir --upgrade pip
# Before the sources: their changes do not compile llama.cpp again. GGML_NATIVE=OFF for an image
# that other processors run as well; it is then slower.
ARG CMAKE_ARGS="-DLLAVA_BUILD=OFF"
RUN CMAKE_ARGS="${CMAKE_ARGS}" /opt/gossamer/venv/bin/pip install --no-cache-dir "llama-cpp-python>=0.3.36,<0.4"
COPY pyproject.toml README.md LICENSE install.sh /src/
COPY mesh /src/mesh
COPY capabilities /src/capabilities
COPY agents /src/agents
RUN /opt/gossamer/venv/bin/pip install --no-cache-dir /src

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 7100 --user-group --home-dir /state --no-create-home gossamer \
    && install -d -m 0700 -o gossamer -g gossamer /state /invitations
COPY --from=build /opt/gossamer /opt/gossamer
ENV PATH=/opt/gossamer/venv/bin:$PATH GOSSAMER_STATE=/state PYTHONUNBUFFERED=1
USER 7100:7100
VOLUME /state
EXPOSE 7100 7101 7102
# The local door answers only while the event loop turns.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["gossamer", "status", "--state", "/state", "--json"]
# The invitation comes as a file (a secret), never as an argument; a node that exists needs none.
ENTRYPOINT ["gossamer", "board", "run", "--state", "/state"]
CMD ["--invitation-file", "/run/secrets/invitation"]
