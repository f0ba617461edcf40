"""The emulated WAN: from the scenario's links to commands, and from measurements to a verdict.

Everything here is pure. A plan says what each host must do to its own devices (done there by
`testbed.edge.wan`) and what the delay line must do (`testbed.hosts.delay_line`), `verify` says
whether a measured path is the one that was asked for.

Two back ends: ``netem`` does rate, delay and loss in one qdisc; where the kernel lacks it,
``delay-line`` leaves the rate to ``tbf`` and gives delay and loss to the user-space line.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from testbed.edge.wan import HANDLE
from testbed.errors import LinkNotAsRequestedError
from testbed.hosts.delay_line_config import DEFAULT_QUEUE_BYTES, End, LineConfig, LineLink, Setting
from testbed.records import NAN, LinkRecord
from testbed.scenario import Link

Backend = Literal["netem", "delay-line"]
Commands = tuple[tuple[str, ...], ...]

ETHERNET_HEADER_BYTES = 14
"""What ``tc`` counts beside the IP packet on a veth; a TUN device has no such header."""
MTU_BYTES = 1500
LEAST_BURST_BYTES, MOST_BURST_BYTES = 10_000, 128 * 1024
BURST_S = 2.5e-3
"""A bucket of 2.5 ms: large enough to keep TCP at its rate on a timer, small enough that what is
sent while a service is frozen does not get through for free. From 420 Mbit/s on it holds a whole
64 KiB segment twice, so that nothing has to be cut."""
LEAST_QUEUE_S = 25e-3
"""A bottleneck's queue holds one round trip, and at least this."""
LEAST_QUEUE_BYTES = 30_000
UNSHAPED_BPS = 10e9
"""What netem's queue is sized for where no rate is asked for."""
LEAST_NETEM_PACKETS = 1000

DELAY_TOLERANCE, DELAY_TOLERANCE_S = 0.05, 1e-3
RATE_TOLERANCE = 0.05
LOSS_DOUBT = 1e-4
"""A loss is refused where chance would give one as far off less often than this."""
LOSS_FLOOR = 1e-3
"""A loaded machine may lose this share by itself."""


@dataclass(frozen=True)
class LinkPlan:
    """How one direction of a path is emulated.

    commands : what shapes the source's device, empty where nothing is to be done there.
    undo : what takes that away again.
    setting : what the delay line does in this direction, ``None`` with netem.
    """

    link: Link
    device: str
    backend: Backend
    commands: Commands = ()
    undo: Commands = ()
    setting: Setting | None = None

    @property
    def applied(self) -> str:
        """All that was done for this direction, in one line for the records."""
        done = [" ".join(command) for command in self.commands]
        if self.setting:
            done.append(f"delay line {self.setting.delay_s:g} s, loss {self.setting.loss:g}")
        return "; ".join(done)


@dataclass(frozen=True)
class HostWanPlan:
    """What one host does to its devices; `to_json` is what `testbed.edge.wan.apply` takes."""

    host: str
    links: tuple[LinkPlan, ...]

    def to_json(self) -> dict[str, Any]:
        """Nothing but JSON's own types."""
        devices = [
            {
                "device": plan.device,
                "peer": plan.link.target,
                "commands": [list(command) for command in plan.commands],
                "undo": [list(command) for command in plan.undo],
            }
            for plan in self.links
        ]
        return {"host": self.host, "devices": devices}


@dataclass(frozen=True)
class LinkMeasurement:
    """What was measured on a path.

    rtt_s : median round trip, seconds. sent, received : probes and answers (both directions).
    rate_bps : bits per second on the link itself, headers included; ``None`` if not measured.
    """

    rtt_s: float
    sent: int
    received: int
    rate_bps: float | None = None

    @property
    def loss(self) -> float:
        """Share lost in one direction, taking both for equal."""
        return 1 - math.sqrt(self.received / self.sent) if self.sent else NAN


def device_name(peer: str) -> str:
    """Return the name of the device that leads to a peer."""
    return f"wan-{peer}"


def queue_s(link: Link) -> float:
    """How long a bottleneck's queue may make a packet wait: a round trip, at least 25 ms."""
    return max(LEAST_QUEUE_S, 2 * link.delay_s)


def burst_bytes(rate_bps: float) -> int:
    """Size of the token bucket for a rate."""
    usual = min(MOST_BURST_BYTES, rate_bps / 8 * BURST_S)
    return int(max(LEAST_BURST_BYTES, usual, rate_bps / 8 * BURST_S / 10))


