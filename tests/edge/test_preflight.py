import pytest

from testbed.edge.preflight import reasons

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
