"""The one objective that sharpen's theory, toy and llm backends share.

J(pi) = w_r E[r] + w_p E[s] + w_h H(pi), with s(x) = log p(x) / |x|^w.
"""

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.objective.config import from_fields, from_yaml, load, to_yaml
    from sharpen.objective.errors import InputError, MissingError, SeveralInputsError, one_or_several
    from sharpen.objective.functional import Coefficients
    from sharpen.objective.presets import PRESETS, preset
    from sharpen.objective.spec import MODES, NORMALIZATIONS, Objective

__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        "MODES": "sharpen.objective.spec:MODES",
        "NORMALIZATIONS": "sharpen.objective.spec:NORMALIZATIONS",
        "PRESETS": "sharpen.objective.presets:PRESETS",
        "Coefficients": "sharpen.objective.functional:Coefficients",
        "InputError": "sharpen.objective.errors:InputError",
        "MissingError": "sharpen.objective.errors:MissingError",
        "Objective": "sharpen.objective.spec:Objective",
        "SeveralInputsError": "sharpen.objective.errors:SeveralInputsError",
        "from_fields": "sharpen.objective.config:from_fields",
        "from_yaml": "sharpen.objective.config:from_yaml",
        "load": "sharpen.objective.config:load",
        "one_or_several": "sharpen.objective.errors:one_or_several",
        "preset": "sharpen.objective.presets:preset",
        "to_yaml": "sharpen.objective.config:to_yaml",
    },
)
__all__ = [  # the same names, where a type checker reads them
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
