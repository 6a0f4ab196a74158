"""The number of steps of a sampler as an option of ``predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pertcast._numbers import check_whole
from pertcast.data._prediction import refuse_options

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StepsMixin"]


class StepsMixin:
    """Gives a model ``predict(n_steps=...)``; by default the steps are those of its hyper-parameters."""

    if TYPE_CHECKING:
        config: Any

    def _options(self, n_steps: int | None, guidance_scale: float | None) -> dict[str, Any]:
        refuse_options(type(self).__name__, guidance_scale=guidance_scale)
        return {"steps": self.config.n_steps if n_steps is None else check_whole("n_steps", n_steps)}

    def _sampling(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"n_steps": options["steps"]}
