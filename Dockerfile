# One image for every service; docker-compose.yml says which one a container runs.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/postlog \
 && /opt/postlog/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/postlog/bin/pip install --no-cache-dir --no-deps .

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
