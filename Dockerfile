# One image for every service; docker-compose.yml says which one a container runs.
FROM python:3.13-slim AS build
WORKDIR /src
# What makes wheels stays in this stage. All is fetched by hash, and nothing more to build with.
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-build-isolation --only-binary :all: -r requirements-build.lock \
 && /opt/build/bin/pip wheel --no-cache-dir --require-hashes --no-build-isolation --wheel-dir /wheels -r requirements.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv /opt/postlog \
 && /opt/postlog/bin/pip install --no-index --no-deps --no-build-isolation /wheels/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/postlog --create-home postlog
COPY --from=build /opt/postlog /opt/postlog
ENV PATH=/opt/postlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LOG_FORMAT=json \
    STATE_DIR=/var/lib/postlog/state
USER postlog
WORKDIR /var/lib/postlog
# Made here so that a volume mounted over it belongs to the user who writes it.
RUN mkdir state
CMD ["postlog", "--help"]
