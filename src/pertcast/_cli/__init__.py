"""The command line: ``pertcast demo`` and ``pertcast benchmark``."""

from __future__ import annotations

from pertcast._cli._main import main

__all__ = ["main"]
