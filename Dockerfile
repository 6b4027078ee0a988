# docker build -t semiseg .                                                     for CPUs
# docker build -t semiseg --build-arg WHEELS=https://download.pytorch.org/whl/cu128 .   for NVIDIA GPUs; run with --gpus all
FROM python:3.12-slim
ARG WHEELS=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/semiseg
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir "torch>=2.6,!=2.9.*" --index-url "$WHEELS" && pip install --no-cache-dir .
WORKDIR /data
ENTRYPOINT ["semiseg"]
