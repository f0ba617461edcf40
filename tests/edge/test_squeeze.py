import os
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.edge import codec, squeeze
from testbed.edge.squeeze import (
    PLAIN,
    SMALLEST_BYTES,
    TRIAL_BYTES,
    WAYS,
    Speed,
    Squeezer,
    choose,
    duration_s,
    expand,
)

SLOW, FAST = 1e4, 5e9
"""So slow that packing pays however busy the processor is."""
HEAP = b"".join(b"object %d of a heap, " % n for n in range(2000))
SPEEDS = {  # as measured on the heap of a Python process
    "lz4": Speed(0.27, 1000e6),
    "zstd-1": Speed(0.16, 600e6),
    "zstd-3": Speed(0.148, 480e6),
    "zstd-6": Speed(0.139, 130e6),
}
PRESENT = codec.available()
every_codec = pytest.mark.parametrize("name", PRESENT)
whole_or_in_turns = pytest.mark.parametrize("side_by_side", [True, False])


# -- codecs


def test_zlib_is_everywhere_and_what_is_not_known_is_refused():
    assert "zlib" in PRESENT
    assert codec.available(["nothing", "zlib"]) == ["zlib"]
    with pytest.raises(ValueError, match="cannot compress by 'nothing'"):
        codec.find("nothing")


@every_codec
@given(data=st.binary(max_size=5000), often=st.integers(1, 300), level=st.sampled_from([1, 3, 6]))
@settings(deadline=None)
def test_what_was_packed_comes_out_as_it_was(name, data, often, level):
    whole = data * often
    packed = codec.find(name).pack(whole, level)
    assert codec.find(name).expand(packed, len(whole)) == whole


@every_codec
@pytest.mark.parametrize(
    "harm",
    [lambda d: d[:-5], lambda d: d[:-3] + bytes(3), lambda d: bytes(9) + d[9:], lambda d: d[:0]],
)
def test_damaged_content_is_refused(name, harm):
    packed = codec.find(name).pack(HEAP, 1)
    with pytest.raises(ValueError, match=r"damaged|in place of"):
        expand({"codec": name, "whole": len(HEAP)}, harm(packed))


@every_codec
@pytest.mark.parametrize("size", [0, 1, len(HEAP) - 1, len(HEAP) + 1])
def test_content_of_another_size_is_refused(name, size):
    packed = codec.find(name).pack(HEAP, 1)
    with pytest.raises(ValueError, match=r"damaged|in place of"):
        expand({"codec": name, "whole": size}, packed)


def test_a_codec_that_the_other_end_lacks_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="brotli"):
        expand({"codec": "brotli", "whole": 3}, b"abc")


# -- which one


@pytest.mark.parametrize(
    ("link", "way"),
    [(2.5e6, "zstd-6"), (12.5e6, "zstd-6"), (40e6, "zstd-3"), (85e6, "zstd-1"), (250e6, "lz4")],
)
def test_the_slower_the_link_the_more_is_spent_on_packing(link, way):
    assert choose(SPEEDS, 1 << 20, link, side_by_side=True) == way


@whole_or_in_turns
def test_a_link_that_is_faster_than_packing_gets_everything_as_it_is(side_by_side):
    assert choose(SPEEDS, 1 << 20, FAST, side_by_side=side_by_side) == PLAIN


@whole_or_in_turns
def test_what_does_not_shrink_is_never_packed(side_by_side):
    speeds = {way: Speed(0.95, speed.bytes_per_s) for way, speed in SPEEDS.items()}
    assert choose(speeds, 1 << 20, 1e3, side_by_side=side_by_side) == PLAIN


def test_in_turns_packing_is_paid_for_and_a_quicker_way_wins():
    assert choose(SPEEDS, 1 << 20, 60e6, side_by_side=True) == "zstd-3"
    assert choose(SPEEDS, 1 << 20, 60e6, side_by_side=False) == "zstd-1"
    assert choose(SPEEDS, 1 << 20, 600e6, side_by_side=True) == "lz4"
    assert choose(SPEEDS, 1 << 20, 600e6, side_by_side=False) == PLAIN


@given(
    st.dictionaries(
        st.sampled_from(list(WAYS)),
        st.builds(Speed, st.floats(0.01, 1.0), st.floats(1e6, 1e10)),
    ),
    st.floats(1e4, 1e10),
    st.booleans(),
)
def test_nothing_that_could_be_chosen_is_clearly_better(speeds, link, side_by_side):
    way = choose(speeds, 1 << 20, link, side_by_side=side_by_side)
    took_s = duration_s(1 << 20, speeds.get(way), link, side_by_side=side_by_side)
    for speed in (None, *(s for s in speeds.values() if s.ratio < squeeze.WORTH)):
        other_s = duration_s(1 << 20, speed, link, side_by_side=side_by_side)
        assert took_s <= other_s / squeeze.WORTH * 1.000001


