import contextlib
import itertools
import math
import threading
import time
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import HostUnreachableError, MigrationError, RemoteCommandError, ScenarioError
from testbed.experiment import follower as follower_module
from testbed.experiment.follower import Follower, Following
from testbed.handoff.binding import Binder
from testbed.measurement.clock import RunClock
from testbed.migration.mover import Outcome, Stop
from testbed.migration.technique import DELTA
from testbed.planning.planner import Plan
from testbed.records import (
    NAN,
    BindingRecord,
    HandoverRecord,
    MigrationRecord,
    PhaseRecord,
)

PATIENCE_S = 20.0
"""How long a test waits for what must come; nothing is decided by how long it takes."""
STOP = Stop(1000, 3)
LOST = RemoteCommandError("edge-1: no space left on device", host="edge-1")


def stay(site):
    return Plan(site, site, "", "test")


def prepare(site, ahead):
    return Plan(site, site, ahead, "test")


class Journal:
    """What happened, in order, by whichever thread; and a way to wait for it."""

    def __init__(self):
        self.entries = []
        self._changed = threading.Condition()

    def add(self, *entry):
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()

    def wait_for(self, *entry, times=1):
        with self._changed:
            came = self._changed.wait_for(lambda: self.count(*entry) >= times, PATIENCE_S)
        assert came, f"{entry} did not happen; there was {self.entries}"

    def count(self, *entry):
        return sum(e[: len(entry)] == entry for e in self.entries)

    def only(self, *names):
        return [entry for entry in self.entries if entry[0] in names]


class Movement:
    """In the place of `testbed.migration.mover.Movement`."""

    def __init__(self, mover, source, target, technique):
        self.mover, self.source, self.target, self.technique = mover, source, target, technique
        self.migration = f"m{next(mover.numbers)}"

    def send_ahead(self, stop):
        self.mover.do("send_ahead", self.source, self.target)
        assert stop == STOP

    def finish(self, on_frozen):
        self.mover.journal.add("finish", self.source, self.target)
        on_frozen()
        self.mover.do("freeze", self.source, self.target)
        return self.mover.outcome(self)

    def drop(self):
        self.mover.do("drop", self.source, self.target)


class Mover:
    """In the place of `testbed.migration.mover.Mover`: fails or waits where a test says so."""

    def __init__(self, journal):
        self.journal = journal
        self.numbers = itertools.count(1)
        self.errors = {}
        self.gates = {}
        self.rolled_back = []

    def do(self, what, *hosts):
        self.journal.add(what, *hosts)
        gate = self.gates.get(what)
        if gate:
            assert gate.wait(PATIENCE_S)
        errors = self.errors.get(what)
        if errors:
            raise errors.pop(0)

    def open(self, service, source, target, technique):
        assert (service, technique) == ("counter", DELTA)
        self.do("open", source, target)
        return Movement(self, source, target, technique)

    def outcome(self, movement):
        reason = self.rolled_back.pop(0) if self.rolled_back else ""
        moved = not reason
        times = (1000.0, 1000.5)
        phase = PhaseRecord(movement.migration, "open", movement.source, *times, 7, frozen=False)
        return Outcome(
            migration=movement.migration,
            outcome="moved" if moved else "rolled back",
            reason=reason,
            log="" if moved else "Error (criu)",
            requested_s=1000.0,
            prepared_s=1002.0,
            frozen_s=1003.0,
            answered_s=1003.5 if moved else NAN,
            ended_s=1004.0,
            freeze_s=0.02,
            event_window_s=0.5 if moved else NAN,
            rounds=2,
            bytes_ahead=50,
            bytes_frozen=5,
            bytes_spared=4096,
            phases=(phase,),
        )


class Steering:
    """In the place of `testbed.experiment.steering.Steering`."""

    def __init__(self, journal):
        self.journal = journal
        self.base_station = self.server = ""

    def connect(self, base_station):
        self.journal.add("connect", base_station)
        self.base_station = base_station

    def lead_to(self, server):
        self.journal.add("lead_to", server)
        self.server = server
        done = Future()
        done.set_result(None)
        return done


