"""What a service leaves behind, and how it is found again: exactly, or not at all."""

import contextlib
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.edge import visits
from testbed.edge.arriving import Arriving
from testbed.edge.offered import DIGEST_BYTES, ENOUGH_TO_TELL_BYTES, Offered, digest_of
from testbed.edge.outbox import Outbox
from testbed.edge.pages import PAGE, Copy
from testbed.edge.sending import Sending
from testbed.edge.spec import Spec
from testbed.edge.squeeze import expand
from testbed.edge.visits import Visit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is kept in Linux' way")
unhurried = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SPEC = Spec("mine", "10.88.0.1", 1, ("sha256:a", "sha256:b"), ("run",))
BASE = 0x7F5A_0000_0000
SPACE, TASKS = 24, (1, 2)
SLOW, FAST = 1e-3, 1e12
"""Links, in bytes per second."""
memories = st.dictionaries(st.integers(0, SPACE - 1), st.integers(0, 30), max_size=SPACE)
"""Page number to what its content is made of; 0 are zeros."""
services = st.fixed_dictionaries(dict.fromkeys(TASKS, memories))


def page(number):
    return number.to_bytes(2, "little") * (PAGE // 2)


def at(number):
    return BASE + number * PAGE


@pytest.fixture
def place(monkeypatch, tmp_path):
    """An edge's visits, in a folder of their own."""
    monkeypatch.setattr(visits, "VISITS", tmp_path / "visits")
    return tmp_path / "visits"


def leave(memory_of, spec=SPEC):
    """A service with these memories goes on, and its visit is kept; its size if it is."""
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for task, memory in memory_of.items():
            copies.append(Copy(Path(folder) / str(task), capacity=SPACE * PAGE))
            for number, content in memory.items():
                copies[-1].update(at(number), page(content))
        visits.keep(spec, copies)
        return visits.kept_bytes().get(spec.name)


class Loop:
    """A line to a target in this process: what is sent is taken in at once."""

    def __init__(self, arriving):
        self.arriving, self.sent_bytes = arriving, 0
        self.pace = SimpleNamespace(bytes_per_s=SLOW, pause=lambda: None)

    def send(self, head, parts=()):
        data = b"".join(bytes(part) for part in parts)
        self.sent_bytes += len(data)
        self.arriving.take(head, expand(head, data))

    def ask(self, head):
        assert head == {"message": "sync", "seal": True}
        return {"gone": {str(task): spans for task, spans in self.arriving.seal().items()}}


class Sender(Sending):
    """Sends memory that lies in this process."""

    def __init__(self, folder, line):
        super().__init__(folder, Outbox(line))
        self.memory_of = {}

    def send_round(self):
        for task, memory in self.memory_of.items():
            spans, parts = [], []
            for number, content in sorted(memory.items()):
                for a, b in self.copy(task).update(at(number), page(content)):
                    spans.append((a, b))
                    parts.append(page(content)[a - at(number) : b - at(number)])
            self.send(task, spans, parts)
        self.outbox.flush()


@contextlib.contextmanager
def ends():
    """Both ends of a move to an edge that may have a visit."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder) / "here", Path(folder) / "there"
        here.mkdir()
        there.mkdir()
        visit = Visit(SPEC)
        arriving = Arriving(there, lambda: None, lambda *_: None, visit)
        sender = Sender(here, Loop(arriving))
        sender.offer(visit.digests)
        try:
            yield sender, arriving
        finally:
            sender.close()
            arriving.close()


def content_of(arriving, task):
    """Number and content of every page that the target has of a task."""
    copy = arriving._of(task).copy
    return {
        (start + n - BASE) // PAGE: bytes(copy.view[offset + n : offset + n + PAGE])
        for start, end, offset in copy.segments()
        for n in range(0, end - start, PAGE)
    }


def assert_exact(arriving, memory_of):
    for task, memory in memory_of.items():
        assert content_of(arriving, task) == {n: page(c) for n, c in memory.items()}


@unhurried
@given(before=services, now=services, later=services)
def test_whatever_the_visit_has_the_target_ends_with_what_the_source_has(place, before, now, later):
    kept_bytes = leave(before)
    there = {c for memory in before.values() for c in memory.values()} - {0}
    assert kept_bytes == len(there) * PAGE
    with ends() as (sender, arriving):
        sender.memory_of = now
        sender.go_round()
        assert_exact(arriving, now)
        wanted = [c for memory in now.values() for c in memory.values()]
        assert sender.spared_bytes == sum(c in there for c in wanted) * PAGE
        assert sender.outbox.sent_bytes == sum(c not in {*there, 0} for c in wanted) * PAGE
        spared, sent = sender.spared_bytes, sender.outbox.sent_bytes
        both = {task: {**now[task], **later[task]} for task in TASKS}
        sender.memory_of = both
        sender.go_round()
        assert_exact(arriving, both)
        assert sender.spared_bytes == spared  # only the first round looks
        changed = [c for t in TASKS for n, c in both[t].items() if now[t].get(n) != c]
        assert sender.outbox.sent_bytes - sent == sum(c != 0 for c in changed) * PAGE


def damaged(content, draw):
    """Some bytes changed, and perhaps the end cut off."""
    content = bytearray(content)
    for where in draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=6)):
        if content:
            content[where] ^= 0x55
    return bytes(content[: draw(st.one_of(st.none(), st.integers(0, len(content))))])


@unhurried
@given(before=services, now=services, data=st.data())
def test_a_damaged_visit_is_noticed_whenever_it_was_damaged(place, before, now, data):
    leave(before)
    files = [place / "mine" / name for name in ("pages", "digests")]
    if data.draw(st.booleans()):
        for file in files:
            file.write_bytes(damaged(file.read_bytes(), data.draw))
    with ends() as (sender, arriving):
        files[0].write_bytes(damaged(files[0].read_bytes(), data.draw))
        sender.memory_of = now
        sender.go_round()
        assert_exact(arriving, now)
        wanted = sum(c != 0 for memory in now.values() for c in memory.values()) * PAGE
        assert sender.spared_bytes + sender.outbox.sent_bytes == wanted


def test_a_forked_task_gets_what_its_parent_was_to_have_of_the_visit(place):
    leave({1: {0: 1, 1: 2}})
    (place / "mine" / "pages").write_bytes(page(9) + page(2))
    with ends() as (sender, arriving):
        spans = [(at(0), at(2))]
        sender.copy(1).update(at(0), page(1) + page(2))
        sender.copy(2).take_over(sender.copy(1))
        _, _, kept = sender._offered.take_out(spans, [page(1) + page(2)], SLOW)
        arriving.take({"task": 1, "spans": [], "blank": [], "kept": kept}, b"")
        arriving.fork({"task": 2, "parent": 1})
        sender.go_round()
        assert_exact(arriving, {1: {0: 1, 1: 2}, 2: {0: 1, 1: 2}})
        assert sender.spared_bytes == 0  # one page was there, and was sent to the child


def test_pages_are_found_wherever_they_were(place):
    leave({1: {0: 1, 1: 2, 2: 3, 7: 4}})
    offered = Offered(Visit(SPEC).digests)
    found = offered.take_out(
        [(at(10), at(13)), (at(3), at(5)), (at(20), at(22))],
        [page(1) + page(2) + page(3), page(8) + page(2), page(3) + page(4)],
        SLOW,
    )
    assert found == (
        [(at(3), at(4))],
        [page(8)],
        [(at(10), at(13), 0), (at(4), at(5), 1), (at(20), at(22), 2)],
    )
    assert offered.there_bytes == 6 * PAGE
    assert offered.notes() == []


def test_nothing_is_digested_for_a_link_that_is_faster(place):
    leave({1: {0: 1}})
    offered = Offered(Visit(SPEC).digests)
    span, part = (at(0), at(1)), page(1)
    for _ in range(ENOUGH_TO_TELL_BYTES // PAGE):
        assert offered.take_out([span], [part], FAST)[2] == [(*span, 0)]  # too little is known
    assert offered.take_out([span], [part], FAST) == ([span], [part], [])
    assert "MB were not looked for in an earlier visit" in offered.notes()[0]
    assert offered.take_out([span], [part], SLOW)[2] == [(*span, 0)]


# -- what is kept, and how long


def test_the_last_visit_takes_the_place_of_the_one_before(place):
    leave({1: {0: 1, 1: 2}})
    leave({1: {0: 3}})
    assert visits.kept_bytes() == {"mine": PAGE}
    assert Visit(SPEC).digests == digest_of(page(3))
    assert sorted(p.name for p in place.iterdir()) == [".lock", "mine"]


def aged(place, name, age_s):
    then_s = (place / name / "pages").stat().st_mtime - age_s
    os.utime(place / name / "pages", (then_s, then_s))


def test_the_oldest_visits_go_first(place, monkeypatch):
    for name, age_s in (("new", 1), ("oldest", 9), ("old", 5)):
        leave({1: {n: n + 1 for n in range(4)}}, replace(SPEC, name=name))
        aged(place, name, age_s)
    monkeypatch.setattr(visits, "MOST_BYTES", 11 * PAGE)
    leave({1: {n: n + 1 for n in range(5)}})
    assert visits.kept_bytes() == {"new": 4 * PAGE, "mine": 5 * PAGE}
    monkeypatch.setattr(visits, "MOST_BYTES", 4 * PAGE)
    assert leave({1: {n: n + 1 for n in range(5)}}) is None
    assert visits.kept_bytes() == {"new": 4 * PAGE}


def test_what_is_kept_leaves_a_tenth_of_the_disk_free(place, monkeypatch):
    leave({1: {0: 1}}, replace(SPEC, name="other"))
    usage = SimpleNamespace(total=1000 * PAGE, free=101 * PAGE)
    monkeypatch.setattr(visits.shutil, "disk_usage", lambda _: usage)
    assert leave({1: {0: 1}}) == PAGE
    assert visits.kept_bytes() == {"other": PAGE, "mine": PAGE}
    usage.free = 99 * PAGE
    assert leave({1: {0: 1}}, replace(SPEC, name="third")) == PAGE
    assert visits.kept_bytes() == {"third": PAGE}
    assert leave({1: {0: 1}}) is None
    assert visits.kept_bytes() == {}


def test_nothing_is_kept_on_a_host_that_is_low_on_memory(place, monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 100 kB\nHugePages: 0\n")
    monkeypatch.setattr(visits, "MEMINFO", tmp_path / "meminfo")
    assert leave({1: {0: 1}}) is None


def test_what_was_interrupted_is_no_visit_and_goes_with_the_next(place):
    (place / ".other").mkdir(parents=True)
    (place / ".other" / "pages").write_bytes(page(1))
    assert visits.kept_bytes() == {}
    assert Visit(SPEC).digests == b""
    leave({1: {0: 2}})
    assert sorted(p.name for p in place.iterdir()) == [".lock", "mine"]


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(visits, "_write", full)
    assert leave({1: {0: 2}}) is None
    assert [p.name for p in place.iterdir()] == [".lock"]


def test_a_service_that_was_never_here_gets_what_its_image_left_last(place):
    for name, layers, content in (
        ("first", SPEC.layers, 1),
        ("last", SPEC.layers, 2),
        ("stranger", ("sha256:c",), 3),
    ):
        leave({1: {0: content}}, replace(SPEC, name=name, layers=layers))
    aged(place, "first", 9)
    assert Visit(SPEC).digests == digest_of(page(2))
    leave({1: {0: 4}})
    aged(place, "mine", 99)
    assert Visit(SPEC).digests == digest_of(page(4))
    visits.forget("mine")
    visits.forget("last")
    visits.forget("nobody")
    assert visits.kept_bytes() == {"first": PAGE, "stranger": PAGE}
    assert Visit(SPEC).digests == digest_of(page(1))
    assert len(digest_of(page(1))) == DIGEST_BYTES
