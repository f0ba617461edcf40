"""A service with state that is seldom thought of when processes are moved. Runs in a container.

``check\n`` on port 8000 is answered with ``ok COUNT`` or with what was wrong. Other words change
what there is: ``sysv`` makes System V objects, ``daemon`` starts a process that leaves the tree,
``bury`` ends it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import time

PAGE = os.sysconf("SC_PAGESIZE")
GUARD_INSTALL, EINVAL = 102, 22
IPC_SET = 0o1600
GETVAL, SETVAL = 12, 16
NAMELESS_BYTES = 3 << 20
P, SIZE = ctypes.c_void_p, ctypes.c_size_t
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.shmat.restype = P


class Guarded:
    """Four pages with content, one of them out of bounds where the kernel can have that."""

    def __init__(self):
        self.at = libc.mmap(P(None), SIZE(4 * PAGE), 3, 0x22, -1, P(0))
        ctypes.memset(self.at, 7, 4 * PAGE)
        done = libc.madvise(P(self.at + PAGE), SIZE(PAGE), GUARD_INSTALL)
        assert done == 0 or ctypes.get_errno() == EINVAL
        self.readable = [True, done != 0, True, True]

    def wrong(self):
        read, write = os.pipe()
        # The kernel finds out what may be read, and does not end this process.
        now = [libc.write(write, P(self.at + n * PAGE), SIZE(8)) == 8 for n in range(4)]
        if now != self.readable:
            yield f"pages can be read: {now}, not {self.readable}"
        if os.read(read, 99) != b"\7" * 8 * sum(self.readable):
            yield "a page beside the one out of bounds has changed"
        os.close(read)
        os.close(write)


class Trap:
    """A handler of the signal by which a debugger steps."""

    def __init__(self):
        self.heard, self.sent = 0, 0
        signal.signal(signal.SIGTRAP, self.hear)

    def hear(self, *_):
        self.heard += 1

    def wrong(self):
        os.kill(os.getpid(), signal.SIGTRAP)
        self.sent += 1
        deadline = time.monotonic() + 10
        while self.heard < self.sent and time.monotonic() < deadline:
            time.sleep(0.001)
        if self.heard != self.sent:
            yield f"heard {self.heard} of {self.sent} signals"


class Nameless:
    """A large file that is open and was deleted."""

    def __init__(self):
        self.content = os.urandom(NAMELESS_BYTES)
        self.file = open("/tmp/large", "w+b", buffering=0)  # noqa: S108, SIM115, PTH123
        self.file.write(self.content)
        os.unlink("/tmp/large")  # noqa: S108, PTH108

    def wrong(self):
        if os.pread(self.file.fileno(), 2 * NAMELESS_BYTES, 0) != self.content:
            yield "the deleted file is another one"


class SystemV:
    """A message that waits in a queue, a semaphore, and a shared segment: each holds a number."""

    def __init__(self):
        self.number = 0
        self.queue = libc.msgget(0, IPC_SET)
        self.semaphore = libc.semget(0, 1, IPC_SET)
        self.segment = libc.shmget(0, SIZE(PAGE), IPC_SET)
        self.shared = ctypes.c_uint64.from_address(libc.shmat(self.segment, P(None), 0))
        assert min(self.queue, self.semaphore, self.segment) >= 0
        self.put()

    def put(self):
        self.number += 1
        message = (ctypes.c_long * 2)(1, self.number)
        assert libc.msgsnd(self.queue, message, SIZE(8), 0) == 0
        assert libc.semctl(self.semaphore, 0, SETVAL, self.number) == 0
        self.shared.value = self.number

    def wrong(self):
        message = (ctypes.c_long * 2)()
        libc.msgrcv(self.queue, message, SIZE(8), ctypes.c_long(0), 0o4000)
        semaphore = libc.semctl(self.semaphore, 0, GETVAL)
        found = [message[1], semaphore, self.shared.value]
        if found != [self.number] * 3:
            yield f"queue, semaphore, segment: {found}, not {self.number}"
        self.put()


class Service:
    """What there is, and what may be asked of it."""

    def __init__(self):
        self.state, self.count, self.stray = [Guarded(), Trap(), Nameless()], 0, 0

    def check(self):
        self.count += 1
        found = [words for thing in self.state for words in thing.wrong()]
        return f"{'; '.join(found) or 'ok'} {self.count}"

    def sysv(self):
        self.state.append(SystemV())
        return "ok"

    def daemon(self):
        hear, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(tell, str(os.getpid()).encode())
                signal.pause()
            os._exit(0)
        os.waitpid(child, 0)
        self.stray = int(os.read(hear, 20))
        os.close(hear)
        os.close(tell)
        return "ok"

    def bury(self):
        os.kill(self.stray, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(self.stray, 0)  # until the container's init has reaped it
                time.sleep(0.01)
        return "ok"


def main():
    service = Service()
    with socket.create_server(("0.0.0.0", 8000)) as listener:  # noqa: S104
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                while word := connection.recv(100).strip().decode():
                    said = {"check": service.check, "sysv": service.sysv,
                            "daemon": service.daemon, "bury": service.bury}[word]()  # fmt: skip
                    connection.sendall(f"{said}\n".encode())


main()
