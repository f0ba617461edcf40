import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge.complaints import KNOWN, LOG_LINES, explain, understand

LOGS: dict[str, list[str]] = {}
for known_line in Path(__file__).with_name("criu_complaints.txt").read_text().splitlines():
    if known_line and not known_line.startswith("#"):
        kind, _, said = known_line.partition(": ")
        LOGS.setdefault(kind, []).append(said)
AFTERMATH = """\
(00.008060) Error (criu/cr-dump.c:1675): Dump files (pid: 1000) failed with -1
(00.008402) Error (criu/cr-dump.c:2128): Dumping FAILED."""
HARMLESS = "(00.000111) Error (criu/cr-service.c:1): rlimit: Can't setup RLIMIT_NOFILE for self"
lines = [(name, line) for name, found in LOGS.items() for line in found]


@pytest.mark.parametrize(("name", "line"), lines)
def test_every_known_line_is_understood_with_cause_and_remedy(name, line):
    log = f"{HARMLESS}\n{line}\n{AFTERMATH}\n"
    known, found = understand(log)
    assert (known.name, found) == (name, line)
    message, shown = explain("dump", RuntimeError("errno 0"), log)
    assert message.startswith("CRIU could not dump: ")
    assert ". Remedy: " in message
    assert not re.search(r"[{}]|errno", message)
    assert line in shown
    assert "Dumping FAILED" in shown
    assert "RLIMIT" not in shown


def test_every_kind_of_complaint_has_a_line():
    assert {complaint.name for complaint in KNOWN} == set(LOGS)
    assert len(KNOWN) == len(LOGS)


def test_a_device_is_named():
    message, _ = explain("dump", RuntimeError(), LOGS["open device"][-1])
    assert "graphics device 226:0, descriptor 12" in message


def test_a_missing_file_is_named():
    message, _ = explain("restore", RuntimeError(), LOGS["missing file"][0])
    assert "usr/bin/python3.13, which is not in the container" in message


def test_the_first_known_line_counts_for_the_later_ones_follow_from_it():
    log = "\n".join([LOGS["no space"][0], LOGS["damaged image"][0]])
    assert understand(log)[0].name == "no space"


def test_an_unknown_complaint_is_passed_on_with_its_last_line():
    log = "(1) Error (a.c:1): first\n(2) something\n(3) Error (a.c:2): out of cheese\n"
    message, shown = explain("dump", RuntimeError("errno 5"), log)
    assert message == "CRIU could not dump: (3) Error (a.c:2): out of cheese"
    assert shown == "(1) Error (a.c:1): first\n(3) Error (a.c:2): out of cheese"


def test_without_errors_the_warnings_are_shown_and_without_both_the_answer():
    assert explain("dump", RuntimeError(), "Warn  (x): hm")[0].endswith("Warn  (x): hm")
    said, log = explain("restore", RuntimeError("errno 5"), "(1) all is well\n")
    assert (said, log) == ("CRIU could not restore: errno 5, and its log is silent", "")


@given(st.integers(0, 40), st.sampled_from(lines))
def test_what_explains_it_is_shown_however_much_follows(after, known):
    noise = "\n".join(f"Error (x.c:{n}): it followed" for n in range(after))
    _, shown = explain("dump", RuntimeError(), f"{known[1]}\n{noise}")
    assert known[1] in shown
    assert len(shown.splitlines()) <= LOG_LINES
