import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from testbed.errors import LabError
from testbed.hosts.delay_line import (
    DELIVER_AHEAD_S,
    DelayLine,
    Direction,
    End,
    LineConfig,
    LineLink,
    Setting,
    read_config,
)

ROOT = sys.platform == "linux" and os.geteuid() == 0 and os.path.exists("/dev/net/tun")  # noqa: PTH110
lab = pytest.mark.skipif(not ROOT, reason="needs root on Linux with /dev/net/tun")


def direction(*, delay_s=0.0, loss=0.0, queue_bytes=10**6, seed=1):
    return Direction(Setting(delay_s, loss, queue_bytes), random.Random(seed))


def config(a="tbtest-dla", b="tbtest-dlb", **settings):
    link = LineLink(
        (End("one", a, "wan-two"), End("two", b, "wan-one")),
        (Setting(**settings), Setting(**settings)),
    )
    return LineConfig((link,))


def test_a_packet_leaves_after_its_delay_and_not_before():
    way = direction(delay_s=0.5)
    way.take(10.0, b"a")
    assert way.due(10.5 - 2 * DELIVER_AHEAD_S) == []
    assert way.due(10.5) == [b"a"]
    assert way.queued_bytes == 0


def test_packets_keep_their_order_when_the_delay_shrinks():
    way = direction(delay_s=1.0)
    way.take(0.0, b"first")
    way.setting = Setting(delay_s=0.1)
    way.take(0.1, b"second")
    assert way.due(0.9) == []
    assert way.due(1.0) == [b"first", b"second"]
    way.take(1.1, b"third")
    assert way.due(1.2) == [b"third"]


def test_a_full_queue_drops_and_counts():
    way = direction(delay_s=1.0, queue_bytes=10)
    for _ in range(3):
        way.take(0.0, b"12345")
    assert way.due(1.0) == [b"12345"] * 2
    assert way.statistics()["dropped"] == 1


def test_losses_are_drawn_from_the_seed_and_meet_the_asked_share():
    def lost(seed):
        way = direction(loss=0.1, seed=seed)
        for number in range(5000):
            way.take(0.0, number.to_bytes(2, "big"))
        return way.due(0.0), way.lost

    kept, count = lost(1)
    assert lost(1) == (kept, count)
    assert lost(2)[0] != kept
    assert 400 < count < 600


def test_lateness_is_the_worst_so_far():
    way = direction()
    way.take(1.0, b"a")
    way.due(1.25)
    way.take(2.0, b"a")
    way.due(2.0)
    assert way.statistics()["max_late_s"] == 0.25


def test_a_configuration_survives_its_file(tmp_path):
    path = tmp_path / "line.json"
    path.write_text(config(delay_s=0.02, loss=0.1).to_json())
    assert read_config(path) == config(delay_s=0.02, loss=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("links"), "links"),
        (lambda c: c["links"][0]["settings"][0].update(delay_ms=3), "delay_ms"),
        (lambda c: c["links"][0]["settings"][1].update(loss=1.5), "loss lies between 0 and 1"),
        (lambda c: c["links"][0]["settings"][1].update(delay_s=-1), "delay_s is at least 0"),
        (lambda c: c["links"][0]["ends"][0].update(device="x" * 16), "1 to 15 characters"),
        (lambda c: c["links"].append(c["links"][0]), "named twice"),
        (lambda c: c.update(scheduling="idle"), "use fifo, nice or none"),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(tmp_path, change, message):
    content = json.loads(config().to_json())
    change(content)
    path = tmp_path / "line.json"
    path.write_text(json.dumps(content))
    with pytest.raises(LabError, match=message):
        read_config(path)


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "line.json"
    path.write_text("{")
    with pytest.raises(LabError, match=r"line\.json"):
        read_config(path)


def test_other_links_cannot_be_taken_over_while_running(tmp_path):
    line = DelayLine(config(), tmp_path / "line.json")
    with pytest.raises(LabError, match="only delay_s, loss and queue_bytes"):
        line.reload(config(b="elsewhere"))


ECHO = """
import socket, statistics, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "serve":
    s.bind((sys.argv[2], 5007)); print("up", flush=True)
    while True:
        data, peer = s.recvfrom(100); s.sendto(data, peer)
s.connect((sys.argv[2], 5007)); s.settimeout(float(sys.argv[4])); rtts = []
for n in range(int(sys.argv[3])):
    t = time.monotonic(); s.send(str(n).encode())
    try:
        while s.recv(100) != str(n).encode(): pass
        rtts.append(time.monotonic() - t)
    except TimeoutError: pass
print(statistics.median(rtts) if rtts else "nan", len(rtts))
"""


