import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.edge import netlink

ROOT = sys.platform == "linux" and os.geteuid() == 0
FOLDER = Path(netlink.__file__).parents[1]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not ROOT, reason="makes a network namespace: needs root on Linux"),
]


class Network:
    """A network namespace of this test's own, with two devices."""

    def __init__(self):
        self.name = f"tbtest-nl-{os.getpid()}"

    def ip(self, *words):
        command = ["ip", "-n", self.name, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def routes(self):
        """The main table: destination to device and source."""
        shown = json.loads(self.ip("-j", "route", "show", "table", "main"))
        return {r["dst"]: (r["dev"], r.get("prefsrc")) for r in shown}

    def rules(self):
        """Rules that somebody added: priority, device, what happens."""
        shown = json.loads(self.ip("-j", "-d", "rule", "show"))
        return [
            (r["priority"], r["iif"], r.get("action"))
            for r in shown
            if r["priority"] not in {0, 32766, 32767}
        ]

    def do(self, script):
        """Run calls of the module in the namespace; what they printed or why they failed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, sys.executable, "-c",
             f"from edge import netlink\n{script}"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture
def network():
    made = Network()
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        for device in ("one", "two"):
            made.ip("link", "add", device, "type", "veth", "peer", "name", f"{device}-end")
            made.ip("link", "set", f"{device}-end", "up")
            made.ip("link", "set", device, "up")
        made.ip("addr", "add", "10.78.0.11/32", "dev", "one")
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", made.name], check=True)


def test_a_route_leads_where_it_was_last_told_to(network):
    assert network.do("netlink.replace_route('10.88.0.1', 'one')") == ""
    assert network.routes() == {"10.88.0.1": ("one", None)}
    assert network.do("netlink.replace_route('10.88.0.1', 'two')") == ""
    assert network.routes() == {"10.88.0.1": ("two", None)}
    assert network.do("netlink.replace_route('10.88.0.1', 'two')") == ""
    assert network.routes() == {"10.88.0.1": ("two", None)}


def test_a_route_that_ip_made_is_replaced_not_doubled(network):
    network.ip("route", "add", "10.88.0.1/32", "dev", "one")
    assert network.do("netlink.replace_route('10.88.0.1', 'two')") == ""
    assert network.routes() == {"10.88.0.1": ("two", None)}


def test_a_network_is_led_as_a_whole_with_a_source_address(network):
    assert network.do("netlink.replace_route('10.88.0.0/24', 'two', '10.78.0.11')") == ""
    assert network.routes() == {"10.88.0.0/24": ("two", "10.78.0.11")}
    assert "from 10.78.0.11" in network.ip("-o", "route", "get", "10.88.0.9", "from", "10.78.0.11")


def test_one_address_may_go_another_way_than_its_network(network):
    network.do(
        "netlink.replace_route('10.88.0.0/24', 'one')\nnetlink.replace_route('10.88.0.7', 'two')"
    )
    assert " dev two " in network.ip("-o", "route", "get", "10.88.0.7")
    assert " dev one " in network.ip("-o", "route", "get", "10.88.0.8")


@pytest.mark.parametrize("destination", ["10.88.0.1", "10.88.0.0/24"])
def test_a_route_can_be_forgotten(network, destination):
    network.do(f"netlink.replace_route('{destination}', 'one')")
    assert destination in network.routes()
    assert network.do(f"netlink.delete_route('{destination}')") == ""
    assert network.routes() == {}


def test_forgetting_what_was_never_known_is_no_error(network):
    assert network.do("netlink.delete_route('10.88.0.1')") == ""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("replace_route('10.88.0.1', 'three')", "there is no device three on this host"),
        ("replace_route('10.88.0.1', 'two', '192.0.2.1')", "route 10.88.0.1 dev two"),
        ("replace_route('10.88.0.1/24', 'two')", "10.88.0.1/24 has host bits set"),
    ],
)
def test_what_the_kernel_refuses_is_said_with_destination_and_device(network, call, words):
    assert words in network.do(f"netlink.{call}")
    assert network.routes() == {}


def test_what_comes_from_a_silenced_device_is_dropped(network):
    assert network.do("netlink.silence('one')") == ""
    assert network.rules() == [(netlink.RULE_PRIORITY, "one", "blackhole")]
    assert network.do("netlink.unsilence('one')") == ""
    assert network.rules() == []


def test_silencing_twice_is_once(network):
    assert network.do("netlink.silence('one')\nnetlink.silence('one')") == ""
    assert len(network.rules()) == 1


def test_one_device_s_silence_is_not_another_s(network):
    network.do("netlink.silence('one')\nnetlink.silence('two')\nnetlink.unsilence('one')")
    assert network.rules() == [(netlink.RULE_PRIORITY, "two", "blackhole")]
    assert network.do("netlink.unsilence('one')\nnetlink.unsilence('gone')") == ""
    assert len(network.rules()) == 1
