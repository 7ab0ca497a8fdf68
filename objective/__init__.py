"""The one objective that sharpen's theory, toy and llm backends share.

J(pi) = w_r E[r] + w_p E[s] + w_h H(pi), with s(x) = log p(x) / |x|^w.
"""

from sharpen.objective.config import from_fields, from_yaml, load, to_yaml
from sharpen.objective.errors import InputError, MissingError, SeveralInputsError, one_or_several
from sharpen.objective.functional import Coefficients
from sharpen.objective.presets import PRESETS, preset
from sharpen.objective.spec import MODES, NORMALIZATIONS, Objective

__all__ = [
    "MODES",
    "NORMALIZATIONS",
    "PRESETS",
    "Coefficients",
    "InputError",
    "MissingError",
    "Objective",
    "SeveralInputsError",
    "from_fields",
    "from_yaml",
    "load",
    "one_or_several",
    "preset",
    "to_yaml",
]
