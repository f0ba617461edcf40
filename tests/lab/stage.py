"""One service in use, moved to and fro while things break; and what can break."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from small_lab import EDGES, NAME, ROWS

from testbed.experiment.steering import done
from testbed.hosts.namespace import lab_cgroup
from testbed.hosts.remote import agent_command

BETWEEN = Path(__file__).with_name("between.py").read_text(encoding="utf-8")
PATIENCE_S = 60.0
LEFT_BEHIND = (
    "pgrep -fa 'edge[.](target|deputy)|criu [s]wrk|[b]etween.py|[t]racker '; ip netns list; "
    "ip rule | grep black; ls /run/testbed/scratch; ip -o link | grep -o 'hold-[0-9]*'"
)


def until(what, true, patience_s=PATIENCE_S):
    """Wait until something is true; what it was at last, otherwise."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def answers_at(service="counter"):
    """The edges at which the service does not stand still, as the machine's kernel has it.

    CRIU waits in the same cgroup, and what it restores bears its name until it goes on.
    """
    found = []
    for edge in EDGES:
        cgroup = lab_cgroup(NAME) / edge / "testbed" / service
        with suppress(OSError):
            pids = (cgroup / "cgroup.procs").read_text().split()
            names = [Path(f"/proc/{pid}/comm").read_text() for pid in pids]
            still = (cgroup / "cgroup.freeze").read_text().strip() == "1"
            if any(name.startswith("python3") for name in names) and not still:
                found.append(edge)
    return found


class Stage:
    """The counter, a client that counts along, and where both are."""

    def __init__(self, hosts):
        self.hosts, self.lab = hosts, hosts.lab
        self.steering = hosts.start()
        hosts.use()
        self._read = 0
        self.movement = None
        self.too_many = []
        for edge in ("edge-1", "edge-2"):
            text = f"mkdir -p /run/between && cat > /run/between.py <<'END'\n{BETWEEN}\nEND"
            hosts.on(edge, text)

    @property
    def source(self):
        """Where the service is."""
        return self.steering.server

    @property
    def target(self):
        """Where it is to go."""
        return "edge-1" if self.source == "edge-2" else "edge-2"

    @contextmanager
    def watched(self):
        """Nowhere in this block may the service answer at two edges; looked at all the time."""
        over, seen = threading.Event(), []

        def watch():
            while not over.wait(0.05):
                seen.append(len(answers_at()) > 1)
                # A copy that is being killed still has processes for a moment.
                if all(seen[-6:]) and len(seen) >= 6:
                    self.too_many.append(answers_at())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert self.too_many == []

    def between(self, monkeypatch, point, deed):
        """Have something happen between the halves of the next move."""
        self.hosts.on(self.target, "rm -f /run/between/*")
        command = [*agent_command("target")[:2], "python3", "/run/between.py", point, deed]
        monkeypatch.setattr("testbed.migration.mover.agent_command", lambda _: command)

    def open(self, technique):
        """Open a move to the other edge."""
        self.movement = self.hosts.open(self.source, self.target, technique)
        return self.movement

    def paused(self):
        """Wait until the move stands at the point where it was to pause."""
        seen = partial(self.hosts.on, self.movement.target, "cat /run/between/paused 2>&1; true")
        until("the point was never reached", lambda: "No such" not in seen())

    def go_on(self):
        """Let the move go on, if there is anything left to."""
        self.hosts.on(self.movement.target, "touch /run/between/go")

    def settled_at(self, edge):
        """Assert that the service ends there, alone, is used there, and left nothing elsewhere."""
        until(f"not at {edge}, but at {answers_at()}", lambda: answers_at() == [edge])
        for host in EDGES:
            self.lab.reach(host)
        done([self.steering.lead_to(edge)])
        self._all_right_since()
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(self._nothing_left, edge), EDGES))
        assert answers_at() == [edge]
        assert self.hosts.runs_at() == [edge]

    def _nothing_left(self, home, edge):
        until(f"left at {edge}", lambda: self.left_behind(edge, has_service=edge == home) == [])

    def left_behind(self, edge, *, has_service):
        """What a move has left on an edge."""
        said = self.hosts.on(edge, f"{LEFT_BEHIND}; true").split("\n")
        mine = {"testbed-counter", "counter"} if has_service else set()
        return [line for line in said if line and line.split(" (")[0] not in mine]

    def _all_right_since(self):
        """Wait for answers to requests that were sent now, and look at all until then."""
        now_s = time.time()

        def answered():
            text = self.lab["user"].call("read", path=ROWS, offset=self._read)
            whole = text[: text.rfind("\n") + 1]
            self._read += len(whole)
            rows = [line.split(",") for line in whole.splitlines() if line[:1].isdigit()]
            assert [row for row in rows if row[6] != "1"] == []
            return any(float(row[1]) > now_s for row in rows)

        until("the client gets no answer", answered)


# -- what can break


def line_cut(stage):
    """The connection between the edges ends."""
    stage.hosts.on(stage.movement.source, "pkill -9 -f '^ssh .*root@10'; true")


def half_killed(stage):
    """The target's half of the migration is killed."""
    stage.hosts.on(stage.movement.target, "pkill -9 -f '^python3 -m edge[.]target'; true")


def half_hangs(stage):
    """The target's half does nothing any more, and does not hang up."""
    stage.hosts.on(stage.movement.target, "pkill -STOP -f '^python3 -m edge[.]target'; true")


def agent_killed(stage):
    """Who leads the migration is killed."""
    stage.hosts.on(stage.movement.source, "pkill -9 -f '^python3 -m edge[.]agent'; true")


def controller_gone(stage):
    """The controller's session to the source dies."""
    process = stage.lab[stage.movement.source]._process
    process.kill()
    process.wait()


def criu_killed(stage):
    """CRIU, waiting at the target, is killed."""
    stage.hosts.on(stage.movement.target, "pkill -9 -f 'criu [s]wrk'; true")


def disk_full(stage):
    """The target has no room left for images."""
    full = "mount -o remount,size=64k /run/testbed/scratch/counter"
    stage.hosts.on(stage.movement.target, full)


def stalled(stage):
    """Nothing comes through between the edges any more, without a word."""
    hosts = stage.lab.plan.hosts
    ends = stage.movement.source, stage.movement.target
    for here, there in (ends, ends[::-1]):
        to = hosts[there].data_address
        stage.hosts.on(here, f"ip rule add priority 40 to {to} blackhole")


def heal(stage):
    """Let everything come through again."""
    for edge in EDGES:
        stage.hosts.on(edge, "ip rule del priority 40 2>/dev/null; true")


def target_dies(stage):
    """The target's host is gone, with all that ran there, and nobody reaches it any more."""
    controller = stage.lab[stage.movement.target]._process
    stalled(stage)
    end = "pkill -9 -f '[b]etween.py|criu [s]wrk|edge[.]target|cgroup[.]kill'; true"
    stage.hosts.on(stage.movement.target, end)
    cgroup = lab_cgroup(NAME) / stage.movement.target / "testbed" / "counter" / "cgroup.kill"
    cgroup.write_text("1")
    controller.kill()
    controller.wait()


def nothing(_):
    """What was to happen has happened between the halves."""