class Wan:
    """Two namespaces, a delay line between them, an echo server at the far end."""

    a, b = "tbtest-dla", "tbtest-dlb"

    def __init__(self, folder):
        self.folder, self.path, self.stats = folder, folder / "line.json", folder / "stats.json"
        self.line = self.server = None

    def start(self, **settings):
        for name in (self.a, self.b):
            subprocess.run(["ip", "netns", "add", name], check=True)
        self.configure(**settings)
        self.line = subprocess.Popen(
            [sys.executable, "-m", "testbed.hosts.delay_line", self.path], stderr=subprocess.PIPE
        )
        wait_for(lambda: (self.folder / "ready").exists() or self.line.poll() is not None)
        assert self.line.poll() is None, self.line.stderr.read()
        for ns, dev, own, peer in (
            (self.a, "wan-two", "10.99.0.1", "10.99.0.2"),
            (self.b, "wan-one", "10.99.0.2", "10.99.0.1"),
        ):
            address = ["ip", "-n", ns, "addr", "add", own, "peer", peer, "dev", dev]
            subprocess.run(address, check=True)
        self.server = subprocess.Popen(self.python(self.b, "serve"), stdout=subprocess.PIPE)
        self.server.stdout.readline()
        return self

    def configure(self, **settings):
        content = json.loads(config(self.a, self.b, **settings).to_json())
        content |= {"ready_path": str(self.folder / "ready"), "stats_path": str(self.stats)}
        self.path.write_text(json.dumps(content))

    def python(self, ns, *arguments, address="10.99.0.2"):
        command = ["ip", "netns", "exec", ns, sys.executable, "-c", ECHO]
        return [*command, arguments[0], address, *arguments[1:]]

    def ping(self, count=20, timeout_s=2.0):
        command = self.python(self.a, "ask", str(count), str(timeout_s))
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return float(out[0]), int(out[1])

    def signal(self, number):
        before = self.stats.stat().st_mtime_ns if self.stats.exists() else 0
        self.line.send_signal(number)
        wait_for(lambda: self.stats.exists() and self.stats.stat().st_mtime_ns != before)
        return json.loads(self.stats.read_text())["directions"]

    def stop(self):
        for process in (self.server, self.line):
            if process is not None:
                process.terminate()
                process.wait(10)
                for stream in (process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()
        for name in (self.a, self.b):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def wait_for(condition, timeout_s=20.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def wan(tmp_path):
    found = Wan(tmp_path)
    yield found
    found.stop()
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert found.a not in left


def about(rtt_s, asked_s):
    return asked_s * 0.999 <= rtt_s <= asked_s * 1.2 + 3e-3


@lab
@pytest.mark.lab
def test_a_round_trip_takes_both_delays(wan):
    wan.start(delay_s=0.02)
    medians = [wan.ping()[0] for _ in range(3)]
    assert any(about(median, 0.04) for median in medians), medians


@lab
@pytest.mark.lab
def test_a_reload_changes_the_delay_and_forgets_no_packet(wan):
    wan.start(delay_s=0.2)
    asked = subprocess.Popen(wan.python(wan.a, "ask", "1", "5"), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: any(way["queued"] for way in wan.signal(signal.SIGUSR1)))
    wan.configure(delay_s=0.005)
    wan.signal(signal.SIGHUP)
    out, _ = asked.communicate(timeout=20)
    assert out.split()[1] == "1"
    assert any(about(wan.ping()[0], 0.01) for _ in range(3))


@lab
@pytest.mark.lab
def test_a_wrong_reload_leaves_the_line_as_it_was(wan):
    wan.start(delay_s=0.01)
    wan.path.write_text("{")
    wan.line.send_signal(signal.SIGHUP)
    assert b"goes on as before" in wan.line.stderr.readline()
    assert wan.ping(5)[1] == 5


@lab
@pytest.mark.lab
def test_the_asked_share_is_lost_and_counted(wan):
    wan.start(loss=0.3)
    answered = wan.ping(200, timeout_s=0.02)[1]
    ways = wan.signal(signal.SIGUSR1)
    assert 40 <= answered <= 156  # 49 % of 200, more than 8 standard deviations to either side
    assert sum(way["lost"] for way in ways) >= 200 - answered - 5


@lab
@pytest.mark.lab
def test_a_device_that_was_down_works_again(wan):
    wan.start()
    for state in ("down", "up"):
        command = ["ip", "-n", wan.b, "link", "set", "wan-one", state]
        subprocess.run(command, check=True)
        if state == "down":
            assert wan.ping(2, timeout_s=0.1)[1] == 0
    subprocess.run(
        ["ip", "-n", wan.b, "route", "replace", "10.99.0.1", "dev", "wan-one"], check=True
    )
    assert wan.ping(5)[1] == 5


@lab
@pytest.mark.lab
def test_an_unknown_namespace_ends_it_with_the_reason(tmp_path):
    path = tmp_path / "line.json"
    path.write_text(config("tbtest-none", "tbtest-none2").to_json())
    done = subprocess.run(
        [sys.executable, "-m", "testbed.hosts.delay_line", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no network namespace at /run/netns/tbtest-none" in done.stderr


@lab
@pytest.mark.lab
def test_its_devices_vanish_with_it(wan):
    wan.start()
    wan.line.terminate()
    assert wan.line.wait(10) == 0
    shown = subprocess.run(
        ["ip", "-n", wan.a, "-br", "link"], capture_output=True, text=True, check=True
    )
    assert "wan-two" not in shown.stdout


@lab
@pytest.mark.lab
def test_a_deleted_device_costs_its_link_only_and_no_cpu(wan):
    wan.start()
    subprocess.run(["ip", "-n", wan.b, "link", "del", "wan-one"], check=True)
    wan.signal(signal.SIGUSR1)
    used_s = cpu_s(wan)
    time.sleep(0.5)
    wan.signal(signal.SIGUSR1)
    assert cpu_s(wan) - used_s < 0.2
    wan.line.terminate()
    assert b"device wan-one is gone" in wan.line.stderr.read()


def cpu_s(wan):
    return json.loads(wan.stats.read_text())["cpu_s"]
