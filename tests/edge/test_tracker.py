import contextlib
import ctypes
import mmap
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.edge import probe_memory, tracker
from testbed.edge.pages import PAGE, own_pages, private_spans
from testbed.edge.tracker import NotTrackedError, WriteProtect
from testbed.edge.trial import attempt

COMPILER = shutil.which("gcc") or shutil.which("clang")
ROOM = 16
"""Pages of the stretch of addresses in which the tests' tasks map, move and write."""

UNTOUCHED = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ZEROS = ctypes.addressof(ctypes.c_char.from_buffer(UNTOUCHED))
"""Where this process, having only read, sees the kernel's one page of zeros."""
assert UNTOUCHED[0] == 0


def why_not():
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        return "Linux on x86-64 or arm64 only"
    if COMPILER is None:
        return "no C compiler"
    if os.geteuid():
        return "watching another process needs root"
    trials = (probe_memory.try_wp_async, probe_memory.try_pagemap_scan)
    said = [attempt(trial) for trial in trials]
    return "; ".join(s["detail"] for s in said if not s["works"])


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The tracker, compiled with sanitizers: whatever it does wrong ends it."""
    compiled = tmp_path_factory.mktemp("tracker") / "tracker"
    subprocess.run(
        [COMPILER, "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-o", compiled, tracker.SOURCES[0],
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        check=True,
    )  # fmt: skip
    return compiled


def frame(pid, address):
    """Number of the physical page at an address."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(address // PAGE * 8)
        return int.from_bytes(pagemap.read(8), "little") & (1 << 55) - 1


def content(pid):
    """Every page that is the task's own, by address; as in CRIU's dump, no page of zeros."""
    found = {}
    zero = frame(os.getpid(), ZEROS)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for span in private_spans(Path(f"/proc/{pid}/maps").read_text()):
            for start, end in own_pages(pid, span):
                for at in range(start, end, PAGE):
                    if frame(pid, at) != zero:
                        memory.seek(at)
                        found[at] = memory.read(PAGE)
    return found


