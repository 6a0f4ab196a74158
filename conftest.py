"""Settings of the tests that must stand before NumPy and PyTorch are imported."""

from __future__ import annotations

import os
import sys

# Tests are small and run side by side: threads would only wait for each other.
for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

if "numba" in sys.modules:  # a plugin of pytest was first: numba must hear of the setting before its threads start
    sys.modules["numba"].core.config.reload_config()