def plan_link(link: Link, device: str, backend: Backend) -> LinkPlan:
    """Commands and delay-line setting that make ``device`` behave as ``link`` asks."""
    undo: Commands = (("tc", "qdisc", "del", "dev", device, "root"),)
    commands: Commands = ()
    root = ("tc", "qdisc", "replace", "dev", device, "root", "handle", HANDLE)
    if backend == "netem":
        shaping = _netem(link)
        commands = ((*root, *shaping),) if shaping else commands
        if link.loss:  # one fate per packet, not per segment of 64 KiB
            segments = ("ip", "link", "set", "dev", device, "gso_max_segs")
            commands, undo = ((*segments, "1"), *commands), ((*segments, "65535"), *undo)
        return LinkPlan(link, device, backend, commands, undo if commands else ())
    queue_bytes = DEFAULT_QUEUE_BYTES
    if link.rate_bps is not None:
        burst = burst_bytes(link.rate_bps)
        waiting = max(LEAST_QUEUE_BYTES, int(link.rate_bps / 8 * queue_s(link)))
        shaping = ("tbf", "rate", f"{link.rate_bps:.0f}bit", "burst", str(burst))
        commands = ((*root, *shaping, "limit", str(burst + waiting)),)
        queue_bytes = 2**20 + int(2 * link.rate_bps / 8 * link.delay_s)
    setting = Setting(link.delay_s, link.loss, queue_bytes)
    return LinkPlan(link, device, backend, commands, undo if commands else (), setting)


def _netem(link: Link) -> tuple[str, ...]:
    if link.rate_bps is None and not link.delay_s and not link.loss:
        return ()
    on_the_way_s = link.delay_s + (queue_s(link) if link.rate_bps else 0.0)
    packets = (link.rate_bps or UNSHAPED_BPS) / 8 * on_the_way_s / MTU_BYTES
    words = ["netem", "limit", str(max(LEAST_NETEM_PACKETS, math.ceil(packets)))]
    if link.delay_s:
        words += ["delay", f"{link.delay_s * 1e6:.0f}us"]
    if link.loss:
        words += ["loss", f"{link.loss * 100:g}%"]
    if link.rate_bps is not None:
        words += ["rate", f"{link.rate_bps:.0f}bit"]
    return tuple(words)


def plan_wan(links: Iterable[Link], backend: Backend) -> dict[str, HostWanPlan]:
    """What each host must do to its own devices, for all links of a scenario."""
    plans: dict[str, list[LinkPlan]] = {}
    for link in links:
        plan = plan_link(link, device_name(link.target), backend)
        plans.setdefault(link.source, []).append(plan)
    return {host: HostWanPlan(host, tuple(found)) for host, found in plans.items()}


def plan_delay_line(
    links: Iterable[Link],
    netns: Mapping[str, str],
    *,
    seed: int = 1,
    ready_path: str = "",
    stats_path: str = "",
) -> LineConfig:
    """Configuration of the one delay line that carries all links of a lab.

    Parameters
    ----------
    links : iterable of Link
        Both directions; where one is missing the path is taken to be the same both ways.
    netns : mapping of str to str
        Network namespace of each host: a name, or a path such as ``/proc/PID/ns/net``.
    """
    by_ends = {(link.source, link.target): link for link in links}
    lines = []
    for (source, target), there in by_ends.items():
        if (target, source) in by_ends and source > target:
            continue  # planned with the other direction
        back = by_ends.get((target, source), there)
        settings = (
            plan_link(there, device_name(target), "delay-line").setting or Setting(),
            plan_link(back, device_name(source), "delay-line").setting or Setting(),
        )
        ends = (
            End(source, netns[source], device_name(target), MTU_BYTES),
            End(target, netns[target], device_name(source), MTU_BYTES),
        )
        lines.append(LineLink(ends, settings))
    return LineConfig(tuple(lines), seed, ready_path=ready_path, stats_path=stats_path)


def link_rate_bps(report: Mapping[str, Any], backend: Backend) -> float | None:
    """Bits per second on the link, from what `testbed.edge.wan.receive` returned.

    The receiver counts payload; ``tc`` counts whole IP packets, on a veth (netem) also 14 bytes
    of Ethernet: ``payload_bps * (1400 + 28 [+ 14]) / 1400``.
    """
    if report["payload_bps"] is None:
        return None
    payload = int(report["datagram_bytes"])
    frame = payload + int(report["header_bytes"]) + _device_header_bytes(backend)
    return float(report["payload_bps"]) * frame / payload


def iperf3_rate_bps(report: Mapping[str, Any], backend: Backend) -> float:
    """Bits per second on the link, from a TCP client's ``iperf3 -J``.

    Goodput times frame over payload: with a segment of 1,448 bytes the packet has 1,500.

    Raises
    ------
    ValueError
        If iperf3 reports an error instead.
    """
    if report.get("error"):
        raise ValueError(f"iperf3: {report['error']}")
    payload = float(report["start"]["tcp_mss_default"])
    frame = payload + 52 + _device_header_bytes(backend)  # IPv4 20, TCP 20, time stamps 12
    return float(report["end"]["sum_received"]["bits_per_second"]) * frame / payload


