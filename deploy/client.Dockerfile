# A client: docker build --file deploy/client.Dockerfile --tag fedlora-client .

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --package fedlora-client \
    && cp target/dist/fedlora-client /usr/local/bin/

FROM debian:trixie-slim
COPY --from=build /usr/local/bin/fedlora-client /usr/local/bin/fedlora-client
# The coordinator's image has the same number, so that both can use one volume for tokens.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fedlora \
    && install --directory --owner=fedlora --group=fedlora --mode=0700 /var/lib/fedlora /tokens
USER 10001:10001
# Identity, personal factors and the update on its way.
VOLUME /var/lib/fedlora
ENTRYPOINT ["/usr/local/bin/fedlora-client"]
CMD ["join", "--config", "/etc/fedlora/client.toml"]
# Preflight asks the coordinator; rarely is enough, since a client that loses it tries again by itself.
HEALTHCHECK --interval=10m --timeout=60s --start-period=2m --retries=3 \
    CMD ["/usr/local/bin/fedlora-client", "preflight", "--config", "/etc/fedlora/client.toml"]
