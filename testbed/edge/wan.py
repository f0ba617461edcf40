"""The WAN as one host sees it: shape its own devices, take the shaping away, measure a path.

``python3 -m edge.wan apply PLAN.json`` prints ``changed`` or ``ok`` (for Ansible's
``changed_when``); ``remove`` takes away exactly what ``apply`` set; ``delay``, ``receive`` and
``send`` measure. What was set is remembered under ``/run/testbed`` as ``tc`` showed it right
afterwards: a device counts as shaped only while ``tc`` still shows the same, so a rule that
somebody else changed is noticed on every version of iproute2.
"""

import argparse
import json
import math
import re
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

STATE = Path("/run/testbed/wan.json")
HANDLE = "77:"
"""Every root qdisc that the testbed sets has this handle; others are not ours."""

DATAGRAM_BYTES = 1400
HEADER_BYTES = 28
"""IPv4 and UDP headers: what a datagram weighs on the link beside its payload."""
OVERDRIVE = 1.25
"""A rate is measured by sending this much faster than it should be."""
SETTLE_S = 0.1
"""The first part of a stream is not counted: the shaper lets a burst pass."""
_UDP_SEGMENT, _UDP_GRO, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 103, 104, 35, 33, 32
_SEGMENTS = 44
_FINISH = b"."


class ShapingError(RuntimeError):
    """A command that shapes a device failed, or the device is not there."""


def run(command: Sequence[str]) -> str:
    """Run a command and return its standard output.

    Raises
    ------
    ShapingError
        With the command and what it said, if it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ShapingError(f"`{' '.join(command)}` failed ({done.returncode}): {said}")
    return done.stdout


def shown(device: str) -> dict[str, Any]:
    """What the kernel says of a device's shaping: its root qdisc and its segment limit."""
    qdiscs = json.loads(run(["tc", "-j", "qdisc", "show", "dev", device, "root"]) or "[]")
    links = json.loads(run(["ip", "-d", "-j", "link", "show", "dev", device]))
    root = [q for q in qdiscs if q.get("handle") == HANDLE]
    return {
        "qdisc": [{key: q.get(key) for key in ("kind", "handle", "options")} for q in root],
        "gso_max_segs": links[0].get("gso_max_segs"),
    }


def apply(plan: dict[str, Any], state: Path = STATE) -> list[str]:
    """Shape this host's devices as the plan says and return the names of those that changed.

    Parameters
    ----------
    plan : dict
        ``{"host": ..., "devices": [{"device", "peer", "commands", "undo"}, ...]}``, as
        `testbed.hosts.wan.plan_wan` makes it.
    state : Path
        Where to remember what was set.

    Raises
    ------
    ShapingError
        If a device is missing or a command fails; what was set until then is remembered.
    """
    known = _read_state(state)
    changed = []
    wanted = {entry["device"]: entry for entry in plan["devices"] if entry["commands"]}
    for device in [name for name in known if name not in wanted]:
        _undo(device, known.pop(device))
        changed.append(device)
        _write_state(state, known)
    for device, entry in wanted.items():
        before = shown(device)
        old = known.get(device)
        if old and old["commands"] == entry["commands"] and old["shown"] == before:
            continue
        words = {word for command in entry["commands"] for word in command}
        kinds = {qdisc["kind"] for qdisc in before["qdisc"]}
        if old and (old["undo"] != entry["undo"] or not kinds <= words):
            _undo(device, old)  # otherwise `replace` changes it in place and loses no packet
        for command in entry["commands"]:
            run(command)
        known[device] = {
            "commands": entry["commands"],
            "undo": entry["undo"],
            "shown": shown(device),
        }
        _write_state(state, known)
        changed.append(device)
    return changed


def remove(state: Path = STATE) -> list[str]:
    """Take away what `apply` set, and nothing else; return the devices that changed."""
    known = _read_state(state)
    changed = [device for device, entry in known.items() if _undo(device, entry)]
    state.unlink(missing_ok=True)
    return changed


