"""Names for the kinds of array the road modules pass around."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Texts: TypeAlias = NDArray[np.str_]
Bools: TypeAlias = NDArray[np.bool_]
