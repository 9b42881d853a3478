# resdepth in a container: `docker build -t resdepth .`, with a GPU `docker build --build-arg TORCH=cu128 -t resdepth .`
# Run it in the folder of your data:
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" resdepth refine dsm.tif raw1.tif raw2.tif
#   docker run --rm --gpus all ...    with a GPU
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# Which build of PyTorch: cpu, or one of its CUDA versions, as cu128; the machine then needs NVIDIA's driver alone.
ARG TORCH=cpu
LABEL org.opencontainers.image.title="resdepth" \
      org.opencontainers.image.description="Learned refinement of digital surface models" \
      org.opencontainers.image.source="https://example.org/resdepth" \
      org.opencontainers.image.licenses="MIT"

# GDAL, in the wheel of rasterio, looks for the system's expat.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*

COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" torch==2.13.0 \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt \
        "$(echo /wheels/resdepth-*.whl)[cluster,onnx,prepare,stac]"

RUN useradd --create-home --uid 1000 resdepth
USER 1000
# Any other user (docker run --user) has a place for caches, too.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
ENTRYPOINT ["resdepth"]
CMD ["--help"]
