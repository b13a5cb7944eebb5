# Answers of exported students: predict, enroll, benchmark. Nothing in it trains (docs/service.md).
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE requirements.txt ./
COPY light_sernet_kd light_sernet_kd
# In the versions that the tests run with.
RUN python -m venv /opt/light-sernet-kd \
    && /opt/light-sernet-kd/bin/pip install --no-cache-dir --constraint requirements.txt .

FROM python:3.13-slim-bookworm
COPY --from=build /opt/light-sernet-kd /opt/light-sernet-kd
ENV PATH=/opt/light-sernet-kd/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin student
USER 10001
WORKDIR /audio
ENTRYPOINT ["light-sernet-kd"]
CMD ["--help"]
