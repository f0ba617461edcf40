import os

import pytest

from testbed.edge.preflight import NotMovableError, hold_leases, reasons, require_movable

USUAL = """\
55d0-55d1 r-xp 00000000 fe:00 12 /usr/bin/python3.13
55d2-55d3 rw-p 00000000 00:00 0 [heap]
7f00-7f01 rw-s 00000000 00:01 2 /dev/zero (deleted)
7f10-7f11 r--p 00000000 fe:00 99 /usr/share/hugepages/readme
"""


def task(folder, maps=USUAL, seccomp=0):
    (folder / "7").mkdir()
    (folder / "7" / "maps").write_text(maps)
    (folder / "7" / "status").write_text(f"Name:\tx\nSeccomp:\t{seccomp}\nSeccomp_filters:\t0\n")
    return reasons(7, folder)


def test_an_ordinary_task_can_take_the_fast_path(tmp_path):
    assert task(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("7f20-7f30 rw-s 00000000 00:0f 3 /[aio] (deleted)", "asynchronous"),
        ("7f20-7f30 rw-s 00000000 00:0f 3 anon_inode:[io_uring]", "asynchronous"),
        ("7f20-7f40 rw-p 00000000 00:10 4 /anon_hugepage (deleted)", "huge pages"),
        ("7f20-7f40 rw-p 00000000 00:10 4 /dev/hugepages/mine", "huge pages"),
    ],
)
def test_what_leaves_no_trace_in_page_tables_is_found(tmp_path, line, word):
    (reason,) = task(tmp_path, USUAL.splitlines()[0] + "\n" + line + "\n")
    assert word in reason


@pytest.mark.parametrize("mode", [1, 2])
def test_a_filter_on_system_calls_is_found(tmp_path, mode):
    (reason,) = task(tmp_path, USUAL.splitlines()[0] + "\n", mode)
    assert "seccomp" in reason


class Container:
    """A ``/proc`` with a service's processes; pids inside are 100 less than outside."""

    def __init__(self, folder, *, limits=True):
        self.folder, self.pids = folder, []
        self.process(os.getpid(), 1, extra=f"CapEff:\t{0x1000000 if limits else 0:016x}\n")
        self.pids.clear()
        (folder / "locks").write_text("")

    def process(self, pid, parent, *, name="x", state="S (sleeping)", user=0, extra=""):
        (self.folder / str(pid)).mkdir()
        ids = "\t".join([str(user)] * 4)
        (self.folder / str(pid) / "status").write_text(
            f"Name:\t{name}\nState:\t{state}\nNSpid:\t{pid}\t{pid - 100}\nPPid:\t{parent}\n"
            f"Uid:\t{ids}\nGid:\t{ids}\n{extra}"
        )
        self.pids.append(pid)
        return self

    def look(self, **more):
        return require_movable(1000, self.pids, self.folder, **more)


@pytest.fixture
def service(tmp_path):
    return Container(tmp_path).process(1100, 50).process(1101, 1100).process(1102, 1101)


def test_a_tree_of_processes_can_be_moved_and_its_first_is_told(service):
    assert service.look() == 1100


def test_a_process_that_has_become_a_daemon_is_found_and_named(service):
    service.process(1103, 50, name="daemon").process(1104, 1103)
    with pytest.raises(NotMovableError, match=r"1003 \(daemon\).*1004 \(x\)"):
        service.look()


def test_a_process_that_ends_while_it_is_looked_at_stands_in_nobodys_way(service):
    service.process(1103, 50, state="Z (zombie)")
    service.pids.append(1105)
    assert service.look() == 1100


def test_a_service_whose_first_process_has_ended_is_refused(service):
    service.pids.remove(1100)
    with pytest.raises(NotMovableError, match="1000, has ended"):
        service.look()


def test_a_lease_that_somebody_waits_for_is_found(service):
    others = (
        "1: LEASE  ACTIVE    READ  1101 00:2f:17 0 EOF\n"
        "2: LEASE  BREAKING  READ  77 00:2f:18 0 EOF\n"
    )
    locks = service.folder / "locks"
    locks.write_text(others)
    assert service.look() == 1100
    locks.write_text(f"{others}3: LEASE  BREAKING  READ  1101 00:2f:19 0 EOF\n")
    with pytest.raises(NotMovableError, match="process 1001 holds a file lease"):
        service.look()
    assert service.look(leases=False) == 1100
    assert hold_leases([1101], service.folder)
    assert not hold_leases([1100, 1102], service.folder)


@pytest.mark.parametrize(
    ("limits", "user", "movable"), [(True, 7, True), (False, 0, True), (False, 7, False)]
)
def test_other_users_are_refused_only_where_criu_may_not_look_into_them(
    tmp_path, limits, user, movable
):
    service = Container(tmp_path, limits=limits).process(1100, 50, user=user)
    if movable:
        assert service.look() == 1100
    else:
        with pytest.raises(NotMovableError, match=r"runs as user 7.*CAP_SYS_RESOURCE"):
            service.look()
