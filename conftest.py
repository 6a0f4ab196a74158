"""Settings of the tests that must stand before NumPy and PyTorch are imported."""

from __future__ import annotations

import os

# Tests are small and run side by side: threads would only wait for each other.
for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
