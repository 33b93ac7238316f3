"""Real PostgreSQL, Redis and S3 for the tests, each in a folder of its own and on a free port of this machine."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from sqlalchemy import NullPool, create_engine, make_url, text

from webapp import create_app
from webapp.models import db

START_S = 60  # a busy machine starts slowly
BUCKET = "deepfake"
S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
HOW_TO_GET_THEM = "The tests of shared services need PostgreSQL and Redis: apt-get install postgresql redis-server"


def find_postgres():
    """Return the folder of PostgreSQL's programs; None if it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    programs = [*folders, *(Path(found).parent for found in [shutil.which("initdb")] if found)]
    return programs[-1] if programs else None


def are_installed():
    return find_postgres() is not None and shutil.which("redis-server") is not None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, is_ready, **options):
    """Run a server until the end of the context; it is ready when `is_ready()` is true."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:
        try:
            until = time.monotonic() + START_S
            while not is_ready():
                assert process.poll() is None and time.monotonic() < until, f"{command[0]} did not start."
                time.sleep(0.05)
            yield process
        finally:
            process.send_signal(signal.SIGQUIT if "postgres" in str(command[0]) else signal.SIGTERM)  # at once


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def run_postgres():
    """Run PostgreSQL and give the address of its database `postgres`."""
    programs, port = find_postgres(), free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:  # pytest's own folders are closed to other users
        user = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        make = [programs / "initdb", "-D", folder, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run([*make, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/", **user)
        fast = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"]
        command = [programs / "postgres", "-D", folder, "-p", str(port), "-h", "127.0.0.1", "-k", folder]
        with running([*command, *(f"-c{setting}" for setting in fast)], lambda: answers(port), cwd="/", **user):
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def run_redis(folder, port=None):
    """Run Redis without a file and give its address."""
    port = port or free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, lambda: answers(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def run_s3():
    """Run moto's S3 server and give the environment variables under which S3 clients find it."""
    port = free_port()

    def is_ready():
        try:
            with urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1) as answer:
                return answer.status == 200
        except URLError:
            return False

    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], is_ready):
        yield {**S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@dataclass(frozen=True)
class Services:
    """Addresses of running servers.

    Attributes:
        postgres: SQLAlchemy's address of an empty database.
        template: of one with the newest tables.
        redis: the broker's address.
        s3: environment variables of S3 clients.
    """

    postgres: str
    template: str
    redis: str
    s3: dict[str, str]

    def new_database(self):
        """Create a database with the newest tables and return its address."""
        name = f"d{secrets.token_hex(8)}"
        template = make_url(self.template).database
        with self._administer() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return make_url(self.postgres).set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def _administer(self):
        engine = create_engine(self.postgres, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def new_folder(self):
        """Return the address of an empty folder in S3."""
        return f"s3://{BUCKET}/{secrets.token_hex(8)}"

    def settings(self):
        """Return settings of a server with a database and a storage of its own on these services."""
        return {"DATABASE_URL": self.new_database(), "STORAGE_URL": self.new_folder()}


@contextmanager
def run_services(folder):
    """Run all three, with a bucket and a migrated database."""
    with run_postgres() as postgres, run_redis(folder) as redis, run_s3() as s3:
        client = boto3.client(
            "s3",
            endpoint_url=s3["AWS_ENDPOINT_URL"],
            region_name=s3["AWS_REGION"],
            aws_access_key_id=s3["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        services = Services(postgres, postgres, redis, s3)
        template = make_url(postgres).set(database="prepared").render_as_string(hide_password=False)
        with services._administer() as connection:
            connection.execute(text("CREATE DATABASE prepared"))
        app = create_app({"INSTANCE_PATH": folder / "prepare", "DATABASE_URL": template, "JOBS": "off"})
        with app.app_context():
            db.engine.dispose()  # a template must have no connections
        yield replace(services, template=template)