def _device_header_bytes(backend: Backend) -> int:
    return ETHERNET_HEADER_BYTES if backend == "netem" else 0


def measurement(
    delay: Mapping[str, Any], rate: Mapping[str, Any] | None, backend: Backend
) -> LinkMeasurement:
    """Join what `testbed.edge.wan` measured: ``measure_delay`` here, ``receive`` at the target."""
    return LinkMeasurement(
        rtt_s=NAN if delay["rtt_median_s"] is None else float(delay["rtt_median_s"]),
        sent=int(delay["sent"]),
        received=int(delay["received"]),
        rate_bps=None if rate is None else link_rate_bps(rate, backend),
    )


def verify(link: Link, measured: LinkMeasurement, back: Link | None = None) -> None:
    """Refuse a path that is not what the scenario asks for.

    Delay: half the median round trip must be within the larger of 5 % and 1 ms. Rate (where one
    is asked for and was measured): within 5 %, where loss may lower what arrives by its share.
    Loss: the probes lost must not be more or fewer than chance explains (1 in 10,000).

    Parameters
    ----------
    back : Link, optional
        The other direction, if it differs from ``link``.

    Raises
    ------
    LinkNotAsRequestedError
        With everything that is off, by how much, and where to look.
    """
    back = back or link
    device = device_name(link.target)
    problems = [*_delay_problem(link, back, measured), *_loss_problem(link, back, measured)]
    if link.rate_bps is not None and measured.rate_bps is not None:
        least_bps = link.rate_bps * (1 - link.loss) * (1 - RATE_TOLERANCE)
        if not least_bps <= measured.rate_bps <= link.rate_bps * (1 + RATE_TOLERANCE):
            off = measured.rate_bps / link.rate_bps - 1
            problems.append(
                f"asked for {link.rate_bps / 1e6:g} Mbit/s, measured "
                f"{measured.rate_bps / 1e6:.2f} Mbit/s with headers ({off:+.1%})"
            )
    if problems:
        raise LinkNotAsRequestedError(
            f"{link.source} → {link.target}: {'; '.join(problems)}. Another qdisc on {device}, or "
            f"a machine too busy? `tc -s qdisc show dev {device}` on {link.source} lists them; "
            "with the delay line, its statistics (SIGUSR1) show how late it was"
        )


def _delay_problem(link: Link, back: Link, measured: LinkMeasurement) -> list[str]:
    asked_s = (link.delay_s + back.delay_s) / 2
    found_s = measured.rtt_s / 2
    if abs(found_s - asked_s) <= max(asked_s * DELAY_TOLERANCE, DELAY_TOLERANCE_S):
        return []
    if math.isnan(found_s):
        return [f"no answer to {measured.sent} probes"]
    found = f"measured {found_s * 1e3:.1f} ms (half the median round trip of {measured.received})"
    return [f"asked for {asked_s * 1e3:.1f} ms, {found}"]


def _loss_problem(link: Link, back: Link, measured: LinkMeasurement) -> list[str]:
    if not measured.sent or math.isnan(measured.rtt_s):
        return []
    lost = measured.sent - measured.received
    share = 1 - (1 - link.loss) * (1 - back.loss)
    few = binomial_at_most(lost, measured.sent, share)
    many = 1 - binomial_at_most(lost - 1, measured.sent, max(share, LOSS_FLOOR))
    if min(few, many) >= LOSS_DOUBT:
        return []
    found = f"measured {lost} of {measured.sent} ({lost / measured.sent:.2%})"
    return [f"asked for {share:.2%} lost on the round trip, {found}"]


def binomial_at_most(count: int, trials: int, share: float) -> float:
    """Return the probability of at most ``count`` successes in ``trials``, ``share`` each."""
    if count < 0:
        return 0.0
    if count >= trials or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    total = 0.0
    for k in range(count + 1):
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        total += math.exp(ways + k * math.log(share) + (trials - k) * math.log1p(-share))
    return min(1.0, total)


def to_record(plan: LinkPlan, measured: LinkMeasurement | None) -> LinkRecord:
    """One row of the results: asked for, done, measured. ``nan``: unshaped, or not measured."""
    link = plan.link
    return LinkRecord(
        source=link.source,
        target=link.target,
        requested_rate_bps=NAN if link.rate_bps is None else link.rate_bps,
        requested_delay_s=link.delay_s,
        requested_loss=link.loss,
        backend=plan.backend,
        applied=plan.applied,
        measured_rate_bps=NAN if measured is None or not measured.rate_bps else measured.rate_bps,
        measured_delay_s=NAN if measured is None else measured.rtt_s / 2,
        measured_loss=NAN if measured is None else measured.loss,
    )
