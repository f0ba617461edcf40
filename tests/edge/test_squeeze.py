import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge.squeeze import FAST_LINK_BYTES_PER_S, SMALLEST_BYTES, expand, squeeze

SLOW = FAST_LINK_BYTES_PER_S / 10
HEAP = b"".join(b"object %d of a heap, " % n for n in range(2000))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(400, 3000))
def test_what_was_made_smaller_comes_out_as_it_was(pieces, often):
    parts = [piece * often for piece in pieces]
    whole = b"".join(parts)
    packed = squeeze(parts, SLOW)
    assert packed is None or (len(packed) < len(whole) and expand(packed, len(whole)) == whole)


def test_a_heap_is_made_smaller_on_a_slow_link_only():
    assert len(squeeze([HEAP], SLOW)) < len(HEAP) / 3
    assert squeeze([HEAP], 2 * FAST_LINK_BYTES_PER_S) is None
    assert squeeze([HEAP], math.inf) is None


def test_random_and_small_content_goes_as_it_is():
    assert squeeze([os.urandom(1 << 20)], SLOW) is None
    assert squeeze([HEAP[: SMALLEST_BYTES - 1]], SLOW) is None


@pytest.mark.parametrize("harm", [lambda d: d[:-5], lambda d: bytes(9) + d[9:]])
def test_damaged_content_is_refused(harm):
    packed = squeeze([HEAP], SLOW)
    with pytest.raises(ValueError, match=r"damaged|in place of"):
        expand(harm(packed), len(HEAP))
    with pytest.raises(ValueError, match="in place of"):
        expand(packed, len(HEAP) + 1)
