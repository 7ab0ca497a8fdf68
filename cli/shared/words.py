"""An objective in words, as the commands show it in their first lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpen.objective import Objective


def weights(objective: Objective) -> str:
    """Return the objective's regime and its weights with their names.

    Example:
        >>> from sharpen import preset
        >>> weights(preset("tempered"))
        'tempered: weights w_r = 0 (reward), w_p = 2 (log p), w_h = 1 (entropy)'
    """
    w = objective.coefficients
    moving = "" if objective.refresh_every is None else f"; reference {objective.reference}"
    return (
        f"{objective.regime}: weights w_r = {w.w_r:.4g} (reward), w_p = {w.w_p:.4g} (log p), "
        f"w_h = {w.w_h:.4g} (entropy){moving}"
    )
