import math
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from facts_of_edges import CONTAINER, FACTS, ROOM
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import (
    HostUnreachableError,
    MigrationError,
    PreflightError,
    RemoteCommandError,
)
from testbed.hosts.remote import agent_command
from testbed.migration.mover import Mover, Stop
from testbed.migration.technique import COLD, DELTA, TECHNIQUES, find_technique

GONE = HostUnreachableError("edge-1: the SSH session ended")


def phase(name, start_s, end_s, size=0, *, where="source", frozen=True, detail=""):
    return {
        "phase": name, "where": where, "start_s": start_s, "end_s": end_s, "bytes": size,
        "frozen": frozen, "detail": detail,
    }  # fmt: skip


def record(outcome="moved", **more):
    """What the source's agent says at the end of a migration (`testbed.edge.source.Move`)."""
    moved = {"restored_s": 103.5} if outcome == "moved" else {}
    return {
        "outcome": outcome,
        "reason": "" if outcome == "moved" else "the line broke",
        "log": "" if outcome == "moved" else "Error (criu)",
        "state": "moved" if outcome == "moved" else "sent",
        "rounds": 2,
        "bytes_spared": 4096,
        "frozen_s": 103.0,
        "phases": [
            phase("open", 100.0, 100.5, 10, frozen=False),
            phase("ahead", 100.5, 102.0, 5000, frozen=False, detail="round 1"),
            phase("freeze", 102.9, 103.0),
            phase("dump", 103.0, 103.1, 300),
            phase("pages", 103.1, 103.2, 700),
            phase("restore", 103.3, 103.5, 0, where="target"),
        ],
        "criu": {"frozen_s": 0.02},
        **moved,
        **more,
    }


class Session:
    """One edge's agent: answers as it was told to, remembers what it was asked to do."""

    def __init__(self, name):
        self.name = name
        self.answers = {"facts": FACTS, "service_facts": CONTAINER, "room": ROOM}
        self.asked, self.questions = [], []

    def _answer(self, call, arguments):
        known = self.questions if call in {"facts", "service_facts", "room"} else self.asked
        known.append((call, arguments))
        answer = self.answers.get(call)
        if callable(answer):
            answer = answer(**arguments)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call(self, call, *, timeout_s=120.0, **arguments):
        assert timeout_s > 0
        return self._answer(call, arguments)

    def start(self, call, **arguments):
        future = Future()
        try:
            future.set_result(self._answer(call, arguments))
        except Exception as error:  # noqa: BLE001 - the future holds it
            future.set_exception(error)
        return future

    def calls(self):
        return [call for call, _ in self.asked]


class Lab:
    """Two linked edges and a third that is linked to none."""

    def __init__(self):
        peers = {"edge-1": ("edge-2",), "edge-2": ("edge-1",), "edge-3": ()}
        hosts = {
            name: SimpleNamespace(peers=peers[name], data_address=f"10.78.0.{number}")
            for number, name in enumerate(peers, start=11)
        }
        self.plan = SimpleNamespace(hosts=hosts)
        self.sessions = {name: Session(name) for name in hosts}
        self.listeners = []
        self.reached = []

    def __getitem__(self, host):
        return self.sessions[host]

    def reach(self, host):
        """A fresh session where the old one ended."""
        self.reached.append(host)

    def listen(self, listener):
        self.listeners.append(listener)

    def report(self, **event):
        for listener in self.listeners:
            listener(event)


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def mover(lab):
    return Mover(lab)


def moving(mover, technique=DELTA):
    return mover.open("counter", "edge-1", "edge-2", technique)


# -- before


def test_a_move_to_where_the_service_is_is_refused(lab, mover):
    with pytest.raises(MigrationError, match="source and target are both edge-1"):
        mover.open("counter", "edge-1", "edge-1", DELTA)
    assert lab["edge-1"].asked == []


def test_a_move_without_a_link_is_refused_with_the_remedy(lab, mover):
    with pytest.raises(MigrationError, match="no link from edge-1 to edge-3; add one") as refused:
        mover.open("counter", "edge-1", "edge-3", DELTA)
    assert refused.value.running_at == "edge-1"
    assert lab["edge-1"].asked == []


def test_a_move_that_cannot_succeed_is_refused_before_anything_is_touched(lab, mover):
    lab["edge-2"].answers["facts"] = {**FACTS, "architecture": "aarch64"}
    with pytest.raises(PreflightError, match="never goes to another architecture") as refused:
        moving(mover)
    assert (refused.value.running_at, refused.value.phase) == ("edge-1", "preflight")
    assert lab["edge-1"].asked == lab["edge-2"].asked == []


