import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from testbed import units
from testbed.errors import UnitError
from testbed.units import (
    DURATION_S,
    LENGTH_M,
    RATE_BPS,
    SHARE,
    SIZE_BYTES,
    parse_quantity,
)

KINDS = {
    "duration": DURATION_S,
    "rate": RATE_BPS,
    "length": LENGTH_M,
    "size": SIZE_BYTES,
    "share": SHARE,
}
EVERY = [(kind, unit) for kind, known in KINDS.items() for unit in known]
numbers = st.floats(min_value=0, max_value=1e12, allow_nan=False)
gaps = st.sampled_from(["", " ", "  ", "\t"])


class Words(BaseModel):
    duration: units.Duration = 0.0
    rate: units.Rate = 1.0
    length: units.Length = 1.0
    size: units.Size = 0.0
    share: units.Share = 0.0


@given(kind_and_unit=st.sampled_from(EVERY), number=numbers, gap=gaps, around=gaps)
def test_what_was_written_with_a_unit_comes_back_from_it(kind_and_unit, number, gap, around):
    kind, unit = kind_and_unit
    read = parse_quantity(f"{around}{number!r}{gap}{unit}{around}", KINDS[kind], kind)
    assert math.isclose(read / KINDS[kind][unit], number, rel_tol=1e-12, abs_tol=1e-300)


@given(
    kind_and_unit=st.sampled_from(EVERY),
    small=st.integers(0, 10**9),
    more=st.integers(1, 10**9),
)
def test_more_of_a_unit_is_more(kind_and_unit, small, more):
    kind, unit = kind_and_unit
    read = [parse_quantity(f"{n} {unit}", KINDS[kind], kind) for n in (small, small + more)]
    assert read[0] < read[1]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("20 ms", "duration", 0.02),
        ("250us", "duration", 250e-6),
        ("250 µs", "duration", 250e-6),
        ("2 min", "duration", 120.0),
        ("100 Mbit/s", "rate", 100e6),
        ("1.5 km", "length", 1500.0),
        ("300 MB", "size", 300e6),
        ("256 KiB", "size", 262144.0),
        ("1 %", "share", 0.01),
        ("1e3 ms", "duration", 1.0),
        (0, "duration", 0.0),
        ("0", "rate", 0.0),
        ("-3 m", "length", -3.0),
    ],
)
def test_words_become_si(text, kind, value):
    assert parse_quantity(text, KINDS[kind], kind) == pytest.approx(value)


@pytest.mark.parametrize(("kind", "unit"), EVERY)
def test_a_number_without_a_unit_is_refused_with_the_units_there_are(kind, unit):
    with pytest.raises(UnitError, match="has no unit") as refused:
        parse_quantity(20, KINDS[kind], kind)
    assert unit in str(refused.value)


@given(
    mine=st.sampled_from(EVERY), kind=st.sampled_from(sorted(KINDS)), number=st.integers(0, 10**6)
)
def test_a_unit_of_another_kind_is_refused(mine, kind, number):
    _, unit = mine
    if unit in KINDS[kind]:
        return
    with pytest.raises(UnitError, match=f"not a unit of {kind}"):
        parse_quantity(f"{number} {unit}", KINDS[kind], kind)


@pytest.mark.parametrize("value", ["", "fast", "ms", "ms 20", None, True, [20], {}])
def test_what_is_no_quantity_is_refused(value):
    with pytest.raises(UnitError, match="is not a duration"):
        parse_quantity(value, DURATION_S, "duration")


@pytest.mark.parametrize(("text", "rest"), [("2O ms", "'O ms'"), ("1,5 s", "',5 s'")])
def test_a_slip_of_the_pen_is_shown_as_it_was_read(text, rest):
    with pytest.raises(UnitError, match="is not a unit of duration") as refused:
        parse_quantity(text, DURATION_S, "duration")
    assert str(refused.value).startswith(rest)


@pytest.mark.parametrize("text", ["20 MS", "20 Ms", "20 mbit/s", "20 M"])
def test_the_case_of_a_unit_counts(text):
    with pytest.raises(UnitError):
        parse_quantity(text, DURATION_S | RATE_BPS | LENGTH_M, "quantity")


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": "-1 ms"},
        {"rate": "0 bit/s"},
        {"rate": "-1 bit/s"},
        {"length": "0 m"},
        {"size": "-1 B"},
        {"share": "101 %"},
        {"share": -0.1},
        {"share": 1.5},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError):
        Words.model_validate(wrong)


def test_a_share_may_be_written_as_a_number():
    assert Words(share=0.25) == Words(share="25 %")


@given(duration=numbers, rate=numbers.filter(bool), share=st.floats(0, 1))
def test_a_model_that_was_read_can_be_written_and_read_again(duration, rate, share):
    read = Words(duration=f"{duration!r} ms", rate=f"{rate!r} kbit/s", share=share)
    assert Words.model_validate(read.model_dump()) == read
