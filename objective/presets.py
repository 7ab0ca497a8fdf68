"""The paper's four regimes by name."""

from __future__ import annotations

from sharpen.objective.errors import InputError
from sharpen.objective.spec import Objective

PRESETS: dict[str, Objective] = {
    "task-reward": Objective(alpha=0.0, beta_inv=1.0, mode="optimization"),
    "sharpening": Objective(alpha=1.0, beta_inv=0.0, mode="optimization"),
    "tempered": Objective(alpha=2.0, beta_inv=0.0, mode="sampling"),
    "tilted": Objective(alpha=1.0, beta_inv=10.0, mode="sampling"),
}


def preset(name: str, /, **changes: object) -> Objective:
    """Return the preset ``name`` with some fields replaced.

    Raises:
        InputError: no preset has that name.
        pydantic.ValidationError: a replaced field is out of range.

    Example:
        >>> preset("tempered", alpha=4).alpha
        4.0
    """
    if name not in PRESETS:
        raise InputError("preset", name, ", ".join(PRESETS))
    return Objective.model_validate({**PRESETS[name].to_dict(), **changes})