def test_what_a_host_is_gets_asked_once_and_what_is_in_it_each_time(lab, mover):
    moving(mover)
    moving(mover)
    here, there = ([call for call, _ in lab[host].questions] for host in ("edge-1", "edge-2"))
    assert here == ["facts", "service_facts", "service_facts"]
    assert there == ["facts", "room", "room"]
    assert lab["edge-1"].questions[1][1] == {"name": "counter"}


def test_an_edge_that_cannot_be_asked_is_told_and_nothing_was_touched(lab, mover):
    lab["edge-2"].answers["facts"] = GONE
    with pytest.raises(HostUnreachableError):
        moving(mover)
    assert lab["edge-1"].asked == []


def test_opening_tells_the_source_where_to_go(lab, mover):
    movement = moving(mover)
    ((call, arguments),) = lab["edge-1"].asked
    assert call == "move_open"
    assert arguments == {
        "move": movement.migration,
        "name": "counter",
        "address": "10.78.0.12",
        "command": agent_command("target"),
        "route": "wan-edge-2",
        "ways": {
            "tracker": "content",
            "claim": True,
            "fill": True,
            "later": False,
            "ahead": True,
        },
    }
    assert lab["edge-2"].asked == []
    assert movement.requested_s <= movement.prepared_s


def test_the_tracker_is_told_to_the_source_and_the_record_says_which_it_was(lab, mover):
    technique = find_technique("pre-copy", "write-protect")
    movement = mover.open("counter", "edge-1", "edge-2", technique)
    assert lab["edge-1"].asked[-1][1]["ways"]["tracker"] == "write-protect"
    said = record("moved", tracker="content", notes=["all content is compared: no reason"])
    lab["edge-1"].answers["move_finish"] = said
    outcome = movement.finish()
    assert (outcome.tracker, outcome.notes) == ("content", tuple(said["notes"]))


@pytest.mark.parametrize("name", ["cold", "delta"])
def test_a_technique_that_has_no_such_tracker_names_the_nearest(name):
    with pytest.raises(MigrationError, match=r"nearest that takes the tracker.*pre-copy"):
        find_technique(name, "write-protect")


def test_every_migration_has_a_name_of_its_own(mover):
    names = [moving(mover).migration for _ in range(3)]
    assert names[0] == "m01-counter-edge-1-edge-2"
    assert len(set(names)) == 3


def test_an_edge_that_refuses_to_open_is_heard(lab, mover):
    lab["edge-1"].answers["move_open"] = RemoteCommandError("edge-1: no", host="edge-1")
    with pytest.raises(RemoteCommandError):
        moving(mover)


def test_memory_goes_ahead_only_where_the_technique_says_so(lab, mover):
    for technique, calls in ((COLD, []), (DELTA, ["move_ahead"])):
        movement = moving(mover, technique)
        lab["edge-1"].asked.clear()
        movement.send_ahead(Stop(small_enough_bytes=1234, rounds=5))
        assert lab["edge-1"].calls() == calls
        assert movement.prepared_s >= movement.requested_s
    ((_, arguments),) = lab["edge-1"].asked
    assert arguments == {"move": movement.migration, "small_enough": 1234, "rounds": 5}


def test_a_movement_that_is_dropped_is_dropped_at_the_source(lab, mover):
    movement = moving(mover)
    movement.drop()
    assert lab["edge-1"].asked[-1] == ("move_drop", {"move": movement.migration})
    assert lab["edge-2"].asked == []


# -- the end


def test_a_move_is_written_down_as_it_was(lab, mover):
    lab["edge-1"].answers["move_finish"] = record()
    movement = moving(mover)
    outcome = movement.finish()
    assert (outcome.migration, outcome.outcome) == (movement.migration, "moved")
    assert (outcome.reason, outcome.log, outcome.rounds) == ("", "", 2)
    assert (outcome.frozen_s, outcome.answered_s, outcome.freeze_s) == (103.0, 103.5, 0.02)
    assert outcome.event_window_s == pytest.approx(0.5)
    assert outcome.bytes_ahead == 5010
    assert outcome.bytes_frozen == 300 + 700
    assert outcome.bytes_spared == 4096
    assert [(p.phase, p.host, p.frozen) for p in outcome.phases] == [
        ("open", "edge-1", False),
        ("ahead", "edge-1", False),
        ("freeze", "edge-1", True),
        ("dump", "edge-1", True),
        ("pages", "edge-1", True),
        ("restore", "edge-2", True),
    ]
    assert outcome.phases[1].detail == "round 1"
    assert {p.migration for p in outcome.phases} == {movement.migration}
    assert outcome.requested_s <= outcome.prepared_s <= outcome.ended_s
    assert lab["edge-2"].asked == []


