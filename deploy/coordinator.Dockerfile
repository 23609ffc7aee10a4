# The coordinator: docker build --file deploy/coordinator.Dockerfile --tag fedlora-coordinator .

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --package fedlora-coordinator \
    && cp target/dist/fedlora-coordinator /usr/local/bin/

FROM debian:trixie-slim
COPY --from=build /usr/local/bin/fedlora-coordinator /usr/local/bin/fedlora-coordinator
# Volumes take over the owner of the folder that they are mounted on. Clients have the same number, so that both can
# use one volume for tokens.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fedlora \
    && install --directory --owner=fedlora --group=fedlora --mode=0700 /var/lib/fedlora /tokens
USER 10001:10001
# Everything that must survive: event log, adapters, identities and the certificate authority.
VOLUME /var/lib/fedlora
# gRPC over TLS for clients and operators; HTTP for health and metrics.
EXPOSE 8443 8480
ENTRYPOINT ["/usr/local/bin/fedlora-coordinator"]
CMD ["serve", "--set", "state-dir=/var/lib/fedlora", "--set", "listen=0.0.0.0:8443", "--set", "http-listen=0.0.0.0:8480"]
# The image has no HTTP client; bash talks TCP.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8480 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
