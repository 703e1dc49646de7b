# deepen serve in a container: docker build -t deepen . && docker run --rm -p 127.0.0.1:8000:8000 deepen
FROM python:3.12-slim

# TORCH names the build to install, such as "torch==2.13.0" with its own PIP_INDEX_URL for a CPU or a CUDA version.
ARG TORCH=torch
ARG EXTRAS=server,llama

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY deepen_llm deepen_llm
RUN pip install --no-cache-dir -c constraints.txt "${TORCH}" \
    && pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && useradd --create-home --uid 1000 deepen \
    && mkdir /models \
    && chown 1000 /models

USER 1000
ENV HF_HOME=/models/hub
VOLUME /models
EXPOSE 8000
HEALTHCHECK --start-period=120s --interval=10s --timeout=5s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["deepen", "serve", "--host", "0.0.0.0", "--port", "8000"]
