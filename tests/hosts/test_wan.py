import json
import math

import pytest

from testbed.edge.wan import parse_ping
from testbed.errors import LinkNotAsRequestedError
from testbed.hosts import wan
from testbed.hosts.wan import LinkMeasurement, plan_delay_line, plan_link, plan_wan, verify
from testbed.scenario import Link

MBIT = 1e6


def link(**values):
    return Link(source="a", target="b", **values)


def measured(rtt_s=0.04, sent=50, received=50, rate_bps=None):
    return LinkMeasurement(rtt_s, sent, received, rate_bps)


def test_netem_does_everything_in_one_qdisc():
    plan = plan_link(link(rate_bps=100 * MBIT, delay_s=0.02), "wan-b", "netem")
    assert " ".join(plan.commands[0]) == (
        "tc qdisc replace dev wan-b root handle 77: "
        "netem limit 1000 delay 20000us rate 100000000bit"
    )
    assert len(plan.commands) == 1
    assert plan.undo == (("tc", "qdisc", "del", "dev", "wan-b", "root"),)
    assert plan.setting is None


def test_netem_holds_what_is_on_its_way():
    plan = plan_link(link(rate_bps=1e9, delay_s=0.05), "wan-b", "netem")
    limit = int(plan.commands[0][plan.commands[0].index("limit") + 1])
    assert limit * 1500 * 8 >= 1e9 * (0.05 + 0.1)


def test_netem_with_loss_gives_each_packet_its_own_fate():
    plan = plan_link(link(loss=0.015), "wan-b", "netem")
    assert plan.commands[0][-2:] == ("gso_max_segs", "1")
    assert plan.commands[1][-2:] == ("loss", "1.5%")
    assert plan.undo[0][-1] == "65535"


def test_without_netem_tc_does_the_rate_and_the_line_the_rest():
    plan = plan_link(link(rate_bps=100 * MBIT, delay_s=0.02, loss=0.01), "wan-b", "delay-line")
    assert [" ".join(command) for command in plan.commands] == [
        "tc qdisc replace dev wan-b root handle 77: tbf rate 100000000bit burst 31250 limit 531250"
    ]
    assert (plan.setting.delay_s, plan.setting.loss) == (0.02, 0.01)
    assert plan.setting.queue_bytes > 2 * 100 * MBIT / 8 * 0.02
    assert "delay line 0.02 s, loss 0.01" in plan.applied


@pytest.mark.parametrize("backend", ["netem", "delay-line"])
def test_an_unshaped_link_needs_no_command(backend):
    plan = plan_link(link(), "wan-b", backend)
    assert plan.commands == plan.undo == ()


@pytest.mark.parametrize("rate_bps", [1e5, 20 * MBIT, 100 * MBIT, 1e9, 1e11])
def test_a_bucket_is_small_in_time_and_large_enough_for_a_packet(rate_bps):
    burst = wan.burst_bytes(rate_bps)
    assert burst >= 10_000
    assert burst == 10_000 or burst * 8 / rate_bps <= 2.5e-3


def test_a_whole_plan_is_json_and_names_every_device_once():
    links = [link(rate_bps=1e8), Link(source="b", target="a"), Link(source="a", target="c")]
    plans = plan_wan(links, "delay-line")
    content = json.loads(json.dumps({host: plan.to_json() for host, plan in plans.items()}))
    assert [d["device"] for d in content["a"]["devices"]] == ["wan-b", "wan-c"]
    assert content["b"]["devices"][0] == {
        "device": "wan-a",
        "peer": "a",
        "commands": [],
        "undo": [],
    }


def test_the_delay_line_has_one_link_per_pair_with_both_directions():
    links = [
        Link(source="b", target="a", delay_s=0.002),
        Link(source="a", target="b", delay_s=0.001),
        Link(source="c", target="a", delay_s=0.003),
    ]
    config = plan_delay_line(links, {"a": "ns-a", "b": "/proc/7/ns/net", "c": "ns-c"}, seed=5)
    found = [(x.name, [s.delay_s for s in x.settings]) for x in config.links]
    assert found == [("a - b", [0.001, 0.002]), ("c - a", [0.003, 0.003])]
    first = config.links[0]
    assert [(e.netns, e.device) for e in first.ends] == [
        ("ns-a", "wan-b"),
        ("/proc/7/ns/net", "wan-a"),
    ]
    assert config.seed == 5


@pytest.mark.parametrize(
    ("asked_s", "rtt_s", "good"),
    [
        (0.02, 0.0419, True),  # 0.95 ms off
        (0.02, 0.0421, False),  # 1.05 ms off, 5 % would be 1 ms
        (0.1, 0.2099, True),  # 4.95 ms off, 5 % are 5 ms
        (0.1, 0.2101, False),
        (0.1, 0.189, False),
        (0.0, 0.0005, True),
    ],
)
def test_a_delay_may_be_off_by_5_percent_or_1_ms(asked_s, rtt_s, good):
    if good:
        verify(link(delay_s=asked_s), measured(rtt_s))
    else:
        with pytest.raises(LinkNotAsRequestedError, match=r"asked for .* ms, measured"):
            verify(link(delay_s=asked_s), measured(rtt_s))


