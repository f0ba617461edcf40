"""A host as the controller sees it: one SSH session with its agent at the other end."""

import contextlib
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.errors import HostUnreachableError, RemoteCommandError

EDGE_FOLDER = "/usr/local/lib/testbed"
EventHandler = Callable[[dict[str, Any]], None]
CONNECT_TIMEOUT_S = 20.0


def agent_command(module: str) -> list[str]:
    """How a module of the edge's own code is started on a host."""
    return ["env", f"PYTHONPATH={EDGE_FOLDER}", "python3", "-m", f"edge.{module}"]


class Remote:
    """A running agent on a host.

    Parameters
    ----------
    name : str
        The host.
    ssh : list of str
        Command line that opens a session on it (`testbed.hosts.namespace.ssh_command`).
    on_event : callable, optional
        Called, on a thread of this object, with every event the agent reports.
    """

    def __init__(self, name: str, ssh: list[str], on_event: EventHandler | None = None) -> None:
        self.name = name
        self._on_event = on_event
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._silent = False
        self._process = subprocess.Popen(
            [*ssh, *agent_command("agent")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the controller, which ends its agents in order
        )
        self._errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._listen, name=f"agent {name}", daemon=True),
            threading.Thread(target=self._collect_errors, name=f"errors {name}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait_ready(self, timeout_s: float = CONNECT_TIMEOUT_S) -> Self:
        """Return when the agent speaks.

        Raises
        ------
        HostUnreachableError
            If it does not.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise HostUnreachableError(
                    f"{self.name}: its agent did not answer over SSH: {self._last_words()} "
                    "Is the lab up and provisioned? `testbed lab status`"
                )
        return self

    @property
    def ended(self) -> bool:
        """Whether the session has ended."""
        return self._silent or self._process.poll() is not None

    def start(self, call: str, **arguments: Any) -> Future[Any]:
        """Begin a call; the future holds its result or a `RemoteCommandError`."""
        future: Future[Any] = Future()
        number = next(self._numbers)
        message = json.dumps({"id": number, "call": call, "arguments": arguments})
        with self._lock:
            if self.ended or self._process.stdin is None:
                future.set_exception(self._gone())
                return future
            self._waiting[number] = future
            try:
                self._process.stdin.write(message + "\n")
                self._process.stdin.flush()
            except OSError:
                self._waiting.pop(number, None)
                future.set_exception(self._gone())
        return future

    def call(self, call: str, *, timeout_s: float = 120.0, **arguments: Any) -> Any:
        """Make a call and wait for its result.

        Raises
        ------
        RemoteCommandError
            If the call fails on the host.
        HostUnreachableError
            If the host is gone, or does not answer in time.
        """
        try:
            return self.start(call, **arguments).result(timeout_s)
        except FutureTimeoutError:
            raise HostUnreachableError(
                f"{self.name}: {call} did not answer within {timeout_s:.0f} s"
            ) from None

    def close(self) -> None:
        """End the session; the agent cleans up after itself."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def __enter__(self) -> Self:
        """Wait until the agent speaks."""
        return self.wait_ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session."""
        self.close()

    def _listen(self) -> None:
        if self._process.stdout is None:  # pragma: no cover - a pipe was asked for
            return
        try:
            for line in self._process.stdout:
                self._take(line)
        finally:
            with self._lock:
                self._silent = True
                lost, self._waiting = self._waiting, {}
            for future in lost.values():
                future.set_exception(self._gone())

    def _take(self, line: str) -> None:
        """One line of the agent: an answer, an event, or noise that is kept for its last words."""
        try:
            message = json.loads(line)
        except ValueError:
            self._errors = [*self._errors[-20:], line]
            return
        if message.get("event") == "ready":
            self._ready.set()
        elif "event" in message:
            if self._on_event:
                self._on_event({**message, "host": self.name})
        else:
            self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        with self._lock:
            future = self._waiting.pop(message["id"], None)
        if future is None:
            return
        if "error" in message:
            text = f"{self.name}: {message['error']}"
            future.set_exception(RemoteCommandError(text, host=self.name, log=message["log"]))
        else:
            future.set_result(message["result"])

    def _collect_errors(self) -> None:
        if self._process.stderr is not None:
            for line in self._process.stderr:
                self._errors = [*self._errors[-20:], line]

    def _last_words(self) -> str:
        return "".join(self._errors).strip()[-500:] or "(nothing was said)"

    def _gone(self) -> HostUnreachableError:
        return HostUnreachableError(f"{self.name}: the SSH session ended: {self._last_words()}")


def edge_files() -> dict[str, bytes]:
    """The edge's own code: every file of ``testbed/edge`` by its name."""
    folder = Path(__file__).parent.parent / "edge"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.[chp]*"))}