def _undo(device: str, entry: dict[str, Any]) -> bool:
    """Undo one device's shaping; false where it is gone already or another's stands there."""
    try:
        if not shown(device)["qdisc"]:
            return False
    except ShapingError:
        return False
    for command in entry["undo"]:
        run(command)
    return True


def _read_state(state: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content


def _write_state(state: Path, known: dict[str, Any]) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    part = state.with_name(f".{state.name}")
    part.write_text(json.dumps(known), encoding="utf-8")
    part.replace(state)


def parse_ping(text: str) -> dict[str, Any]:
    """Read what iputils' ``ping`` printed.

    Returns
    -------
    dict
        ``sent``, ``received`` (without duplicates) and, in seconds, ``rtt_median_s`` (the mean
        where ``ping -q`` gave no single times), ``rtt_min_s``, ``rtt_max_s``, ``rtt_mdev_s``;
        ``None`` where nothing was answered.

    Raises
    ------
    ValueError
        If there is no summary line.
    """
    summary = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    if summary is None:
        raise ValueError(f"not the output of ping (LC_ALL=C): {text[-300:]!r}")
    lines = [line for line in text.splitlines() if "(DUP!)" not in line]
    times_s = [float(t) / 1e3 for t in re.findall(r"time=([\d.]+) ms", "\n".join(lines))]
    result: dict[str, Any] = {"sent": int(summary[1]), "received": int(summary[2])}
    numbers = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", text)
    low, mean, high, spread = (
        (float(number) / 1e3 for number in numbers.groups()) if numbers else (None,) * 4
    )
    median = statistics.median(times_s) if times_s else mean
    return result | {
        "rtt_median_s": median,
        "rtt_min_s": low,
        "rtt_max_s": high,
        "rtt_mdev_s": spread,
    }


def measure_delay(address: str, count: int = 50, interval_s: float = 0.02) -> dict[str, Any]:
    """Ping an address ``count`` times and return what `parse_ping` reads.

    Raises
    ------
    ShapingError
        If ping cannot run at all; an address that does not answer is a result, not an error.
    """
    command = ["env", "LC_ALL=C", "ping", "-n", "-i", str(interval_s), "-W", "2", "-c", str(count)]
    done = subprocess.run([*command, address], capture_output=True, text=True, check=False)
    if "packets transmitted" not in done.stdout:
        raise ShapingError(f"ping {address} cannot run: {(done.stderr or done.stdout).strip()}")
    return parse_ping(done.stdout)


def send(
    address: str, port: int, rate_bps: float | None, duration_s: float = 0.5
) -> dict[str, Any]:
    """Send datagrams somewhat faster than ``rate_bps`` to a `receive` at the far end.

    Parameters
    ----------
    rate_bps : float or None
        The link's rate, bits per second; ``None`` sends as fast as this machine can.
    duration_s : float
        How long; ``SETTLE_S`` of it is not counted.
    """
    chunk = _SEGMENTS
    if rate_bps is not None:
        chunk = max(1, min(_SEGMENTS, int(rate_bps / 8 * 1e-3 / DATAGRAM_BYTES)))
    sent_bytes = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        try:
            sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, DATAGRAM_BYTES)
        except OSError:  # before kernel 4.18
            chunk = 1
        payload = bytes(DATAGRAM_BYTES * chunk)
        start_s = time.monotonic()
        while (elapsed_s := time.monotonic() - start_s) < duration_s:
            ahead = sent_bytes - elapsed_s * OVERDRIVE * (rate_bps or math.inf) / 8
            if ahead > 0 and rate_bps is not None:
                time.sleep(ahead * 8 / (OVERDRIVE * rate_bps))
            try:
                sent_bytes += sender.send(payload)
            except (BlockingIOError, ConnectionRefusedError):
                time.sleep(1e-3)
        for _ in range(5):
            time.sleep(0.02)
            try:
                sender.send(_FINISH)
            except ConnectionRefusedError:  # the receiver had its first one
                break
    return {"sent_bytes": sent_bytes, "duration_s": duration_s, "datagram_bytes": DATAGRAM_BYTES}


