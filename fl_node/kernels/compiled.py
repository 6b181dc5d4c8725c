"""How the kernels are compiled, and what several of them need."""

import numpy as np
from numba import njit

MAGNITUDE = np.int32(0x7FFFFFFF)  # the bits of a float32 but for the sign are ordered as the magnitudes are
LIMB = np.int64(0xFFFFFFFF)

compiled = njit(cache=True, nogil=True)
inlined = njit(cache=True, nogil=True, inline="always")
