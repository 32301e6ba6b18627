# The harness on the CPU: docker build -t harness . && docker run -v $PWD/results:/harness/results harness run --suite smoke
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /harness
COPY requirements.lock .
RUN pip install --no-cache-dir -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-build-isolation --no-deps -e .
ENTRYPOINT ["python", "-m", "harness"]
CMD ["--help"]