class Setting:
    """A follower among stand-ins, with the journal of what it does to them."""

    def __init__(self, hosts=2, fixed=None, upper=None):
        self.journal = Journal()
        self.mover = Mover(self.journal)
        self.steering = Steering(self.journal)
        numbers = range(1, hosts + 1)
        self.binder = Binder(
            [f"edge-{n}" for n in numbers], [f"bs-{n}" for n in numbers], fixed or {}, upper or {}
        )
        self.records = []
        # The run began at epoch 900 and stands at 200 s.
        ticks = iter([50.0, *itertools.repeat(250.0, 100000)])
        self.clock = RunClock(wall=lambda: 900.0, monotonic=lambda: next(ticks))
        following = Following("alice", "counter", DELTA, STOP, self.clock, self.keep, self.tell)
        self.follower = Follower(following, self.mover, self.binder, self.steering)

    def keep(self, record):
        self.records.append(record)
        self.journal.add("kept", type(record))

    def tell(self, text):
        self.journal.add("told", text)

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    def start(self, cell="a", site=""):
        self.follower.begin(cell, site)
        self.follower.start()
        return self

    def told(self):
        return [entry[1] for entry in self.journal.only("told")]


@contextlib.contextmanager
def following(cell="a", site="", **kinds):
    """A follower at work; nothing of it is left running, whatever the test finds."""
    setting = Setting(**kinds).start(cell, site)
    try:
        yield setting
    finally:
        for gate in setting.mover.gates.values():
            gate.set()
        with contextlib.suppress(BaseException):
            setting.follower.end()
        setting.follower._thread.join(PATIENCE_S)
        assert not setting.follower._thread.is_alive()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """No test waits two seconds for a second try."""
    monkeypatch.setattr(follower_module, "RETRY_AFTER_S", 0.0)


MOVES = ("open", "send_ahead", "finish", "drop")


def test_it_begins_where_the_user_is():
    setting = Setting()
    binding = setting.follower.begin("a")
    assert (binding.server, binding.base_station) == ("edge-1", "bs-1")
    assert (setting.follower.cell, setting.follower.service_site) == ("a", "a")
    assert setting.steering.server == "edge-1"
    assert setting.records == [BindingRecord(200.0, "a", "edge-1", "bs-1", "start")]
    assert setting.follower.hosts_of("a") == ("edge-1", "bs-1")
    assert setting.follower.hosts_of("b") == ("", "")


def test_as_long_as_the_user_stays_nothing_is_moved():
    with following() as s:
        for _ in range(5):
            s.follower.follow(stay("a"))
        s.follower.end()
        assert s.journal.only(*MOVES, "lead_to") == []
        assert s.journal.only("connect") == [("connect", "bs-1")]


def test_it_sends_ahead_when_told_and_waits_with_the_move():
    with following() as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        for _ in range(3):
            s.follower.follow(prepare("a", "b"))
        assert s.journal.count("finish") == 0
        s.follower.end()
        assert s.journal.only(*MOVES) == [
            ("open", "edge-1", "edge-2"),
            ("send_ahead", "edge-1", "edge-2"),
            ("drop", "edge-1", "edge-2"),
        ]
        assert s.of(BindingRecord)[-1] == BindingRecord(200.0, "b", "edge-2", "bs-2", "prepare")
        assert s.follower.service_site == "a"


def test_after_the_handover_what_was_prepared_is_moved():
    with following() as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(stay("b"))
        assert s.steering.base_station == "bs-2"  # at once, before the service moves
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert s.journal.only(*MOVES, "lead_to", "connect") == [
            ("connect", "bs-1"),
            ("open", "edge-1", "edge-2"),
            ("send_ahead", "edge-1", "edge-2"),
            ("connect", "bs-2"),
            ("finish", "edge-1", "edge-2"),
            ("lead_to", "edge-2"),
        ]
        assert (s.follower.service_site, s.follower.cell, s.steering.server) == (
            "b", "b", "edge-2"
        )  # fmt: skip


def test_a_user_who_comes_unexpected_is_followed_all_the_same():
    with following() as s:
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert [entry[0] for entry in s.journal.only(*MOVES)] == ["open", "send_ahead", "finish"]
        assert s.follower.service_site == "b"


def test_the_packets_are_led_over_as_soon_as_the_service_stands_still():
    with following() as s:
        s.mover.gates["freeze"] = threading.Event()
        s.follower.follow(stay("b"))
        s.journal.wait_for("freeze")
        assert s.journal.count("lead_to", "edge-2") == 1
        assert s.follower.service_site == "a"


def test_it_goes_on_following_from_site_to_site():
    with following(hosts=3) as s:
        for number, site in enumerate("bcab", start=1):
            s.follower.follow(stay(site))
            s.journal.wait_for("kept", MigrationRecord, times=number)
        s.follower.end()
        moves = s.of(MigrationRecord)
        assert [(m.source_site, m.target_site) for m in moves] == [
            ("a", "b"), ("b", "c"), ("c", "a"), ("a", "b")
        ]  # fmt: skip
        assert all(m.source != m.target for m in moves)
        assert all(one.target == two.source for one, two in itertools.pairwise(moves))


