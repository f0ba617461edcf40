"""A delay line in user space: the WAN's delay and loss where the kernel has no netem.

``python3 -m testbed.hosts.delay_line CONFIG.json`` (as root) opens a TUN device in the network
namespace at either end of every link and carries packets between the two, each after its
direction's delay, some of them lost. One thread serves all links. The rate is not its business:
``tc`` shapes the devices (`testbed.hosts.wan`).

Packets pass whole: with ``IFF_VNET_HDR`` the kernel hands over segments of up to 64 KiB and cuts
them at the far end, so a device of MTU 1500 costs a few hundred reads per 100 Mbit. A direction
that loses packets takes them one by one, so that each meets its own fate.

SIGHUP reads the file again and changes delays and losses without touching what is on its way;
SIGUSR1 writes statistics; SIGTERM ends it, and the devices vanish with it.
"""

import argparse
import gc
import heapq
import json
import os
import random
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.errors import LabError
from testbed.hosts.delay_line_config import End, LineConfig, LineLink, Setting, read_config
from testbed.hosts.tun import READ_BYTES, VNET_HEADER_BYTES, let_pass, open_end
from testbed.hosts.wakeup import Timer, hurry

PACKETS_PER_WAKE = 64
DELIVER_AHEAD_S = 20e-6
"""A packet due this soon is delivered now: going to sleep and waking takes longer."""


class Direction:
    """Packets on their way from one end to the other. Knows no clock, no file, no kernel."""

    __slots__ = (
        "_last_due_s",
        "dropped",
        "late_s",
        "lost",
        "moved",
        "moved_bytes",
        "queue",
        "queued_bytes",
        "refused",
        "rng",
        "setting",
        "target",
    )  # fmt: skip

    def __init__(self, setting: Setting, rng: random.Random, target: int = -1) -> None:
        self.setting = setting
        self.rng = rng
        self.target = target
        self.queue: deque[tuple[float, bytes]] = deque()
        self.queued_bytes = self.moved = self.moved_bytes = 0
        self.lost = self.dropped = self.refused = 0
        self.late_s = self._last_due_s = 0.0

    def take(self, now_s: float, packet: bytes) -> None:
        """Let a packet in: lose it, drop it where the queue is full, or give it its due time.

        A packet is never due before the one ahead of it, even where the delay has just shrunk.
        """
        setting = self.setting
        if setting.loss and self.rng.random() < setting.loss:
            self.lost += 1
            return
        queued_bytes = self.queued_bytes + len(packet)
        if queued_bytes > setting.queue_bytes:
            self.dropped += 1
            return
        due_s = now_s + setting.delay_s
        if due_s < self._last_due_s and self.queue:
            due_s = self._last_due_s
        self._last_due_s = due_s
        self.queued_bytes = queued_bytes
        self.queue.append((due_s, packet))

    def due(self, now_s: float) -> list[bytes]:
        """Every packet that must be at the far end now, in order."""
        queue, found = self.queue, []
        if queue and now_s - queue[0][0] > self.late_s:
            self.late_s = now_s - queue[0][0]
        while queue and queue[0][0] <= now_s + DELIVER_AHEAD_S:
            packet = queue.popleft()[1]
            self.queued_bytes -= len(packet)
            found.append(packet)
        return found

    def statistics(self) -> dict[str, float | int]:
        """What happened so far; ``max_late_s`` is the worst delivery behind its due time."""
        return {
            "delay_s": self.setting.delay_s,
            "loss": self.setting.loss,
            "packets": self.moved,
            "bytes": self.moved_bytes,
            "lost": self.lost,
            "dropped": self.dropped,
            "refused": self.refused,
            "queued": len(self.queue),
            "queued_bytes": self.queued_bytes,
            "max_late_s": round(self.late_s, 7),
        }


