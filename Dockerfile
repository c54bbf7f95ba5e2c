# One image with a command for each service: `docker run a2a-events gateway --help`.
# Name the base by digest where builds must repeat: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/image.txt requirements/
# Two environments: one has what builds, and stays behind; the other is what is copied. Nothing is compiled: all come as
# wheels but nkeys, which is Python alone.
RUN python3 -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt \
    && /build/bin/pip wheel --require-hashes --only-binary :all: --no-binary nkeys --no-build-isolation \
        --wheel-dir /wheels --requirement requirements/image.txt \
    && python3 -m venv --without-pip /app \
    && /build/bin/pip --python /app/bin/python install --no-index --no-deps /wheels/*.whl
# After the dependencies, so that a change of code does not install them anew.
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY services services
COPY a2a_events a2a_events
RUN /build/bin/python -m hatchling build --target wheel --directory /own \
    && /build/bin/pip --python /app/bin/python install --no-index --no-deps /own/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /app /app
# Bytecode is in the image already, and the root file system may be read-only.
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A worker imports agents from its working directory: COPY yours here.
WORKDIR /agents
# A number, which Kubernetes can check to be none of root's; over 10000, so that it is nobody's on the node either.
USER 10001:10001
# http, grpc, admin, timeline
EXPOSE 8000 50051 9090 8090
# Last, so that another commit is not another image below it; the metric a2a_build_info shows it.
ARG COMMIT=""
ENV A2A_EVENTS_COMMIT=${COMMIT}
ENTRYPOINT ["a2a-events"]
CMD ["--help"]
