# syntax=docker/dockerfile:1
# One image for gateway and worker; they differ in their command.
#   docker build -t ovam .                              for CPUs
#   docker build -t ovam:cuda --build-arg DEVICE=cuda . for NVIDIA GPUs
#   docker run -p 8000:8000 -e OVAM_KEYS=required -e OVAM_REDIS_URL=... ovam    a gateway; it starts only if OVAM_KEYS is decided
#   docker run --name ovam-demo ovam ovam demo && docker cp ovam-demo:/data/demo .

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS packages
ARG DEVICE=cpu
ARG PIP_VERSION=26.3
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv && /opt/venv/bin/pip install pip==${PIP_VERSION}
COPY requirements.txt ./
# torch first, in a layer of its own: for cpu from PyTorch's index of CPU builds, for cuda as requirements.txt says
RUN torch="$(grep '^torch==' requirements.txt)" \
    && case "${DEVICE}" in \
        cpu) /opt/venv/bin/pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "${torch}" ;; \
        cuda) /opt/venv/bin/pip install "${torch}" ;; \
        *) echo "DEVICE is '${DEVICE}'; allowed: cpu, cuda" >&2; exit 1 ;; \
    esac
RUN /opt/venv/bin/pip install -r requirements.txt \
    && /opt/venv/bin/python -c "import denseCRF, torch"

FROM python:${PYTHON}-slim AS service
RUN useradd --create-home --uid 10001 ovam \
    && mkdir /data \
    && chown ovam:ovam /data
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/data/huggingface \
    OVAM_DATA_DIR=/data \
    OVAM_HOST=0.0.0.0 \
    OVAM_PORT=8000
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY models/world models/world
COPY models/clip models/clip
COPY contracts contracts
COPY ovam ovam
COPY ovam_client ovam_client
COPY worker worker
COPY service service
COPY launcher launcher
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
# relative paths, such as the demo's pictures, lie where the user may write
WORKDIR /data
USER ovam
VOLUME /data
EXPOSE 8000
# The gateway's; a worker has its own, see docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"OVAM_PORT\"]}/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["ovam", "serve"]
