"""A service that is hard to move: it checks its own memory all the time. Runs in a container.

A parent and three children, two threads each. Every thread maps, moves, grows, forgets and unmaps
memory, rewrites pages, and forks short-lived children that check and change what they inherited.
Every page's content follows from its owner, place and version, so that a page that is old, wrong or
zero is noticed. ``check\\n`` on port 8000 is answered with ``ok COUNT`` or with what was wrong.
Argument: seconds between two steps of a thread; 0 is a storm of writes.
"""

import contextlib
import ctypes
import hashlib
import os
import random
import signal
import socket
import sys
import threading
import time

PAGE = os.sysconf("SC_PAGESIZE")
PAGES, LONGEST = 600, 40
PAUSE_S = float(sys.argv[1]) if len(sys.argv) > 1 else 0.002
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
P, SIZE = ctypes.c_void_p, ctypes.c_size_t
wrong: list[str] = []


def content(owner, number, version):
    if version == 0:
        return bytes(PAGE)
    word = hashlib.blake2b(f"{owner} {number} {version}".encode()).digest()
    return word * (PAGE // len(word))


class Stretch:
    """One mapping with the version of each of its pages."""

    def __init__(self, owner, size):
        self.owner, self.versions = owner, [0] * size
        self.at = libc.mmap(P(None), SIZE(size * PAGE), 3, 0x22, -1, P(0))

    def check(self, number, when):
        found = ctypes.string_at(self.at + number * PAGE, PAGE)
        if found != content(self.owner, number, self.versions[number]):
            kind = (
                "zero"
                if found == bytes(PAGE)
                else "old"
                if any(
                    found == content(self.owner, number, v) for v in range(self.versions[number])
                )
                else "wrong"
            )
            wrong.append(
                f"{self.owner} page {number} of {len(self.versions)} v{self.versions[number]} "
                f"at {self.at + number * PAGE:#x}: {kind} ({when}, pid {os.getpid()})"
            )

    def write(self, number):
        self.check(number, "before writing")
        self.versions[number] += 1
        new = content(self.owner, number, self.versions[number])
        ctypes.memmove(self.at + number * PAGE, new, PAGE)

    def forget(self, first, last):
        libc.madvise(P(self.at + first * PAGE), SIZE((last - first) * PAGE), 4)
        self.versions[first:last] = [0] * (last - first)

    def resize(self, size):
        old = len(self.versions)
        self.at = libc.mremap(P(self.at), SIZE(old * PAGE), SIZE(size * PAGE), 1)
        self.versions = self.versions[:size] + [0] * (size - old)

    def move(self):
        size = len(self.versions) * PAGE
        place = libc.mmap(P(None), SIZE(size), 0, 0x22, -1, P(0))
        self.at = libc.mremap(P(self.at), SIZE(size), SIZE(size), 3, P(place))

    def unmap(self):
        libc.munmap(P(self.at), SIZE(len(self.versions) * PAGE))


class Worker:
    """One thread's stretches."""

    def __init__(self, name):
        self.name, self.random, self.made = name, random.Random(name), 0
        self.lock, self.steps = threading.Lock(), 0
        self.stretches = []
        while sum(len(s.versions) for s in self.stretches) < PAGES:
            self.make()
        for stretch in self.stretches:
            for number in range(len(stretch.versions)):
                stretch.write(number)

    def make(self):
        self.made += 1
        size = self.random.randint(1, LONGEST)
        self.stretches.append(Stretch(f"{self.name}-{self.made}", size))

    def check(self, when):
        for stretch in self.stretches:
            for number in range(len(stretch.versions)):
                stretch.check(number, when)

    def step(self):
        one = self.random.choice(self.stretches)
        size, chance = len(one.versions), self.random.random()
        first = self.random.randrange(size)
        if chance < 0.80:
            for number in range(first, min(size, first + 4)):
                one.write(number)
        elif chance < 0.86:
            one.forget(first, self.random.randint(first + 1, size))
        elif chance < 0.91:
            one.resize(self.random.randint(1, LONGEST))
        elif chance < 0.95:
            one.move()
        elif chance < 0.997:
            one.unmap()
            self.stretches.remove(one)
            self.make()
        else:
            self.fork()
        self.steps += 1

    def fork(self):
        hear, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            wrong.clear()
            for _ in range(3):
                self.check("in a child")
                for stretch in self.stretches[:20]:
                    stretch.write(0)
                time.sleep(0.03)
            os.write(tell, "; ".join(wrong[:2]).encode())
            os._exit(0)
        os.close(tell)
        threading.Thread(target=self.await_child, args=(pid, hear), daemon=True).start()

    def await_child(self, pid, hear):
        said = os.read(hear, 4000).decode()
        os.close(hear)
        _, status = os.waitpid(pid, 0)
        if said or status:
            wrong.append(f"a child of {self.name} ended with {status}: {said}")

    def work(self):
        while True:
            with self.lock:
                self.step()
            if PAUSE_S:
                time.sleep(PAUSE_S)


def start(name):
    workers = [Worker(f"{name}.{n}") for n in range(2)]
    for worker in workers:
        threading.Thread(target=worker.work, daemon=True).start()
    return workers


def verdict(workers):
    for worker in workers:
        with worker.lock:
            worker.check("when asked")
    return "; ".join(wrong[:3]) or "ok"


def child(name, asked, answer):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    workers = start(name)
    while os.read(asked, 1):
        os.write(answer, verdict(workers).encode().ljust(1000))


def main():
    children = []
    for number in range(3):
        asked, ask = os.pipe()
        hear, answer = os.pipe()
        if os.fork() == 0:
            child(f"child{number}", asked, answer)
            os._exit(0)
        children.append((ask, hear))
    # A file that grows, and one that has no name any more.
    grown = open("/var/tmp/grown", "w+b", buffering=0)  # noqa: S108, SIM115, PTH123
    nameless = open("/tmp/nameless", "w+b", buffering=0)  # noqa: S108, SIM115, PTH123
    os.unlink("/tmp/nameless")  # noqa: S108, PTH108
    workers, count = start("parent"), 0
    with socket.create_server(("0.0.0.0", 8000)) as listener:  # noqa: S104
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                while connection.recv(100).strip() == b"check":
                    count += 1
                    for file in (grown, nameless):
                        file.write(b"%09d\n" % count)
                        file.seek(0)
                        expected = b"".join(b"%09d\n" % n for n in range(1, count + 1))
                        if file.read() != expected:
                            wrong.append(f"{file.name} lost something")
                    said = [verdict(workers)]
                    for ask, hear in children:
                        os.write(ask, b"x")
                        said.append(os.read(hear, 1000).decode().strip())
                    steps = sum(worker.steps for worker in workers)
                    bad = [words for words in said if words != "ok"]
                    connection.sendall(f"{'; '.join(bad) or 'ok'} {count} {steps}\n".encode())


main()
