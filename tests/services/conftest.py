import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testbed.services.service import find_service


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The cache folder of the testbed; one for this run only where it cannot be written."""
    folder = Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbed"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return tmp_path_factory.mktemp("cache")
    return folder


@dataclass
class Client:
    """A client that has ended: exit code, summary and rows."""

    code: int
    summary: dict
    rows: list = field(default_factory=list)

    @property
    def errors(self):
        return [row["error"] for row in self.rows if row["error"]]


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory, cache):
    """What the user's host gets, for a service's name."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            find_service(name).prepare_inputs(made[name], cache=cache)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def context(cache):
    """What a service's image is built from, with its models, for a name."""
    with contextlib.ExitStack() as stack:
        made = {}

        def folder(name):
            if name not in made:
                made[name] = stack.enter_context(find_service(name).build_context(cache))
            return made[name]

        yield folder


@pytest.fixture
def serve(context):
    """Start the server of a service on a free port: ``serve("simple") -> port``."""
    with contextlib.ExitStack() as stack:

        def start(name, *options):
            server = context(name) / "server.py"
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, server, "--address", "127.0.0.1", "--port", "0", *options],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.terminate)
            return int(process.stdout.readline())

        yield start


@pytest.fixture
def use(client_folder, tmp_path):
    """Run a client to its end: ``use("simple", port, "--requests", "9") -> Client``."""

    def run(name, port, *options, stop_after_s=None):
        output = tmp_path / "rows.csv"
        with subprocess.Popen(
            [sys.executable, "client.py", "--port", str(port), "--output", output, *options],
            cwd=client_folder(name),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                if stop_after_s is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(stop_after_s)
                    process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=20)
            finally:
                process.kill()
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Client(process.returncode, json.loads(said.splitlines()[-1]), rows)

    return run


@pytest.fixture
def fake():
    """A server that talks as a test says: ``fake(handle) -> port``; a call for each connection."""
    listeners = []

    def start(*handlers):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept():
            for handle in handlers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    handle(connection)

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.close()
