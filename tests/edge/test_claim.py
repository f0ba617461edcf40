import pytest

from testbed.edge import claim, images
from testbed.edge.pages import PAGE

MAPS = f"""\
{16 * PAGE:x}-{18 * PAGE:x} r-xp 00000000 fe:00 12 /usr/bin/python3.13
{20 * PAGE:x}-{24 * PAGE:x} ---p 00000000 00:00 0
{30 * PAGE:x}-{31 * PAGE:x} rw-s 00000000 00:01 2 /dev/zero (deleted)
{40 * PAGE:x}-{44 * PAGE:x} r--p 00000000 00:00 0 [vvar]
{44 * PAGE:x}-{46 * PAGE:x} r-xp 00000000 00:00 0 [vdso]
"""


class Criu:
    """Says that the kernel tracks when the byte says so; ``at`` is where it keeps it."""

    def __init__(self, cache, at, has=()):
        self.cache, self.at, self.has = cache, at, has

    def features(self):
        told = self.cache.read_bytes()[self.at] == 1
        known = dict.fromkeys(("lazy_pages", "pidfd_store"), True)
        return {"mem_track": told or "mem_track" in self.has, **known}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "criu.kdat").write_bytes(bytes(range(100, 200)).replace(b"\x84", b"\0"))
    return tmp_path


def test_criu_is_made_to_believe_and_says_so_itself(root):
    assert claim.pretend(Criu(root / claim.CACHE, claim.HAS_DIRTY_TRACK), root) == ""


def test_a_criu_that_keeps_it_elsewhere_is_left_as_it_was(root):
    before = (root / claim.CACHE).read_bytes()
    assert "elsewhere" in claim.pretend(Criu(root / claim.CACHE, 33), root)
    assert (root / claim.CACHE).read_bytes() == before


def test_a_kernel_with_soft_dirty_bits_is_not_lied_about(root):
    criu = Criu(root / claim.CACHE, 32, has=("mem_track",))
    assert "soft-dirty" in claim.pretend(criu, root)


def test_a_criu_without_a_cache_is_no_error(tmp_path):
    class Silent:
        def features(self):
            return {"mem_track": False}

    assert "cannot be written" in claim.pretend(Silent(), tmp_path)


def test_every_private_mapping_is_claimed(tmp_path):
    claim.write(tmp_path / "claim", {1000: MAPS, 1007: MAPS})
    for number, task in enumerate((1000, 1007), 1):
        data = (tmp_path / "claim" / f"pagemap-{task}.img").read_bytes()
        pages_id, ranges = images.read_pagemap(data)
        assert pages_id == number
        assert [(r.start // PAGE, r.pages) for r in ranges] == [(16, 2), (20, 4), (44, 2)]
        assert (tmp_path / "claim" / f"pages-{number}.img").read_bytes() == b""


def test_a_second_move_from_the_same_container_may_claim_again(root):
    criu = Criu(root / claim.CACHE, claim.HAS_DIRTY_TRACK)
    assert claim.pretend(criu, root) == claim.pretend(criu, root) == ""