class DelayLine:
    """All links of one lab; `run` moves their packets until SIGTERM."""

    def __init__(self, config: LineConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.ends: dict[int, tuple[int, Direction, End]] = {}
        self.directions: list[tuple[LineLink, list[Direction]]] = []
        self._waiting: list[tuple[float, int]] = []
        self._running = True
        self._started_s = time.monotonic()

    def open(self) -> None:
        """Make every device and bring it up."""
        for link in self.config.links:
            pair = [
                Direction(setting, random.Random(f"{self.config.seed} {link.name} {number}"))  # noqa: S311
                for number, setting in enumerate(link.settings)
            ]
            fds = [
                open_end(end, whole=not way.setting.loss, txqueuelen=self.config.txqueuelen)
                for end, way in zip(link.ends, pair, strict=True)
            ]
            for number, way in enumerate(pair):
                way.target = fds[1 - number]
                self.ends[fds[number]] = (len(self.ends), way, link.ends[number])
            self.directions.append((link, pair))

    def run(self) -> None:
        """Move packets until SIGTERM or SIGINT."""
        timer, epoll = Timer(), select.epoll()
        bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        for fd in (timer.fd, bell, *self.ends):
            epoll.register(fd, select.EPOLLIN)
        by_number = [way for _, way, _ in self.ends.values()]
        waiting, ends = self._waiting, self.ends
        while self._running:
            timer.set(waiting[0][0] if waiting else 0.0)
            for fd, _ in epoll.poll(-1, PACKETS_PER_WAKE):
                if fd == timer.fd:
                    timer.clear()
                elif fd == bell:
                    for number in os.read(bell, 64):
                        self._obey(number)
                elif not self._read(fd, *ends[fd][:2]):
                    epoll.unregister(fd)
                self._deliver(by_number)
        signal.set_wakeup_fd(-1)
        self._write_statistics()

    def _read(self, fd: int, number: int, way: Direction) -> bool:
        """Take what an end has for us; false once its device is gone."""
        empty, now_s, read, take = not way.queue, time.monotonic(), os.read, way.take
        try:
            for _ in range(PACKETS_PER_WAKE):
                take(now_s, read(fd, READ_BYTES))
        except BlockingIOError:
            pass
        except OSError as error:
            end = self.ends[fd][2]
            _say(f"{end.host}: device {end.device} is gone ({error.strerror}); its link is dead")
            return False
        finally:
            if empty and way.queue:
                heapq.heappush(self._waiting, (way.queue[0][0], number))
        return True

    def _deliver(self, by_number: list[Direction]) -> None:
        waiting, write = self._waiting, os.write
        now_s = time.monotonic()
        while waiting and waiting[0][0] <= now_s + DELIVER_AHEAD_S:
            way = by_number[waiting[0][1]]
            target, size = way.target, 0
            packets = way.due(now_s)
            for packet in packets:
                try:
                    size += write(target, packet)
                except OSError:  # the far device is down, or does not take such a packet
                    way.refused += 1
            way.moved += len(packets)
            way.moved_bytes += size - len(packets) * VNET_HEADER_BYTES
            if way.queue:
                heapq.heapreplace(waiting, (way.queue[0][0], waiting[0][1]))
            else:
                heapq.heappop(waiting)

    def _obey(self, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._running = False
        elif number == signal.SIGUSR1:
            self._write_statistics()
        elif number == signal.SIGHUP:
            try:
                self.reload(read_config(self.path))
            except LabError as error:
                _say(f"{error}. The delay line goes on as before")

    def reload(self, config: LineConfig) -> None:
        """Take over new delays, losses and queue limits; what is on its way stays as it is.

        Raises
        ------
        LabError
            If the new configuration has other devices than this line has open.
        """
        if [link.ends for link in config.links] != [link.ends for link in self.config.links]:
            raise LabError(
                f"{self.path}: has other links than the running delay line; only delay_s, loss "
                "and queue_bytes can change while it runs. Start the lab anew"
            )
        for link, (_, pair) in zip(config.links, self.directions, strict=True):
            for setting, way, fd in zip(link.settings, pair, self._sources(pair), strict=True):
                if bool(setting.loss) != bool(way.setting.loss):
                    let_pass(fd, whole=not setting.loss)
                way.setting = setting
        self.config = config
        if config.stats_path:
            self._write_statistics()

    def _sources(self, pair: list[Direction]) -> list[int]:
        return [pair[1].target, pair[0].target]

    def _write_statistics(self) -> None:
        if not self.config.stats_path:
            return
        report: dict[str, Any] = {
            "pid": os.getpid(),
            "running_s": round(time.monotonic() - self._started_s, 6),
            "cpu_s": time.process_time(),
            "directions": [
                {"source": source.host, "target": target.host} | way.statistics()
                for link, pair in self.directions
                for (source, target), way in zip((link.ends, link.ends[::-1]), pair, strict=True)
            ],
        }
        write_whole(Path(self.config.stats_path), json.dumps(report, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader never sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _say(message: str) -> None:
    sys.stderr.write(f"delay line: {message}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the delay line of one lab in the foreground; 0 when it was told to end."""
    parser = argparse.ArgumentParser(prog="testbed.hosts.delay_line", description=__doc__)
    parser.add_argument("config", type=Path, help="JSON as LineConfig.to_json writes it")
    path: Path = parser.parse_args(arguments).config
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # the wake-up descriptor tells the loop
    try:
        line = DelayLine(read_config(path), path)
        line.open()
    except LabError as error:
        _say(str(error))
        return 1
    granted = hurry(line.config.scheduling)
    if line.config.ready_path:
        write_whole(Path(line.config.ready_path), f"ready {os.getpid()} {granted}\n")
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a pause would be a delay
    line.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