def receive(
    address: str,
    port: int = 0,
    timeout_s: float = 10.0,
    announce: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Receive what `send` sends and return the rate at which it came.

    Parameters
    ----------
    address, port : str, int
        Where to listen; port 0 takes a free one.
    timeout_s : float
        How long to wait for the first datagram, and at most for the whole.
    announce : callable
        Called with the port once datagrams can come.

    Returns
    -------
    dict
        ``payload_bps`` (``None`` if too little came), ``received_bytes``, ``duration_s``,
        ``datagram_bytes`` and ``header_bytes``: the link carried
        ``payload_bps * (datagram_bytes + header_bytes) / datagram_bytes``, plus Ethernet headers
        where its devices have them.
    """
    arrivals: list[tuple[float, int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        for level, option, value in (
            (socket.SOL_SOCKET, _SO_RCVBUFFORCE, 2**25),
            (socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1),
            (socket.IPPROTO_UDP, _UDP_GRO, 1),
        ):
            try:
                receiver.setsockopt(level, option, value)
            except OSError:  # not root, or an older kernel: less exact, still right
                continue
        receiver.bind((address, port))
        announce(receiver.getsockname()[1])
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            receiver.settimeout(left_s if not arrivals else min(left_s, 1.0))
            try:
                data, ancillary, _, _ = receiver.recvmsg(65536, 256)
            except TimeoutError:
                break
            if data == _FINISH:
                break
            arrivals.append((_arrived_s(ancillary), len(data)))
    return {
        "payload_bps": arrival_rate_bps(arrivals),
        "received_bytes": sum(size for _, size in arrivals),
        "duration_s": arrivals[-1][0] - arrivals[0][0] if arrivals else 0.0,
        "datagram_bytes": DATAGRAM_BYTES,
        "header_bytes": HEADER_BYTES,
    }


def _arrived_s(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel got a datagram (its own note, where it made one)."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("ll", data[: struct.calcsize("ll")])
            return float(seconds) + float(nanoseconds) * 1e-9
    return time.time()


def arrival_rate_bps(arrivals: list[tuple[float, int]]) -> float | None:
    """Payload bits per second of ``(arrival time in s, bytes)``, without the first `SETTLE_S`."""
    if not arrivals:
        return None
    steady = [(at, size) for at, size in arrivals if at >= arrivals[0][0] + SETTLE_S]
    if len(steady) < 2 or steady[-1][0] <= steady[0][0]:  # noqa: PLR2004
        return None
    return 8 * sum(size for _, size in steady[1:]) / (steady[-1][0] - steady[0][0])


def _announce(port: int) -> None:
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()


def _do(chosen: argparse.Namespace) -> str:
    if chosen.action == "apply":
        plan = json.loads(chosen.plan.read_text(encoding="utf-8"))
        return "changed" if apply(plan, chosen.state) else "ok"
    if chosen.action == "remove":
        return "changed" if remove(chosen.state) else "ok"
    if chosen.action == "delay":
        return json.dumps(measure_delay(chosen.address, chosen.count))
    if chosen.action == "receive":
        return json.dumps(receive(chosen.address, chosen.port, announce=_announce))
    return json.dumps(send(chosen.address, chosen.port, chosen.rate_bps, chosen.duration_s))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one thing and print one line: ``changed``, ``ok`` or JSON. 1 if it failed."""
    parser = argparse.ArgumentParser(prog="edge.wan", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("apply", "remove"):
        action = actions.add_parser(name)
        action.add_argument("--state", type=Path, default=STATE)
        if name == "apply":
            action.add_argument("plan", type=Path)
    for name in ("delay", "receive", "send"):
        action = actions.add_parser(name)
        action.add_argument("address")
        if name == "delay":
            action.add_argument("--count", type=int, default=50)
        else:
            action.add_argument("port", type=int)
        if name == "send":
            action.add_argument("--rate-bps", type=float)
            action.add_argument("--duration-s", type=float, default=0.5)
    try:
        sys.stdout.write(_do(parser.parse_args(arguments)) + "\n")
    except (ShapingError, OSError, ValueError) as error:
        sys.stderr.write(f"edge.wan: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
