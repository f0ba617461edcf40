import contextlib
import io
import re

import pytest

from testbed.experiment.progress import Steps


class Terminal(io.StringIO):
    def isatty(self):
        return True


anywhere = pytest.mark.parametrize("kind", [io.StringIO, Terminal], ids=["a file", "a terminal"])


@contextlib.contextmanager
def shown_on(kind):
    """A stream in the place of standard error (not a fixture: pytest changes it back for tests)."""
    with contextlib.redirect_stderr(kind()) as stream:
        yield stream


def lines(stream):
    """Plain lines, without the bar and its control characters."""
    return [
        line.rstrip()
        for line in re.split(r"[\n\r]", re.sub(r"\x1b\[[A-Z]", "", stream.getvalue()))
        if re.match(r"\[ *\d+\.\d s\] ", line)
    ]


@anywhere
def test_every_step_leaves_a_plain_line_with_the_time(kind):
    with shown_on(kind) as stream, Steps(2) as steps:
        steps.next("first")
        steps.next("second")
    assert [line.split("] ")[1] for line in lines(stream)] == ["first", "second"]


@anywhere
def test_quiet_is_quiet(kind):
    with shown_on(kind) as stream, Steps(2, quiet=True) as steps:
        steps.next("first")
        steps.detail("of it")
        steps.say("news")
    assert stream.getvalue() == ""


def test_in_a_file_there_is_no_bar_and_no_detail():
    with shown_on(io.StringIO) as stream, Steps(2) as steps:
        steps.next("first")
        steps.detail("half of it")
    assert len(stream.getvalue().splitlines()) == len(lines(stream)) == 1
    assert "half" not in stream.getvalue()


def test_the_bar_counts_steps_that_are_done():
    with shown_on(Terminal), Steps(3) as steps:
        steps.next("first")
        steps.say("something in between")
        assert steps._bar.n == 0
        steps.next("second")
        assert steps._bar.n == 1


@pytest.mark.parametrize(("error", "done"), [(None, [1]), (ZeroDivisionError, [])])
def test_the_last_step_is_done_where_the_block_ends_well(monkeypatch, error, done):
    counted = []
    steps = Steps(1)
    monkeypatch.setattr(steps._bar, "update", counted.append)
    with contextlib.suppress(ZeroDivisionError), steps:
        steps.next("first")
        if error:
            raise error
    assert counted == done


def test_on_a_terminal_details_stand_beside_the_bar_and_are_kept_short():
    with shown_on(Terminal) as stream, Steps(1) as steps:
        steps.next("first")
        steps.detail("x" * 500)
        assert steps._bar.postfix == "x" * 60
    assert "x" * 60 in stream.getvalue()
    assert "x" * 61 not in stream.getvalue()