# -- both together


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(100, 3000))
@settings(deadline=None)
@whole_or_in_turns
def test_whatever_is_sent_arrives_as_it_was(side_by_side, pieces, often):
    parts = [memoryview(piece * often) for piece in pieces]
    whole = b"".join(parts)
    head, sent = Squeezer(PRESENT).squeeze(parts, SLOW, side_by_side=side_by_side)
    assert expand(head, b"".join(sent)) == whole
    assert sum(map(len, sent)) <= len(whole)


@whole_or_in_turns
@pytest.mark.parametrize("codecs", [PRESENT, ["zlib"]])
def test_a_heap_is_made_smaller_on_a_slow_link_only(codecs, side_by_side):
    squeezer = Squeezer(codecs)
    head, sent = squeezer.squeeze([HEAP], SLOW, side_by_side=side_by_side)
    assert head["whole"] == len(HEAP)
    assert sum(map(len, sent)) < len(HEAP) / 3
    head, sent = squeezer.squeeze([HEAP], 1e12, side_by_side=side_by_side)
    assert (head, b"".join(sent)) == ({}, HEAP)


def test_only_what_the_other_end_can_expand_is_used():
    assert Squeezer([]).squeeze([HEAP], SLOW, side_by_side=True) == ({}, [HEAP])
    for name in PRESENT:
        head, _ = Squeezer([name]).squeeze([HEAP], SLOW, side_by_side=True)
        assert head["codec"] == name
    assert Squeezer(["tomorrow's"]).squeeze([HEAP], SLOW, side_by_side=True)[0] == {}


def counted(monkeypatch):
    """Every size that a codec is given to pack, from now on."""
    sizes = []
    for name in PRESENT:
        found = codec.find(name)

        def pack(data, level, found=found):
            sizes.append(len(data))
            return type(found).pack(found, data, level)

        monkeypatch.setattr(found, "pack", pack)
    return sizes


def test_of_what_does_not_shrink_only_a_sample_is_ever_packed(monkeypatch):
    noise = random.Random(3).randbytes(1 << 20)
    sizes = counted(monkeypatch)
    squeezer = Squeezer(PRESENT)
    for _ in range(10):
        assert squeezer.squeeze([noise], SLOW, side_by_side=True) == ({}, [noise])
    assert len(sizes) == 10
    assert max(sizes) <= len(noise) / 32


def test_a_batch_is_packed_as_a_whole_once_at_most(monkeypatch):
    sizes = counted(monkeypatch)
    squeezer, batch = Squeezer(PRESENT), HEAP * 40
    for number in range(100):
        squeezer.squeeze([batch], SLOW if number % 2 else 60e6, side_by_side=bool(number % 3))
    assert sum(size > TRIAL_BYTES for size in sizes) <= 100
    trials = [size for size in sizes if size == TRIAL_BYTES]
    assert len(trials) < 10 * len(WAYS)


def test_content_that_changes_from_batch_to_batch_does_not_mislead():
    """What shrinks well after much that did not is still expected to shrink well."""
    squeezer, noise = Squeezer(PRESENT), os.urandom(len(HEAP) // 2)
    for _ in range(20):
        squeezer.squeeze([noise, HEAP[: len(noise)]], SLOW, side_by_side=True)
    head, sent = squeezer.squeeze([HEAP], SLOW, side_by_side=True)
    assert head
    assert len(sent[0]) < len(HEAP) / 3


def test_little_goes_as_it_is():
    small = HEAP[: SMALLEST_BYTES - 1]
    assert Squeezer(PRESENT).squeeze([small], SLOW, side_by_side=True) == ({}, [small])


def test_the_account_says_what_was_packed_how_and_starts_anew():
    squeezer = Squeezer(["zlib"])
    squeezer.squeeze([HEAP * 30], SLOW, side_by_side=True)
    squeezer.squeeze([os.urandom(2_000_000)], SLOW, side_by_side=True)
    said = squeezer.account()
    share = len(zlib.compress(HEAP * 30, 1)) / len(HEAP * 30)
    assert said == f"2.0 MB plain, {30 * len(HEAP) / 1e6:.1f} MB by zlib-1 to {share:.0%}"
    assert squeezer.account() == ""