def test_a_delay_is_held_against_both_directions():
    back = Link(source="b", target="a", delay_s=0.03)
    verify(link(delay_s=0.01), measured(0.04), back)
    with pytest.raises(LinkNotAsRequestedError):
        verify(link(delay_s=0.01), measured(0.04))


@pytest.mark.parametrize(
    ("rate_bps", "good"), [(96e6, True), (104e6, True), (94e6, False), (106e6, False)]
)
def test_a_rate_may_be_off_by_5_percent(rate_bps, good):
    asked = link(rate_bps=1e8, delay_s=0.02)
    if good:
        verify(asked, measured(rate_bps=rate_bps))
    else:
        with pytest.raises(LinkNotAsRequestedError, match=r"100 Mbit/s.*tc -s qdisc show"):
            verify(asked, measured(rate_bps=rate_bps))


def test_loss_lowers_the_rate_that_may_arrive():
    verify(link(rate_bps=1e8, loss=0.1, delay_s=0.02), measured(received=42, rate_bps=90e6))


@pytest.mark.parametrize(
    ("loss", "received", "good"),
    [(0.0, 50, True), (0.0, 49, True), (0.0, 45, False), (0.1, 41, True), (0.1, 50, False),
     (0.1, 20, False), (0.01, 48, True)],
)  # fmt: skip
def test_a_loss_must_be_one_that_chance_explains(loss, received, good):
    if good:
        verify(link(loss=loss, delay_s=0.02), measured(received=received))
    else:
        with pytest.raises(LinkNotAsRequestedError, match="lost on the round trip"):
            verify(link(loss=loss, delay_s=0.02), measured(received=received))


def test_silence_is_an_error_of_its_own():
    with pytest.raises(LinkNotAsRequestedError, match="no answer to 50 probes"):
        verify(link(delay_s=0.02), measured(math.nan, received=0))


def test_the_binomial_is_exact_and_safe_at_its_ends():
    assert wan.binomial_at_most(0, 10, 0.5) == pytest.approx(2**-10)
    assert wan.binomial_at_most(5, 10, 0.5) == pytest.approx(638 / 1024)
    assert wan.binomial_at_most(10, 10, 0.5) == 1
    assert wan.binomial_at_most(-1, 10, 0.5) == 0
    assert wan.binomial_at_most(3, 10, 0.0) == 1
    assert wan.binomial_at_most(3, 10, 1.0) == 0


PING = """PING 10.99.0.2 (10.99.0.2) 56(84) bytes of data.
64 bytes from 10.99.0.2: icmp_seq=1 ttl=64 time=40.3 ms
64 bytes from 10.99.0.2: icmp_seq=2 ttl=64 time=40.1 ms
64 bytes from 10.99.0.2: icmp_seq=2 ttl=64 time=90.1 ms (DUP!)
64 bytes from 10.99.0.2: icmp_seq=4 ttl=64 time=48.9 ms

--- 10.99.0.2 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 61ms
rtt min/avg/max/mdev = 40.100/43.100/48.900/4.000 ms, pipe 3
"""


def test_a_ping_gives_the_median_round_trip_and_the_loss():
    found = wan.measurement(parse_ping(PING), None, "delay-line")
    assert found.rtt_s == pytest.approx(0.0403)
    assert (found.sent, found.received, found.rate_bps) == (4, 3, None)
    assert found.loss == pytest.approx(1 - math.sqrt(0.75))


def test_a_quiet_ping_gives_the_mean():
    text = "\n".join(PING.splitlines()[-2:])
    assert parse_ping(text)["rtt_median_s"] == pytest.approx(0.0431)


def test_a_ping_without_answers_gives_nan():
    text = "3 packets transmitted, 0 received, 100% packet loss, time 2031ms"
    assert math.isnan(wan.measurement(parse_ping(text), None, "netem").rtt_s)


def test_what_is_no_ping_is_refused():
    with pytest.raises(ValueError, match="not the output of ping"):
        parse_ping("ping: unknown host")


def test_a_rate_is_the_links_own_with_all_headers():
    report = {"payload_bps": 1400.0, "datagram_bytes": 1400, "header_bytes": 28}
    assert wan.link_rate_bps(report, "delay-line") == pytest.approx(1428)
    assert wan.link_rate_bps(report, "netem") == pytest.approx(1442)
    assert wan.link_rate_bps(report | {"payload_bps": None}, "netem") is None


def test_iperf3_goodput_becomes_the_links_rate():
    report = {
        "start": {"tcp_mss_default": 1448},
        "end": {"sum_received": {"bits_per_second": 1448e5}},
    }
    assert wan.iperf3_rate_bps(report, "delay-line") == pytest.approx(1500e5)
    with pytest.raises(ValueError, match="unable to connect"):
        wan.iperf3_rate_bps({"error": "unable to connect"}, "netem")


def test_a_record_tells_what_was_asked_done_and_measured():
    plan = plan_link(link(rate_bps=1e8, delay_s=0.02), "wan-b", "delay-line")
    record = wan.to_record(plan, measured(rate_bps=99e6))
    assert (record.requested_rate_bps, record.measured_rate_bps) == (1e8, 99e6)
    assert (record.measured_delay_s, record.measured_loss) == (0.02, 0)
    assert record.backend == "delay-line"
    assert "tbf" in record.applied
    assert math.isnan(wan.to_record(plan_link(link(), "x", "netem"), None).measured_delay_s)