def test_a_move_that_was_rolled_back_says_why_and_when_it_never_froze(lab, mover):
    lab["edge-1"].answers["move_finish"] = record("rolled back", frozen_s=0.0, criu={})
    outcome = moving(mover).finish()
    assert (outcome.outcome, outcome.reason, outcome.log) == (
        "rolled back", "the line broke", "Error (criu)"
    )  # fmt: skip
    nothing = (outcome.frozen_s, outcome.answered_s, outcome.freeze_s, outcome.event_window_s)
    assert all(map(math.isnan, nothing))
    assert lab["edge-2"].asked == []


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_every_time_is_on_the_controller_s_clock(source_s, target_s):
    lab = Lab()
    mover = Mover(lab, {"edge-1": source_s, "edge-2": target_s})
    answer = record()
    answer["phases"] = [
        {**p, **{k: p[k] + (source_s if p["where"] == "source" else target_s)
                 for k in ("start_s", "end_s")}}
        for p in answer["phases"]
    ]  # fmt: skip
    answer["frozen_s"] += source_s
    answer["restored_s"] += target_s
    lab["edge-1"].answers["move_finish"] = answer
    outcome = moving(mover).finish()
    assert outcome.frozen_s == pytest.approx(103.0)
    assert outcome.answered_s == pytest.approx(103.5)
    assert outcome.event_window_s == pytest.approx(0.5)
    expected = [(p["start_s"], p["end_s"]) for p in record()["phases"]]
    for found, (start_s, end_s) in zip(outcome.phases, expected, strict=True):
        assert (found.start_s, found.end_s) == (pytest.approx(start_s), pytest.approx(end_s))


# -- the freeze is heard


def test_the_moment_of_the_freeze_is_passed_on_once_and_only_to_its_own(lab, mover):
    heard = []
    movement, other = moving(mover), moving(mover)

    def finish(move):
        lab.report(event="frozen", move=other.migration, host="edge-1")
        lab.report(event="thawed", move=move, host="edge-1")
        assert heard == []
        lab.report(event="frozen", move=move, host="edge-1")
        return record()

    lab["edge-1"].answers["move_finish"] = finish
    movement.finish(lambda: heard.append("frozen"))
    assert heard == ["frozen"]
    lab.report(event="frozen", move=movement.migration, host="edge-1")
    assert heard == ["frozen"]


def test_after_a_failure_nobody_listens_for_the_freeze_any_more(lab, mover):
    heard = []
    movement = moving(mover)
    lab["edge-1"].answers["move_finish"] = GONE
    lab["edge-2"].answers["runs"] = True
    with pytest.raises(MigrationError):
        movement.finish(lambda: heard.append("frozen"))
    lab.report(event="frozen", move=movement.migration, host="edge-1")
    assert heard == []


# -- nobody knows where the service is: ask


@pytest.mark.parametrize(("adopted", "outcome"), [(True, "moved"), (False, "rolled back")])
def test_an_unknown_outcome_is_settled_by_asking_the_target(lab, mover, adopted, outcome):
    lab["edge-1"].answers["move_finish"] = record("unknown")
    lab["edge-2"].answers["adopt"] = adopted
    movement = moving(mover)
    assert movement.finish().outcome == outcome
    assert lab["edge-2"].asked == [("clock", {}), ("adopt", {"name": "counter"})]
    assert lab["edge-1"].asked[-1] == (
        "move_settle", {"move": movement.migration, "moved": adopted}
    )  # fmt: skip


def test_the_source_is_told_only_after_the_target_has_said_so(lab, mover):
    order = []
    lab["edge-1"].answers["move_finish"] = record("unknown")
    lab["edge-2"].answers["adopt"] = lambda **_: order.append("adopt") or True
    lab["edge-1"].answers["move_settle"] = lambda **_: order.append("settle")
    moving(mover).finish()
    assert order == ["adopt", "settle"]


def test_a_target_that_surely_was_not_asked_does_not_have_the_service(lab, mover):
    """A service that was restored on trust stands still by then, and nobody adopts it."""
    lab["edge-1"].answers["move_finish"] = record("unknown", restored_s=103.5, state="answered")
    lab["edge-2"].answers["clock"] = GONE
    movement = moving(mover)
    outcome = movement.finish()
    assert outcome.outcome == "rolled back"
    assert math.isnan(outcome.answered_s)
    assert lab["edge-2"].calls() == ["clock"]
    assert lab["edge-1"].asked[-1] == ("move_settle", {"move": movement.migration, "moved": False})


