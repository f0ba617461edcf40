import io
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from zdtm import QUICK, chosen
from zdtm_programs import Program, left_out, read_program, read_programs
from zdtm_report import (
    COLD,
    FAILED,
    FAST,
    LOST,
    PASSED,
    REFUSED,
    ROLLED_BACK,
    Moved,
    Tried,
    fails,
    json_rows,
    judged,
    left_out_text,
    passes,
    reasons_text,
    table,
    telling,
)

WELL = Moved(PASSED, tracker="write-protect")
SLOWER = Moved(PASSED, tracker="content", notes=("all content is compared: a filter",))


def archive(path, content):
    with tarfile.open(path, "w:xz") as tar:
        for name, text in content.items():
            member = tarfile.TarInfo(f"criu-1.0/test/zdtm/{name}")
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text[3:]
                tar.addfile(member)
            else:
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_description_says_what_a_program_asks_for():
    text = """{'flavor': 'h ns', 'flags': 'suid crfail', 'timeout': '60',
    'opts': '--tcp-established', 'ropts': '--link-remap'}"""
    assert read_program("one", text) == Program(
        "one",
        suid=True,
        timeout_s=60.0,
        dump=("--tcp-established",),
        restore=("--tcp-established", "--link-remap"),
    )


def test_a_program_without_a_description_may_run_as_anybody():
    assert read_program("one", "") == Program("one")


def test_a_description_that_would_have_to_be_computed_is_not_run():
    assert not read_program("one", "os.getenv('DEVICE') and {'flags': 'suid'}").unattended


@pytest.mark.parametrize(
    ("program", "word"),
    [
        (Program("one", machine="s390x"), "architecture"),
        (Program("one", unattended=False), "noauto"),
        (Program("one", hook=True), "hook"),
        (Program("one", notified=True), "notify"),
        (Program("file_locks01"), "inode"),
        (Program("one", restore=("--tcp-close",)), "connections"),
    ],
)
def test_what_cannot_be_tried_is_left_out_with_a_reason(program, word):
    assert word in left_out(program, "x86_64")


def test_what_can_be_tried_is_not_left_out():
    assert left_out(Program("one", machine="x86_64 aarch64", suid=True), "x86_64") == ""


def test_programs_are_read_from_the_source_package_with_what_lies_beside_them(tmp_path):
    path = archive(
        tmp_path / "criu.tar.xz",
        {
            "static/two.c": "int main() {}",
            "static/one.c": "-> two.c",
            "static/one.desc": "{'flags': 'suid'}",
            "static/two.desc": "-> one.desc",
            "static/two.hook": "#!/bin/sh",
            "static/Makefile": "",
            "transition/three.c": "",
            "lib/four.c": "",
        },
    )
    assert read_programs(path) == [
        Program("one", suid=True),
        Program("two", suid=True, hook=True),
    ]


def test_what_lies_beside_the_programs_and_is_none_is_not_taken_for_one(tmp_path):
    path = archive(tmp_path / "criu.tar.xz", {"static/get_smaps_bits.c": "", "static/one.c": ""})
    assert [p.name for p in read_programs(path)] == ["one"]


def test_the_command_line_chooses_programs():
    programs = [Program(name) for name in ("pipe00", "pipe01", "busyloop00", "futex")]
    names = {p.name for p in chosen(programs, quick=False, only=None)}
    assert names == {"pipe00", "pipe01", "busyloop00", "futex"}
    assert [p.name for p in chosen(programs, quick=False, only="pipe")] == ["pipe00", "pipe01"]
    assert [p.name for p in chosen(programs, quick=False, only="pipe00 futex")] == [
        "pipe00",
        "futex",
    ]
    assert {p.name for p in chosen(programs, quick=True, only=None)} == names & QUICK


@pytest.mark.parametrize(
    ("outcome", "verdict", "expected"),
    [
        ("moved", "passed", PASSED),
        ("moved", "failed", FAILED),
        ("moved", "gone", LOST),
        ("moved", "hangs", LOST),
        ("refused", "passed", REFUSED),
        ("refused", "failed", FAILED),
        ("refused", "gone", LOST),
        ("rolled back", "passed", ROLLED_BACK),
        ("rolled back", "failed", FAILED),
        ("rolled back", "hangs", LOST),
    ],
)
def test_every_outcome_and_verdict_has_its_name(outcome, verdict, expected):
    assert judged(outcome, "why", verdict, "said")[0] == expected


def test_a_wrong_outcome_says_what_the_program_said_and_what_the_engine_had_done():
    _, reason = judged("rolled back", "no such page", "failed", "page 7 differs")
    assert "no such page" in reason
    assert "page 7 differs" in reason


def test_only_what_the_kernel_watched_passes_by_the_fast_path():
    assert WELL.by_fast_path
    assert not SLOWER.by_fast_path
    assert not Moved(REFUSED, "why", "write-protect").by_fast_path


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("Error (a.c:1): the cause\nError (b.c:2): Dumping FAILED.", "the cause"),
        ("Error (b.c:2): Restoring FAILED.", "Restoring FAILED."),
        ("no line of CRIU", ""),
        ("", ""),
    ],
)
def test_of_a_log_the_cause_is_told_and_not_that_it_failed(log, expected):
    assert telling(log) == expected


ALL = [
    Tried("left", left_out="a hook"),
    Tried("down", not_up="needs a right"),
    Tried("bad", plain="dump: no", moves={COLD: Moved(ROLLED_BACK, "no"), FAST: Moved(LOST, "x")}),
    *(Tried(f"good{n}", moves={COLD: WELL, FAST: WELL}) for n in range(8)),
    Tried("slower", moves={COLD: WELL, FAST: SLOWER}),
    Tried("refused", moves={COLD: WELL, FAST: Moved(REFUSED, "a device is open")}),
]


def test_programs_are_counted_by_what_plain_criu_does_with_them():
    assert len(passes(ALL)) == 10
    assert [t.name for t in fails(ALL)] == ["bad"]


def test_the_goals_are_judged_by_what_plain_criu_passes_and_nothing_may_be_lost():
    rows = {row["name"].split(", ", 1)[1]: row for row in json_rows(ALL, (COLD, FAST), "4")}
    assert rows["cold: passed of 10 that plain CRIU passes"]["value"] == 10
    assert rows["cold: lost of all 11"]["met"]
    fast = rows["pre-copy: passed by the fast path of 10 that plain CRIU passes"]
    assert (fast["value"], fast["goal"], fast["met"]) == (80.0, 85.0, False)
    good = rows["pre-copy: passed or refused with a reason of 10 that plain CRIU passes"]
    assert (good["value"], good["met"]) == (10, True)
    lost = rows["pre-copy: lost of all 11"]
    assert (lost["value"], lost["met"]) == (1, False)


def test_no_goal_is_met_where_nothing_was_tried():
    assert not any(row["met"] for row in json_rows(ALL[:2], (COLD, FAST), "4"))


def test_the_table_counts_and_the_list_names_whatever_did_not_pass():
    lines = table(ALL, (COLD, FAST)).splitlines()
    assert [line.split()[-6:] for line in lines[2:]] == [
        ["10", "10", "0", "0", "0", "0"],
        ["9", "8", "1", "0", "0", "0"],
        ["0", "0", "0", "1", "0", "0"],
        ["0", "0", "0", "0", "0", "1"],
    ]
    told = reasons_text(ALL)
    for words in ("needs a right", "a device is open", "a filter", "bad: plain CRIU: dump: no"):
        assert words in told
    assert "good0" not in told
    assert left_out_text(ALL).split() == ["1", "a", "hook"]