# -- the prediction was wrong


@pytest.mark.parametrize("hosts", [2, 3])
def test_what_was_prepared_for_another_site_is_dropped_before_the_next(hosts):
    with following(hosts=hosts) as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(prepare("a", "c"))
        s.journal.wait_for("send_ahead", times=2)
        s.follower.end()
        assert [entry[0] for entry in s.journal.only(*MOVES)] == [
            "open", "send_ahead", "drop", "open", "send_ahead", "drop"
        ]  # fmt: skip
        assert "not going to b after all" in s.told()


@pytest.mark.parametrize("hosts", [2, 3])
def test_a_handover_to_another_site_than_the_prepared_one_ends_there(hosts):
    with following(hosts=hosts) as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(stay("c"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        (move,) = s.of(MigrationRecord)
        assert move.target_site == "c"
        assert move.target == s.follower.hosts_of("c")[0]
        assert s.journal.count("drop") == 1
        assert s.journal.count("open") == 2


def test_what_is_prepared_stays_while_the_plan_is_unsure():
    with following() as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(stay("a"))
        s.follower.follow(prepare("a", "b"))
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert s.journal.count("open") == 1
        assert s.journal.count("drop") == 0


def test_after_a_long_preparation_only_the_newest_plan_counts():
    with following(hosts=3) as s:
        gate = s.mover.gates["send_ahead"] = threading.Event()
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(prepare("a", "c"))
        s.follower.follow(prepare("a", "d"))
        gate.set()
        s.journal.wait_for("send_ahead", times=2)
        s.follower.end()
        prepared = [r.site for r in s.of(BindingRecord) if r.reason == "prepare"]
        assert prepared == ["b", "d"]


# -- the service is not where the radio is


REGIONS = {name: ["regional-1", "regional-2"] for name in ("north", "south")}


def test_a_passed_over_cell_gets_the_radio_and_the_service_stays():
    """MSMF's PM-OP: a, then x for a moment, then b; what was sent ahead to b is of use there."""
    with following(hosts=3) as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(Plan("a", "x", "b", "passing"))
        assert (s.follower.cell, s.follower.service_site) == ("x", "a")
        assert s.follower.hosts_of("a")[0] == s.steering.server == "edge-1"
        assert s.steering.base_station != "bs-1"
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert [entry[0] for entry in s.journal.only(*MOVES)] == ["open", "send_ahead", "finish"]
        (move,) = s.of(MigrationRecord)
        assert (move.source_site, move.target_site) == ("a", "b")
        assert [(h.source_cell, h.target_cell) for h in s.of(HandoverRecord)] == [
            ("a", "x"), ("x", "b")
        ]  # fmt: skip


def test_back_from_a_passed_over_cell_nothing_has_moved():
    with following() as s:
        for cell in "xaxa":
            s.follower.follow(Plan("a", cell, "", "passing"))
            assert s.follower.hosts_of(cell)[1] == s.steering.base_station
        s.follower.end()
        assert s.journal.only(*MOVES, "lead_to") == []
        assert s.follower.hosts_of("a") == ("edge-1", s.steering.base_station)


def test_where_its_base_station_stands_for_another_cell_the_service_s_server_is_still_known():
    with following() as s:
        for cell in "xy":
            s.follower.follow(Plan("a", cell, "", "passing"))
        s.follower.end()
        assert s.steering.base_station == "bs-1"
        assert s.follower.hosts_of("a") == ("edge-1", "")


def test_on_a_regional_server_it_begins_and_moves_with_the_region_only():
    with following("a", "north", upper=REGIONS) as s:
        assert s.steering.server == "regional-1"
        assert (s.follower.cell, s.follower.service_site) == ("a", "north")
        for cell in "bcb":
            s.follower.follow(Plan("north", cell, "", "within"))
        s.follower.follow(Plan("north", "b", "south", "near"))
        s.journal.wait_for("send_ahead", "regional-1", "regional-2")
        s.follower.follow(Plan("south", "c", "", "across"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        (move,) = s.of(MigrationRecord)
        assert (move.source, move.target) == ("regional-1", "regional-2")
        assert (move.source_site, move.target_site) == ("north", "south")
        assert len(s.of(HandoverRecord)) == 4
        assert s.follower.hosts_of("south") == ("regional-2", "")


def test_it_can_move_up_to_a_region_and_down_again():
    with following(upper=REGIONS) as s:
        s.follower.follow(Plan("north", "a", "", "up"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.follow(stay("a"))
        s.journal.wait_for("kept", MigrationRecord, times=2)
        s.follower.end()
        assert [(m.source, m.target) for m in s.of(MigrationRecord)] == [
            ("edge-1", "regional-1"), ("regional-1", "edge-1")
        ]  # fmt: skip


def test_a_move_that_has_begun_is_told_to_the_planner():
    """Else a plan to stay at the source would send it straight back."""
    with following() as s:
        assert s.follower.bound_for == "a"
        gate = s.mover.gates["send_ahead"] = threading.Event()
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        assert s.follower.bound_for == "a"
        gate.set()
        gate = s.mover.gates["freeze"] = threading.Event()
        s.follower.follow(stay("b"))
        s.journal.wait_for("freeze")
        assert (s.follower.bound_for, s.follower.service_site) == ("b", "a")
        gate.set()
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert s.follower.bound_for == "b"


# -- something fails


@pytest.mark.parametrize("step", ["open", "send_ahead"])
@pytest.mark.parametrize(
    "error", [LOST, HostUnreachableError("edge-2 is gone"), MigrationError("no link")]
)
def test_a_failure_leaves_the_service_where_it_is_and_is_tried_again(step, error):
    with following() as s:
        s.mover.errors[step] = [error]
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert f"counter stays at edge-1: {error}" in s.told()
        assert s.journal.count("open") == 2
        assert s.follower.service_site == "b"


def test_a_failed_preparation_is_given_up_at_the_source_too():
    """The source keeps a move open until it is told; the target waits for its end."""
    with following() as s:
        s.mover.errors["send_ahead"] = [LOST]
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord)
        s.follower.end()
        assert [entry[0] for entry in s.journal.only(*MOVES)] == [
            "open", "send_ahead", "drop", "open", "send_ahead", "finish"
        ]  # fmt: skip


@pytest.mark.parametrize("error", [LOST, HostUnreachableError("gone"), MigrationError("lost")])
def test_a_move_that_failed_after_the_freeze_is_never_dropped(monkeypatch, error):
    """It may live at the target by then: a drop would let it go on at the source as well."""
    monkeypatch.setattr(follower_module, "RETRY_AFTER_S", 1e6)
    with following() as s:
        s.mover.errors["freeze"] = [error]
        s.follower.follow(stay("b"))
        s.journal.wait_for("told", f"counter stays at edge-2: {error}")
        s.follower.end()
        assert [entry[0] for entry in s.journal.only(*MOVES)] == ["open", "send_ahead", "finish"]


def test_a_preparation_that_cannot_even_be_dropped_does_not_stop_it():
    with following() as s:
        s.mover.errors["drop"] = [LOST]
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.follow(prepare("a", "c"))
        s.journal.wait_for("send_ahead", times=2)
        s.follower.follow(stay("a"))
        s.follower.end()


def test_without_a_second_failure_it_waits_before_it_tries_again(monkeypatch):
    monkeypatch.setattr(follower_module, "RETRY_AFTER_S", 1e6)
    with following() as s:
        s.mover.errors["open"] = [LOST]
        s.follower.follow(stay("b"))
        s.journal.wait_for("told", f"counter stays at edge-1: {LOST}")
        for _ in range(3):
            s.follower.follow(stay("b"))
        s.follower.end()
        assert s.journal.count("open") == 1


def test_a_move_that_was_rolled_back_is_written_down_undone_and_tried_again():
    with following() as s:
        s.mover.rolled_back = ["CRIU could not restore"]
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", MigrationRecord, times=2)
        s.follower.end()
        assert s.journal.only("lead_to") == [
            ("lead_to", "edge-2"), ("lead_to", "edge-1"), ("lead_to", "edge-2")
        ]  # fmt: skip
        failed, moved = s.of(MigrationRecord)
        assert (failed.outcome, moved.outcome) == ("rolled back", "moved")
        assert failed.reason == "CRIU could not restore\nError (criu)"
        assert math.isnan(failed.answered_s)
        assert failed.source_site == moved.source_site == "a"
        assert failed.source == moved.source == "edge-1"


def test_what_nobody_foresaw_is_raised_where_the_loop_can_see_it():
    with following() as s:
        s.mover.errors["open"] = [ZeroDivisionError("a bug")]
        s.follower.follow(stay("b"))
        s.follower._thread.join(PATIENCE_S)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            s.follower.follow(stay("b"))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            s.follower.end()


def test_no_free_host_for_a_handover_is_said_to_the_loop():
    with following(fixed={"a": "edge-1", "b": "edge-2"}) as s:
        with pytest.raises(ScenarioError, match="no server is free for site c"):
            s.follower.follow(stay("c"))
        assert s.follower.cell == "a"
        assert s.steering.base_station == "bs-1"


# -- the end


def test_the_end_waits_for_what_is_under_way():
    with following() as s:
        gate = s.mover.gates["freeze"] = threading.Event()
        s.follower.follow(stay("b"))
        s.journal.wait_for("freeze")
        ending = threading.Thread(target=s.follower.end)
        ending.start()
        assert s.of(MigrationRecord) == []
        assert ending.is_alive()
        gate.set()
        ending.join(PATIENCE_S)
        assert not ending.is_alive()
        assert len(s.of(MigrationRecord)) == 1
        assert s.follower.service_site == "b"


def test_after_the_end_nothing_is_begun():
    with following() as s:
        s.follower.end()
        s.follower.follow(stay("b"))
        assert not s.follower._thread.is_alive()
        assert s.journal.only(*MOVES) == []


def test_a_follower_that_never_started_can_end():
    setting = Setting()
    setting.follower.begin("a")
    setting.follower.end()
    assert setting.journal.only(*MOVES) == []


def test_ending_twice_is_ending_once():
    with following() as s:
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        s.follower.end()
        s.follower.end()
        assert s.journal.count("drop") == 1


def test_it_is_idle_but_not_while_it_prepares_or_moves():
    with following() as s:
        assert s.follower.idle
        gate = s.mover.gates["send_ahead"] = threading.Event()
        s.follower.follow(prepare("a", "b"))
        s.journal.wait_for("send_ahead")
        assert not s.follower.idle
        gate.set()
        deadline = time.monotonic() + PATIENCE_S
        while not s.follower.idle:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert s.journal.only(*MOVES)[-1][0] == "send_ahead"


def test_it_is_not_idle_from_the_moment_that_it_has_something_to_do():
    """The run's clock jumps while everybody is idle; a move must not begin in the jump."""
    setting = Setting()
    setting.follower.begin("a")  # its thread has not begun: it cannot have woken up yet
    setting.follower.follow(stay("b"))
    assert not setting.follower.idle


# -- what is written down


def test_a_move_is_written_down_on_the_clock_of_the_run():
    with following() as s:
        s.follower.follow(stay("b"))
        s.journal.wait_for("kept", PhaseRecord)
        s.follower.end()
        (move,) = s.of(MigrationRecord)
        assert (move.user, move.service, move.technique) == ("alice", "counter", "delta")
        assert (move.source, move.target) == ("edge-1", "edge-2")
        assert (move.source_site, move.target_site, move.outcome) == ("a", "b", "moved")
        times = (move.requested_s, move.prepared_s, move.frozen_s, move.answered_s, move.ended_s)
        assert times == (100.0, 102.0, 103.0, 103.5, 104.0)
        assert (move.freeze_s, move.event_window_s) == (0.02, 0.5)
        assert (move.rounds, move.bytes_ahead, move.bytes_frozen) == (2, 50, 5)
        assert move.bytes_spared == 4096
        assert math.isnan(move.client_gap_s)
        (phase,) = s.of(PhaseRecord)
        assert (phase.start_s, phase.end_s, phase.bytes) == (100.0, 100.5, 7)
        assert "counter moved: edge-1 to edge-2 (500 ms)" in s.told()


def test_a_handover_is_written_down_with_cells_and_stations():
    with following() as s:
        s.follower.follow(stay("b"))
        assert s.of(HandoverRecord) == [
            HandoverRecord("alice", "a", "b", "bs-1", "bs-2", 200.0, 200.0)
        ]
        assert s.follower.cell == "b"


# -- wherever the user goes


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(2, 4))
def test_a_handover_always_leads_to_another_base_station(cells, hosts):
    setting = Setting(hosts=hosts)
    setting.follower.begin("a")  # the service does not follow: its thread is not started
    setting.steering.connect("bs-1")
    for cell in cells:
        before, moves = setting.steering.base_station, cell != setting.follower.cell
        setting.follower.follow(stay(cell))
        assert (setting.steering.base_station != before) is moves
        assert setting.follower.hosts_of(cell)[1] == setting.steering.base_station


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(2, 4))
def test_where_the_service_is_its_site_is_bound_to_the_server_that_holds_it(cells, hosts):
    setting = Setting(hosts=hosts)
    setting.follower.begin("a")
    setting.steering.connect("bs-1")
    for cell in cells:
        setting.follower.follow(stay(cell))
        server = setting.follower.hosts_of(cell)[0]
        assert (server == setting.steering.server) is (cell == setting.follower.service_site)
