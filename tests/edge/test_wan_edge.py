import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testbed.edge import wan

ROOT = sys.platform == "linux" and os.geteuid() == 0
lab = pytest.mark.skipif(not ROOT, reason="needs root on Linux")
FOREIGN = "root tbf rate 1mbit burst 9000 limit 9000"
FOLDER = Path(wan.__file__).parents[1]


def test_a_rate_leaves_out_the_start_of_a_stream():
    burst = [(0.0, 10**6)]
    steady = [(0.1 + n * 0.001, 1000) for n in range(101)]
    assert wan.arrival_rate_bps(burst + steady) == pytest.approx(8e6)


@pytest.mark.parametrize("arrivals", [[], [(0.0, 10)], [(0.0, 10), (0.5, 10)]])
def test_too_little_gives_no_rate(arrivals):
    assert wan.arrival_rate_bps(arrivals) is None


def test_a_stream_over_loopback_is_received_and_timed():
    ports, found = [], {}
    ready = threading.Event()

    def listen():
        def announce(port):
            ports.append(port)
            ready.set()

        found.update(wan.receive("127.0.0.1", announce=announce))

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(10)
    sent = wan.send("127.0.0.1", ports[0], 20e6, 0.3)
    thread.join(20)
    assert found["received_bytes"] > 0.5 * sent["sent_bytes"]
    assert found["payload_bps"] > 1e6


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(wan.ShapingError, match="no-such-file"):
        wan.run(["ls", "/no-such-file"])


@pytest.fixture
def host(tmp_path):
    name, state, plan = "tbtest-wan", tmp_path / "state.json", tmp_path / "plan.json"

    def edge(*arguments):
        return subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-m", "edge.wan", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=FOLDER,
        )

    def apply(*devices):
        content = {"host": "a", "devices": [shaped(*device) for device in devices]}
        plan.write_text(json.dumps(content))
        return edge("apply", "--state", state, plan)

    def ip(*words):
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    subprocess.run(["ip", "netns", "add", name], check=True)
    for device in ("wan-b", "wan-c"):  # no traffic: any device will do
        ip("ip", "-n", name, "tuntap", "add", "dev", device, "mode", "tun")
    edge.apply, edge.state, edge.name, edge.ip = apply, state, name, ip
    edge.foreign = lambda verb, device: ip(
        "tc", "-n", name, "qdisc", verb, "dev", device, *FOREIGN.split()
    )
    edge.qdisc = lambda device: ip("tc", "-n", name, "qdisc", "show", "dev", device)
    yield edge
    subprocess.run(["ip", "netns", "del", name], check=True)


def shaped(device, rate="8mbit"):
    root = ["tc", "qdisc", "replace", "dev", device, "root", "handle", wan.HANDLE]
    commands = [[*root, "tbf", "rate", rate, "burst", "10000", "limit", "40000"]] if rate else []
    undo = [["tc", "qdisc", "del", "dev", device, "root"]] if rate else []
    return {"device": device, "peer": device[4:], "commands": commands, "undo": undo}


@lab
@pytest.mark.lab
def test_a_second_run_changes_nothing(host):
    assert host.apply(["wan-b"], ["wan-c", None]).stdout == "changed\n"
    assert "8Mbit" in host.qdisc("wan-b")
    assert "tbf" not in host.qdisc("wan-c")
    assert host.apply(["wan-b"], ["wan-c", None]).stdout == "ok\n"


@lab
@pytest.mark.lab
def test_another_plan_changes_only_what_differs(host):
    host.apply(["wan-b"], ["wan-c"])
    assert host.apply(["wan-b", "9mbit"]).stdout == "changed\n"
    assert "9Mbit" in host.qdisc("wan-b")
    assert "tbf" not in host.qdisc("wan-c")


@lab
@pytest.mark.lab
def test_what_somebody_else_changed_is_put_right(host):
    host.apply(["wan-b"])
    host.foreign("change", "wan-b")
    assert host.apply(["wan-b"]).stdout == "changed\n"
    assert "8Mbit" in host.qdisc("wan-b")


@lab
@pytest.mark.lab
def test_a_device_made_anew_is_shaped_again(host):
    host.apply(["wan-b"])
    host.ip("ip", "-n", host.name, "link", "del", "wan-b")
    host.ip("ip", "-n", host.name, "tuntap", "add", "dev", "wan-b", "mode", "tun")
    assert host.apply(["wan-b"]).stdout == "changed\n"
    assert "8Mbit" in host.qdisc("wan-b")


@lab
@pytest.mark.lab
def test_remove_takes_its_own_rules_and_no_others(host):
    host.apply(["wan-b"])
    host.foreign("add", "wan-c")
    assert host("remove", "--state", host.state).stdout == "changed\n"
    assert "tbf" not in host.qdisc("wan-b")
    assert "1Mbit" in host.qdisc("wan-c")
    assert host("remove", "--state", host.state).stdout == "ok\n"


@lab
@pytest.mark.lab
def test_a_device_that_is_not_there_is_named(host):
    done = host.apply(["wan-x"])
    assert done.returncode == 1
    assert "wan-x" in done.stderr