class Task:
    """A process that does what it is told, and stands still in between."""

    BEGIN = f"""
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
for f in (libc.mmap, libc.mremap):
    f.restype = ctypes.c_void_p
PAGE, ROOM = {PAGE}, {ROOM}
def call(f, *words):
    return f(*[ctypes.c_void_p(w) if isinstance(w, int) and w > 1 << 31 else w for w in words])
def fresh(at, pages):
    call(libc.mmap, at, pages * PAGE, 3, 0x32, -1, 0)
# Two stretches that nobody else uses: one to work in, one to move to.
base = call(libc.mmap, None, 4 * ROOM * PAGE, 0, 0x22, -1, 0)
away = base + 2 * ROOM * PAGE
print(base, flush=True)
def put(at, value):
    ctypes.memset(at, value, 64)
def addr(n): return base + n * PAGE
"""

    def __init__(self):
        loop = "for line in sys.stdin: exec(line); print('done', flush=True)"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{self.BEGIN}\n{loop}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.base = int(self.process.stdout.readline())
        self.do("pass")

    def do(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"
        while "read" not in Path(f"/proc/{self.pid}/wchan").read_text():
            time.sleep(0.001)  # it is on its way back to where it waits for the next line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def stopped(pid):
    """A child of this process stands still."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    yield
    os.kill(pid, signal.SIGCONT)


class Follower:
    """Keeps a copy of a task's memory by reading only what the tracker names."""

    def __init__(self, task, program):
        self.task, self.tracker, self.copy = task, WriteProtect(task.pid, program), {}

    def follow(self, *, still=True):
        if not still and self.tracker.new():
            with stopped(self.task.pid):
                self.tracker.watch()
        look = self.tracker.look(still=still)
        with Path(f"/proc/{self.task.pid}/mem").open("rb", buffering=0) as memory:
            for start, end in (*look.written, *look.unknown):
                for at in range(start, end, PAGE):
                    with contextlib.suppress(OSError if not still else ()):  # it has gone already
                        memory.seek(at)
                        self.copy[at] = memory.read(PAGE)
        return look

    def assert_complete(self):
        now = content(self.task.pid)
        wrong = [hex(at) for at in now if self.copy.get(at) != now[at]]
        assert not wrong

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tracker.close()


def within(task, spans):
    """Numbers of the pages in spans that lie in the first stretch."""
    pages = [(at - task.base) // PAGE for a, b in spans for at in range(a, b, PAGE)]
    return sorted(page for page in pages if 0 <= page < ROOM)


def test_exactly_the_written_pages_are_named(program):
    with Task() as task, Follower(task, program) as follower:
        task.do("fresh(base, ROOM); [put(addr(n), 1) for n in range(ROOM)]")
        follower.follow()
        follower.assert_complete()
        assert within(task, [(at, at + PAGE) for at in follower.copy]) == list(range(ROOM))
        task.do("pass")
        assert within(task, follower.follow().written) == []
        task.do("put(addr(3), 2); put(addr(9), 2)")
        assert within(task, follower.follow().written) == [3, 9]
        follower.assert_complete()


VALUES = st.integers(1, 255)
PLACES = st.integers(0, ROOM - 1)
LENGTHS = st.integers(1, ROOM // 2)
STEPS = st.one_of(
    st.builds("put(addr({0}), {1}) if mapped({0}) else None".format, PLACES, VALUES),
    st.builds("fresh(addr({}), {})".format, PLACES, LENGTHS),
    st.builds("call(libc.munmap, addr({}), {} * PAGE)".format, PLACES, LENGTHS),
    st.builds("call(libc.madvise, addr({}), {} * PAGE, 4)".format, PLACES, LENGTHS),
    st.builds("call(libc.mprotect, addr({}), {} * PAGE, {})".format, PLACES, LENGTHS,
              st.sampled_from([0, 1, 3])),
    # moved to the second stretch, or grown in place
    st.builds("call(libc.mremap, addr({0}), {1} * PAGE, {1} * PAGE, 3, away + {2} * PAGE)".format,
              PLACES, LENGTHS, PLACES),
    st.builds("call(libc.mremap, away + {0} * PAGE, {1} * PAGE, {1} * PAGE, 3, addr({2}))".format,
              PLACES, LENGTHS, PLACES),
    st.builds("call(libc.mremap, addr({}), PAGE, {} * PAGE, 1)".format, PLACES, LENGTHS),
    st.just("touch()"),
    st.just("child()"),
    st.just("LOOK"),
)  # fmt: skip
TOUCH = """
exec('''
def writable():
    for line in open("/proc/self/maps"):
        words = line.split()
        start, end = (int(w, 16) for w in words[0].split("-"))
        if words[1].startswith("rw"):
            for at in range(max(start, base), min(end, base + 4 * ROOM * PAGE), PAGE):
                yield at
turn = [0]
def touch():
    turn[0] += 1
    for n, at in enumerate(writable()):
        if (n + turn[0]) % 3 == 0:
            put(at, turn[0] % 255 + 1)
def mapped(at):
    return addr(at) in set(writable())
def child():
    touch()
    pid = os.fork()
    if pid == 0:
        touch(); os._exit(0)
    touch()
    os.waitpid(pid, 0)
''')
""".strip()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=3, max_size=25))
def test_no_change_of_mappings_or_content_is_passed_over(program, steps):
    with Task() as task:
        task.do(f"exec({TOUCH!r})")
        task.do("fresh(base, ROOM); touch()")
        with Follower(task, program) as follower:
            follower.follow()
            for step in steps:
                if step == "LOOK":
                    follower.follow()
                    follower.assert_complete()
                else:
                    task.do(step)
            follower.follow()
            follower.assert_complete()


BUSY = """
go, n = [True], [0] * 4
def work(i):
    while go[0]:
        n[i] += 1
        time.sleep(0)
ts = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in ts: t.start()
"""


def test_a_task_with_threads_goes_on_while_it_is_watched(program):
    with Task() as task:
        task.do(f"exec({BUSY!r})")
        for _ in range(20):
            follower = Follower(task, program)
            assert follower.follow(still=False).written
            follower.tracker.close()
        task.do("go[0] = False; [t.join() for t in ts]")
        task.do("assert all(n), n")


def test_sleeping_in_a_system_call_goes_on_sleeping(program):
    sleeper = "import time; t = time.monotonic(); time.sleep(0.6); print(time.monotonic() - t)"
    with subprocess.Popen([sys.executable, "-c", sleeper], stdout=subprocess.PIPE) as process:
        time.sleep(0.3)
        watcher = WriteProtect(process.pid, program)
        watcher.look(still=True)
        slept_s = float(process.stdout.read())
        watcher.close()
    assert 0.6 <= slept_s < 1.5


GROWING = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
at = lambda address: ctypes.c_void_p(address)
size = 1 << 16
# Nobody may watch this one (MAP_DROPPABLE, from Linux 6.11); new C libraries have one.
libc.mmap(None, ctypes.c_size_t(4096), 3, 0x28, -1, 0)
print(flush=True)
while True:
    place = libc.mmap(None, ctypes.c_size_t(32 * size), 0, 0x22, -1, 0)
    # Alone in the middle, so that it can grow in place.
    one = libc.mmap(at(place + size), ctypes.c_size_t(size), 3, 0x32, -1, 0)
    libc.munmap(at(one + size), ctypes.c_size_t(30 * size))
    for pages in range(2, 30):
        grown = libc.mremap(at(one), ctypes.c_size_t((pages - 1) * size),
                            ctypes.c_size_t(pages * size), 1)
        if grown in (None, ctypes.c_void_p(-1).value):
            os._exit(10 + (ctypes.get_errno() == 14))  # 14: it is more than one mapping
        one = grown
    libc.munmap(at(place), ctypes.c_size_t(32 * size))
"""
"""Makes a mapping and lets it grow, step by step, again and again."""


def test_a_mapping_that_grows_while_it_is_looked_at_stays_one(program):
    with subprocess.Popen([sys.executable, "-c", GROWING], stdout=subprocess.PIPE) as task:
        try:
            task.stdout.readline()
            with Follower(task, program) as follower:
                for _ in range(300):
                    follower.follow(still=False)
            assert task.poll() is None
        finally:
            task.kill()


def test_what_may_not_be_watched_is_not_new_for_ever(program):
    droppable = "call(libc.mmap, None, PAGE, 3, 0x28, -1, 0)"
    with Task() as task, Follower(task, program) as follower:
        task.do(droppable)
        assert follower.tracker.new()
        follower.follow()
        assert not follower.tracker.new()
        task.do("call(libc.mmap, None, PAGE, 1, 0x21, -1, 0)")  # shared: none of ours
        task.do("call(libc.mmap, None, PAGE, 0, 0x22, -1, 0)")
        assert follower.tracker.new() == 1


def test_what_lost_its_watch_beside_what_was_moved_bears_no_old_marks(program):
    with Task() as task, Follower(task, program) as follower:
        task.do("fresh(base, 8); [put(addr(n), 1) for n in range(8)]")
        follower.follow()
        half = "4 * PAGE, 4 * PAGE, 3"
        task.do(f"call(libc.mremap, addr(4), {half}, away)")
        follower.follow()
        # Back to where it came from, the kernel makes one mapping of both, and nobody watches it.
        task.do(f"call(libc.mremap, away, {half}, addr(4))")
        for value in range(2, 5):
            task.do(f"put(addr(1), {value}); put(addr(6), {value})")
            follower.follow()
            follower.assert_complete()


MOVING = """
import ctypes, mmap, random, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
PAGE, ROOM = mmap.PAGESIZE, 8
at = ctypes.c_void_p
n = lambda pages: ctypes.c_size_t(pages * PAGE)
base = libc.mmap(None, n(8 * ROOM), 0, 0x22, -1, 0)
dice = random.Random(int(sys.argv[1]))
def fresh(slot):
    libc.mmap(at(base + slot * ROOM * PAGE), n(ROOM), 3, 0x32, -1, 0)
def fill(slot):
    for page in dice.sample(range(ROOM), 3):
        ctypes.memset(base + (slot * ROOM + page) * PAGE, dice.randrange(1, 256), 64)
full = list(range(4))
for slot in full:
    fresh(slot), fill(slot)
print(flush=True)
while True:
    # To others or away: the kernel joins neighbours, and forgets that they were watched.
    old, new = dice.choice(full), dice.choice([s for s in range(8) if s not in full])
    libc.mremap(at(base + old * ROOM * PAGE), n(ROOM), n(ROOM), 3, at(base + new * ROOM * PAGE))
    full.remove(old)
    full.append(new)
    for slot in full:
        fill(slot)
"""
"""Moves mappings about and writes to them, all the time."""


@pytest.mark.parametrize("seed", range(5))
def test_no_page_is_passed_over_while_mappings_move(program, seed):
    words = [sys.executable, "-c", MOVING, str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as task:
        try:
            task.stdout.readline()
            with Follower(task, program) as follower:
                for _ in range(20):
                    for _ in range(1 + seed):
                        follower.follow(still=False)
                    with stopped(task.pid):
                        follower.follow()
                        now = content(task.pid)
                        assert not [hex(a) for a in now if follower.copy.get(a) != now[a]]
        finally:
            task.kill()


def test_another_program_in_the_same_task_is_noticed(program):
    with Task() as task, Follower(task, program) as follower:
        follower.follow()
        said = "print('done', flush=True)"
        loop = f"{said}\nfor line in sys.stdin: exec(line); {said}"
        words = [sys.executable, "-c", f"import os, sys\n{loop}"]
        task.do(f"os.execv(sys.executable, {words!r})")
        with pytest.raises(NotTrackedError, match="address space"):
            follower.follow()
        with Follower(task, program) as anew:
            anew.follow()
            anew.assert_complete()


def test_a_task_that_is_watched_already_is_refused(program):
    with Task() as task, Follower(task, program) as follower:
        follower.follow()
        second = WriteProtect(task.pid, program)
        with pytest.raises(NotTrackedError, match="busy"):
            second.look(still=True)
        follower.follow()  # the task ran for the second one, and its CPU stands in its memory
        follower.assert_complete()


@pytest.mark.parametrize("blocked", [False, True])
def test_the_tasks_own_answer_to_sigtrap_stays(program, blocked):
    with Task() as task:
        task.do("import signal; heard = []; TRAP = signal.SIGTRAP")
        task.do("signal.signal(TRAP, lambda *_: heard.append(1)) and None")
        if blocked:
            task.do("signal.pthread_sigmask(signal.SIG_BLOCK, [TRAP]) and None")
        with Follower(task, program) as follower:
            follower.follow()
            task.do("signal.pthread_sigmask(signal.SIG_UNBLOCK, [TRAP]) and None")
            task.do("os.kill(os.getpid(), TRAP)")
            task.do("assert heard == [1], heard")


@pytest.mark.parametrize(
    "arranged",
    [
        "signal.signal(TRAP, signal.SIG_IGN) and None",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [TRAP]); os.kill(os.getpid(), TRAP)",
    ],
)
def test_a_task_whose_sigtrap_a_step_would_disturb_is_refused_and_left_as_it_is(program, arranged):
    with Task() as task:
        task.do("import signal; TRAP = signal.SIGTRAP")
        task.do(arranged)
        status = Path(f"/proc/{task.pid}/status")
        names = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "TracerPid")
        before = [x for x in status.read_text().splitlines() if x.startswith(names)]
        with pytest.raises(NotTrackedError, match="SIGTRAP"):
            WriteProtect(task.pid, program)
        assert before == [x for x in status.read_text().splitlines() if x.startswith(names)]
        task.do("pass")


def test_a_task_that_is_gone_is_refused(program):
    with Task() as task:
        pass
    with pytest.raises(NotTrackedError, match="cannot be watched"):
        WriteProtect(task.pid, program)


def test_nothing_of_the_watching_stays_with_the_task(program):
    with Task() as task:
        before = sorted(Path(f"/proc/{task.pid}/fd").iterdir())
        with Follower(task, program) as follower:
            follower.follow()
            assert sorted(Path(f"/proc/{task.pid}/fd").iterdir()) == before
        maps = Path(f"/proc/{task.pid}/smaps").read_text()
        assert not [
            line for line in maps.splitlines() if line.startswith("VmFlags") and " uw" in line
        ]