@pytest.mark.parametrize(
    ("state", "silent"), [("undecided", "clock"), ("sent", "adopt"), ("undecided", "adopt")]
)
@pytest.mark.parametrize("why", [GONE, RemoteCommandError("edge-2: no")])
def test_what_only_the_target_knows_is_not_guessed(lab, mover, state, silent, why):
    """The source stays frozen and goes on asking."""
    lab["edge-1"].answers["move_finish"] = record("unknown", state=state)
    lab["edge-2"].answers[silent] = why
    movement = moving(mover)
    with pytest.raises(MigrationError, match="stands frozen at edge-1, which asks") as lost:
        movement.finish()
    assert lost.value.running_at == ""
    assert lab["edge-1"].asked[-1] == ("move_drop", {"move": movement.migration})
    assert "move_settle" not in lab["edge-1"].calls()


def test_a_service_that_was_restored_but_not_confirmed_is_adopted(lab, mover):
    lab["edge-1"].answers["move_finish"] = record("unknown", restored_s=103.5)
    lab["edge-2"].answers["adopt"] = True
    outcome = moving(mover).finish()
    assert outcome.outcome == "moved"
    assert outcome.answered_s == 103.5
    assert lab["edge-2"].calls() == ["clock", "adopt"]
    assert lab["edge-1"].asked[-1][1]["moved"] is True


def test_a_restored_service_that_is_not_whole_goes_on_at_the_source(lab, mover):
    lab["edge-1"].answers["move_finish"] = record("unknown", restored_s=103.5)
    lab["edge-2"].answers["adopt"] = False
    outcome = moving(mover).finish()
    assert outcome.outcome == "rolled back"
    assert math.isnan(outcome.answered_s)
    assert lab["edge-1"].asked[-1][1]["moved"] is False


@pytest.fixture
def quick(monkeypatch):
    """Edges settle a move among themselves in no time."""
    monkeypatch.setattr("testbed.migration.mover.AMONG_THEMSELVES_S", 0.01)
    monkeypatch.setattr("testbed.migration.mover.TURN_S", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("source", "target", "where"),
    [(False, True, "edge-2"), (True, False, "edge-1"), (True, GONE, "edge-1"), (GONE, False, "")],
)
def test_when_the_source_s_agent_is_gone_both_edges_are_asked_where_the_service_is(
    lab, mover, source, target, where
):
    lab["edge-1"].answers["move_finish"] = GONE
    lab["edge-1"].answers["runs"] = source
    lab["edge-2"].answers["runs"] = target
    with pytest.raises(MigrationError, match="edge-1 is gone while its service was moving") as lost:
        moving(mover).finish()
    assert lost.value.running_at == where
    assert set(lab.reached) <= {"edge-1", "edge-2"}
    assert lab.reached


def test_the_edges_are_given_time_to_settle_it(lab, mover, monkeypatch):
    monkeypatch.setattr("testbed.migration.mover.TURN_S", 0.001)
    later = iter([False, False, True])
    lab["edge-1"].answers["move_finish"] = GONE
    lab["edge-1"].answers["runs"] = lambda **_: next(later)
    with pytest.raises(MigrationError) as lost:
        moving(mover).finish()
    assert lost.value.running_at == "edge-1"


@pytest.mark.usefixtures("quick")
def test_a_source_that_does_not_answer_in_time_is_a_failed_migration(lab, mover, monkeypatch):
    monkeypatch.setattr("testbed.migration.mover.FINISH_TIMEOUT_S", 0.0)
    monkeypatch.setattr("testbed.migration.mover.AMONG_THEMSELVES_S", 0.0)
    movement = moving(mover)
    monkeypatch.setattr(lab["edge-1"], "start", lambda *_, **__: Future())
    for edge in ("edge-1", "edge-2"):
        lab[edge].answers["runs"] = False
    with pytest.raises(MigrationError, match=r"edge-1 is gone.*nobody says that it runs"):
        movement.finish()


def test_a_source_that_refuses_to_move_is_heard(lab, mover):
    lab["edge-1"].answers["move_finish"] = RemoteCommandError("edge-1: KeyError", host="edge-1")
    with pytest.raises(RemoteCommandError):
        moving(mover).finish()


# -- techniques


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_technique_is_found_by_its_name(name):
    assert find_technique(name).name == name
    assert find_technique(name).explanation


def test_a_technique_that_is_none_is_answered_with_those_there_are():
    with pytest.raises(MigrationError, match="no migration technique 'magic'; there are: cold, d"):
        find_technique("magic")
