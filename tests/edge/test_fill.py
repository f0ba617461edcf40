import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.edge import probe_memory
from testbed.edge.fill import Fill, Filler, Pending
from testbed.edge.pages import PAGE
from testbed.edge.trial import attempt

SPACE = 24
LENGTHS = st.integers(1, SPACE // 2)
PLACES = st.integers(0, SPACE - 1)
unhurried = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


# -- what is still to come


@given(
    st.lists(st.tuples(PLACES, LENGTHS), max_size=6),
    st.lists(st.tuples(PLACES, LENGTHS, st.one_of(st.none(), st.integers(-6, 6))), max_size=6),
)
def test_what_is_to_come_follows_every_move_and_removal(made, changes):
    model, runs = {}, []
    for number, (start, length) in enumerate(made):
        for page in range(start, start + length):
            if page not in model:
                model[page] = 1000 * number + page
                runs.append((page * PAGE, (page + 1) * PAGE, model[page] * PAGE))
    pending = Pending(runs)
    for start, length, moved in changes:
        there = range(start, start + length)
        gone = {page: model.pop(page) for page in there if page in model}
        if moved is not None:  # the kernel has unmapped what was at the new place, and said so
            low, high = start + moved, start + moved + length
            if set(there) & set(range(low, high)):
                moved = None  # a mapping never moves onto itself  # noqa: PLW2901
            else:
                pending.drop(low * PAGE, high * PAGE)
                model = {p: w for p, w in model.items() if not low <= p < high}
                model |= {page + moved: where for page, where in gone.items()}
        pending.drop(start * PAGE, (start + length) * PAGE, moved and moved * PAGE)
    found = {page: pending.find(page * PAGE + 7) for page in range(-10, 3 * SPACE)}
    assert found == {page: model[page] * PAGE + 7 if page in model else None for page in found}
    span = (-3 * PAGE, SPACE // 2 * PAGE)
    inside = [(at, w + at - a) for a, b, w in pending.within(*span) for at in range(a, b, PAGE)]
    assert inside == [(p * PAGE, model[p] * PAGE) for p in sorted(model) if -3 <= p < SPACE // 2]
    taken = []
    while run := pending.take():
        taken += [(at, run[2] + at - run[0]) for at in range(run[0], run[1], PAGE)]
    assert sorted(taken) == sorted((page * PAGE, where * PAGE) for page, where in model.items())


# -- a task that waits for its memory


def why_not():
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        return "Linux on x86-64 or arm64 only"
    if os.geteuid():
        return "events of a userfaultfd need root"
    said = attempt(probe_memory.try_userfaultfd)
    return "" if said["works"] else said["detail"]


needs_userfaultfd = pytest.mark.skipif(bool(why_not()), reason=why_not())

# Behaves as a task that CRIU has just restored, then does what it is told; at last it says what
# is in its memory, and every child it has forked says so, too.
TASK = f"""
import array, ctypes, hashlib, json, mmap, os, platform, socket, struct, sys, threading
PAGE, SPACE = {PAGE}, {SPACE}
libc = ctypes.CDLL(None, use_errno=True)
for f in (libc.mmap, libc.mremap): f.restype = ctypes.c_void_p
P = ctypes.c_void_p
base = libc.mmap(P(None), ctypes.c_size_t(4 * SPACE * PAGE), 0, 0x22, -1, P(0))
away = base + 2 * SPACE * PAGE
def addr(n): return base + n * PAGE
def check(r):
    if r in (-1, 2**64 - 1): raise OSError(ctypes.get_errno())
check(libc.mmap(P(base), ctypes.c_size_t(SPACE * PAGE), 3, 0x32, -1, P(0)))
fd = libc.syscall({{'x86_64': 323, 'aarch64': 282}}[platform.machine()], os.O_CLOEXEC)
api = (ctypes.c_uint64 * 3)(0xAA, 0b1001110, 0)  # fork, remap, remove, unmap
check(libc.ioctl(fd, ctypes.c_ulong(0xC018AA3F), api))
reg = (ctypes.c_uint64 * 4)(base, SPACE * PAGE, 1, 0)
check(libc.ioctl(fd, ctypes.c_ulong(0xC020AA00), reg))
print(base, flush=True)
sys.stdin.readline()
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.send(struct.pack("i", 7))
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
s.send(struct.pack("i", 0x52535446)); s.close(); os.close(fd)
def read(n): return ctypes.string_at(addr(n), 8)
def put(n, v): ctypes.memset(addr(n), v, 8)
def unmap(n, k): libc.munmap(P(addr(n)), ctypes.c_size_t(k * PAGE))
def forget(n, k): libc.madvise(P(addr(n)), ctypes.c_size_t(k * PAGE), 4)
def rights(n, k): libc.mprotect(P(addr(n)), ctypes.c_size_t(k * PAGE), 1)
def fresh(n, k): libc.mmap(P(addr(n)), ctypes.c_size_t(k * PAGE), 3, 0x32, -1, P(0))
def move(n, k, m): libc.mremap(P(addr(n)), ctypes.c_size_t(k * PAGE), ctypes.c_size_t(k * PAGE),
                               3, P(away + m * PAGE))
def mapped():
    for line in open("/proc/self/maps"):
        words = line.split()
        a, b = (int(w, 16) for w in words[0].split("-"))
        if words[1][0] == "r":
            yield from range(max(a, base), min(b, base + 4 * SPACE * PAGE), PAGE)
def writable(n):
    return any(int(l.split("-")[0], 16) <= addr(n) < int(l.split("-")[1].split()[0], 16)
               and l.split()[1][1] == "w" for l in open("/proc/self/maps"))
def say():
    print(json.dumps({{(at - base) // PAGE: hashlib.md5(ctypes.string_at(at, PAGE)).hexdigest()
                      for at in mapped()}}), flush=True)
def child():
    if (pid := os.fork()) == 0:
        say(); os._exit(0)
    os.waitpid(pid, 0)
exec(sys.argv[2])
say()
"""


def content(number):
    return bytes([number % 251 + 1]) * PAGE


class Model:
    """What the task's memory must be: pages by number; None for zeros, absent for unmapped."""

    def __init__(self, sent):
        self.pages = {n: content(n) if n in sent else bytes(PAGE) for n in range(SPACE)}
        self.fixed = set()

    def said(self):
        return {str(n): hashlib.md5(c).hexdigest() for n, c in self.pages.items()}  # noqa: S324

    def put(self, n, v):
        if n in self.pages and n not in self.fixed:
            self.pages[n] = bytes([v]) * 8 + self.pages[n][8:]

    def unmap(self, n, k):
        for page in range(n, n + k):
            self.pages.pop(page, None)
            self.fixed.discard(page)

    def forget(self, n, k):
        for page in range(n, n + k):
            if page in self.pages:
                self.pages[page] = bytes(PAGE)

    def rights(self, n, k):
        for page in range(n, n + k):
            if page not in self.pages:
                break  # mprotect stops at the first hole
            self.fixed.add(page)

    def fresh(self, n, k):
        for page in range(n, n + k):
            self.pages[page] = bytes(PAGE)
            self.fixed.discard(page)


STEPS = st.one_of(
    st.tuples(st.just("put"), PLACES, st.integers(1, 255)),
    st.tuples(st.just("unmap"), PLACES, LENGTHS),
    st.tuples(st.just("forget"), PLACES, LENGTHS),
    st.tuples(st.just("fresh"), PLACES, LENGTHS),
    st.tuples(st.just("child")),
)


@contextlib.contextmanager
def waiting_task(folder, script):
    path = Path(folder) / "lazy-pages.socket"
    with subprocess.Popen(
        [sys.executable, "-c", TASK, str(path), script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as task:
        fill = Fill(path)
        yield task, fill
        fill.close()


def run(script, sent, hot=()):
    """What the task says of its memory, and its children of theirs; and what filling it took."""
    store = mmap.mmap(-1, SPACE * PAGE)
    where = ctypes.addressof(ctypes.c_char.from_buffer(store))
    for n in sent:
        store[n * PAGE : (n + 1) * PAGE] = content(n)
    with tempfile.TemporaryDirectory() as folder, waiting_task(folder, script) as (task, fill):
        base = int(task.stdout.readline())
        runs = [(base + n * PAGE, base + (n + 1) * PAGE, where + n * PAGE) for n in sent]
        fill.begin({7: runs}, {7: [(base + n * PAGE, base + (n + 1) * PAGE) for n in hot]})
        said, _ = task.communicate("go\n", timeout=20)
        tally = fill.end(10)
    return [json.loads(line) for line in said.splitlines()], tally


@needs_userfaultfd
@unhurried
@given(st.sets(PLACES), st.lists(STEPS, max_size=12), st.lists(PLACES, max_size=4))
def test_memory_is_right_whatever_the_task_does_while_it_is_filled(sent, steps, hot):
    model, expected, script = Model(sent), [], []
    for name, *words in steps:
        if name == "child":
            expected.append(model.said())
        else:
            getattr(model, name)(*words)
        call = f"{name}({', '.join(map(str, words))})"
        script.append(f"if writable({words[0]}): {call}" if name == "put" else call)
    said, tally = run("\n".join(script), sent, hot)
    assert said == [*expected, model.said()]
    assert tally.problems == []


@needs_userfaultfd
def test_a_mapping_that_moves_takes_what_is_to_come_with_it():
    said, tally = run("move(2, 5, 1); child()", range(SPACE))
    expected = Model(range(SPACE))
    for n in range(2, 7):
        expected.pages[2 * SPACE + 1 + n - 2] = expected.pages.pop(n)
    assert said == [expected.said()] * 2
    assert tally.forks == 1


@needs_userfaultfd
def test_rights_that_change_in_the_middle_hinder_nothing():
    said, tally = run("rights(3, 9); rights(15, 2)", range(SPACE))
    assert said == [Model(range(SPACE)).said()]
    assert tally.problems == []


WAIT = "sys.stdin.readline()"


@needs_userfaultfd
def test_content_without_a_mapping_that_waits_for_it_is_said_and_ends_the_task():
    with tempfile.TemporaryDirectory() as folder, waiting_task(folder, WAIT) as (task, fill):
        base = int(task.stdout.readline())
        store = mmap.mmap(-1, PAGE)
        where = ctypes.addressof(ctypes.c_char.from_buffer(store))
        nowhere = base + 3 * SPACE * PAGE
        fill.tally.spoil = task.kill
        fill.begin({7: [(nowhere, nowhere + PAGE, where)]}, {})
        task.stdin.write("go\n")
        task.stdin.flush()
        tally = fill.end(10)
        assert task.wait(10) < 0  # ended before it could read zeros
    assert len(tally.problems) == 1
    assert "no mapping" in tally.problems[0]


@needs_userfaultfd
def test_a_filler_that_fails_in_any_way_ends_the_task(monkeypatch):
    monkeypatch.setattr(Filler, "_copy", lambda *_: 1 // 0)
    with tempfile.TemporaryDirectory() as folder, waiting_task(folder, WAIT) as (task, fill):
        base = int(task.stdout.readline())
        fill.tally.spoil = task.kill
        fill.begin({7: [(base, base + PAGE, 0)]}, {})
        task.stdin.write("go\n")
        task.stdin.flush()
        tally = fill.end(10)
        assert task.wait(10) < 0
    assert "division" in tally.problems[0]


@needs_userfaultfd
def test_a_restore_that_breaks_off_is_said():
    with tempfile.TemporaryDirectory() as folder:
        fill = Fill(Path(folder) / "lazy-pages.socket")
        fill.begin({7: []}, {})
        with socket.socket(socket.AF_UNIX) as criu:
            criu.connect(str(Path(folder) / "lazy-pages.socket"))
        tally = fill.end(5)
        fill.close()
    assert "early" in tally.problems[0]
