"""A line of cells under regions, as small as a map can be."""

import numpy as np
import pytest

from testbed.roads.cells import Cells
from testbed.roads.tiers import Tiers

CELLS, PER_REGION = 12, 4


@pytest.fixture(scope="session")
def tiers():
    """cell-00 to cell-11, four to a region; one cloud."""
    names = tuple(f"cell-{n:02d}" for n in range(CELLS))
    zeros = np.zeros(CELLS)
    cells = Cells(names, np.arange(CELLS) * 500.0, zeros, zeros, zeros, 500.0)
    regions = tuple(f"region-{n}" for n in range(CELLS // PER_REGION))
    nowhere = np.zeros(len(regions))
    return Tiers(cells, regions, np.arange(CELLS) // PER_REGION, nowhere, nowhere)
