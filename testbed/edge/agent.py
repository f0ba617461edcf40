"""What the controller talks to on a host: JSON lines over the standard streams of one SSH session.

A request is ``{"id", "call", "arguments"}``; its answer has ``result`` or ``error``. Events
(``{"event", ...}``) come when they happen. Every request has a thread of its own. Nothing listens
on a port; when the session ends the agent ends, and what it started for the session too.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import container, fitness, netlink, probe, visits, wan
from .container import Holder
from .guard import held
from .source import Move
from .spec import Spec
from .ways import Ways


class Agent:
    """The calls a controller can make. Public methods are calls; their arguments come by name."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._moves: dict[str, Move] = {}
        self._programs: dict[str, subprocess.Popen[str]] = {}

    # -- the host

    def clock(self) -> float:
        """This host's time of day."""
        return time.time()

    def facts(self) -> dict[str, Any]:
        """What this host is and can do."""
        return probe.facts()

    def route(self, destination: str, device: str, source: str | None = None) -> None:
        """Lead a service's or a user's address over one of this host's links."""
        netlink.replace_route(destination, device, source)

    def measure_delay(self, address: str, count: int) -> dict[str, Any]:
        """Round trips to another host."""
        return dict(wan.measure_delay(address, count))

    def measure_receive(self, address: str, port: int) -> dict[str, Any]:
        """Receive what another host's `measure_send` sends; return the rate at which it came."""
        return wan.receive(address, port)

    def measure_send(
        self, address: str, port: int, rate_bps: float | None, duration_s: float
    ) -> dict[str, Any]:
        """Send somewhat faster than ``rate_bps`` to another host."""
        return wan.send(address, port, rate_bps, duration_s)

    def read(self, path: str, offset: int = 0) -> str:
        """Text of a file on this host, from ``offset`` on."""
        with Path(path).open(encoding="utf-8") as file:
            file.seek(offset)
            return file.read()

    # -- programs of this session

    def start_program(self, name: str, command: list[str], directory: str = "/") -> int:
        """Start a program (a user's client) that ends with this session at the latest."""
        self._programs[name] = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self._programs[name].pid

    def program_state(self, name: str) -> int | None:
        """Exit status of a program; None while it runs."""
        return self._programs[name].poll()

    def signal_program(self, name: str, number: int) -> None:
        """Send a signal to a program."""
        self._programs[name].send_signal(number)

    def stop_program(self, name: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """Ask a program to end, wait for it; return its status and what it printed."""
        program = self._programs.pop(name)
        program.terminate()
        try:
            out, err = program.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            program.kill()
            out, err = program.communicate()
        return {"status": program.returncode, "output": out, "errors": err[-2000:]}

    # -- containers

    def start_service(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Make a container and start its service in it."""
        made = container.create(Spec.from_json(spec))
        holder = container.start(made.spec.name)
        return {"init": holder.init, "service": holder.service}

    def remove_service(self, name: str) -> None:
        """End a service, remove its container and what its visits have left here."""
        container.destroy(name)
        visits.forget(name)

    def visits(self) -> dict[str, int]:
        """How many bytes are kept here of each service that has left."""
        return visits.kept_bytes()

    def runs(self, name: str) -> bool:
        """Tell whether a service lives on this host now and does not stand still."""
        try:
            return Holder.load(name).runs
        except (KeyError, FileNotFoundError):
            return False

    def adopt(self, name: str) -> bool:
        """Keep a service that was restored here before the line to its source broke.

        Waits for the target's half of the migration to end. False where no whole one was restored;
        then nothing of it is left here, either.
        """
        with held(name):
            holder = container.restored(name)
            if holder:
                holder.adopt()
            else:
                container.destroy(name)
            return holder is not None

    def service_facts(self, name: str) -> dict[str, Any]:
        """What decides whether a service of this host can be restored elsewhere."""
        return fitness.of_service(name)

    def room(self) -> dict[str, Any]:
        """What is taken on this host."""
        return fitness.of_host()

    # -- migration

    def move_open(
        self,
        move: str,
        name: str,
        address: str,
        command: list[str],
        route: str,
        *,
        ways: dict[str, Any],
    ) -> None:
        """Open a move of a service to another edge and have the target prepared."""

        def report(event: dict[str, Any]) -> None:
            self._emit({**event, "move": move})

        this = Move(name, address, command, route, report, ways=Ways(**ways))
        try:
            this.open()
        except BaseException:
            this.drop()
            raise
        self._moves[move] = this

    def move_ahead(self, move: str, small_enough: int, rounds: int) -> dict[str, Any]:
        """Send memory and files ahead while the service runs; then keep them fresh."""
        this = self._moves[move]
        last = this.keep_ahead(small_enough, rounds)
        threading.Thread(target=this.stay_fresh, daemon=True).start()
        return last

    def move_finish(self, move: str) -> dict[str, Any]:
        """Move the service now."""
        record = self._moves[move].finish()
        if record["outcome"] != "unknown":
            self._moves.pop(move, None)
        return record

    def move_settle(self, move: str, *, moved: bool) -> None:
        """Decide a move whose outcome was unknown; no harm if it is decided already."""
        if move in self._moves:
            self._moves.pop(move).settle(moved=moved)

    def move_drop(self, move: str) -> None:
        """Give up a move; before its freeze the service never notices.

        One whose outcome is unknown is ended as soon as its target can be asked.
        """
        if move in self._moves:
            self._moves.pop(move).drop()

    def end(self) -> None:
        """Leave nothing of this session behind: what is under way is ended among the edges."""
        for name in list(self._programs):
            self.stop_program(name)
        ending = [
            threading.Thread(target=move.drop, kwargs={"alone": True})
            for move in self._moves.values()
        ]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()


def serve() -> None:
    """Answer requests until standard input ends."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints by mistake must not break the conversation
    lock = threading.Lock()

    def emit(message: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):  # a controller that is gone needs no answer
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    agent = Agent(emit)

    def answer(request: dict[str, Any]) -> None:
        try:
            result = getattr(agent, str(request["call"]).lstrip("_"))(**request["arguments"])
            emit({"id": request["id"], "result": result})
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            emit({
                "id": request["id"],
                "error": f"{type(error).__name__}: {error}",
                "log": getattr(error, "log", "") or traceback.format_exc()[-3000:],
            })  # fmt: skip

    emit({"event": "ready", "pid": os.getpid()})
    for line in requests:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
    agent.end()


if __name__ == "__main__":
    serve()
    sys.exit(0)
