# docker build -t deepfake-detector .
# docker run -p 127.0.0.1:5000:5000 -v deepfake-detector:/app/instance deepfake-detector
# For several machines: docker build --build-arg SCALE=1 -t deepfake-detector . (compose.yaml does)
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

ARG SCALE=
COPY requirements-serve.txt requirements-scale.txt ./
RUN pip install --no-cache-dir --no-deps -r requirements-serve.txt ${SCALE:+-r requirements-scale.txt}

COPY . .
# The server writes to the instance folder only: database, uploads, secret key.
RUN useradd --create-home detector && install -d -o detector instance
USER detector
VOLUME /app/instance
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
CMD ["gunicorn", "--config", "gunicorn.conf.py", "--bind", "0.0.0.0:5000", "app:app"]
