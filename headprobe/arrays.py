"""The array types of annotations: one name for each dtype, for every part of the package.

It is a module of its own because ``vocabulary`` is imported without numpy, for a quick start.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
