# Evenkeel in a container: not root, nothing to write but /var/lib/evenkeel and a temporary folder. docs/service.md has the rest.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/evenkeel
COPY requirements-run.lock ./
RUN /opt/evenkeel/bin/pip install --no-cache-dir --require-hashes --requirement requirements-run.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY bot bot
COPY strategies strategies
RUN /opt/evenkeel/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/evenkeel/bin/pip uninstall --yes setuptools pip

FROM python:3.12-slim
RUN groupadd --gid 10001 evenkeel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/evenkeel --shell /usr/sbin/nologin evenkeel \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/evenkeel
COPY --from=build /opt/evenkeel /opt/evenkeel
ENV PATH=/opt/evenkeel/bin:$PATH \
    HOME=/var/lib/evenkeel \
    MPLCONFIGDIR=/var/lib/evenkeel/.matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/evenkeel
VOLUME /var/lib/evenkeel
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["evenkeel", "--log-json"]
CMD ["run", "/etc/evenkeel/vault.yaml", "--desk", "/etc/evenkeel/desk.yaml"]
