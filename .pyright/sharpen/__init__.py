"""sharpen: does reinforcement learning teach a language model anything that sharpening its own distribution would not?

``Objective`` is the one objective; ``theory`` solves it exactly, ``toy`` simulates it on tables, ``llm`` trains a
language model on it. Nothing heavy is imported before it is used.

Example:
    >>> import sharpen
    >>> sharpen.Objective(alpha=2).regime
    'tempered'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.objective.lazy import exports

if TYPE_CHECKING:
    from sharpen import llm as llm
    from sharpen import objective as objective
    from sharpen import theory as theory
    from sharpen import toy as toy
    from sharpen.objective import PRESETS as PRESETS
    from sharpen.objective import InputError as InputError
    from sharpen.objective import Objective as Objective
    from sharpen.objective import preset as preset
    from sharpen.objective.version import VERSION as __version__

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would take every misspelt name
    __getattr__, __dir__, _ = exports(
        "sharpen",
        {
            "InputError": "sharpen.objective:InputError",
            "Objective": "sharpen.objective:Objective",
            "PRESETS": "sharpen.objective:PRESETS",
            "__version__": "sharpen.objective.version:VERSION",
            "llm": "sharpen.llm",
            "objective": "sharpen.objective",
            "preset": "sharpen.objective:preset",
            "theory": "sharpen.theory",
            "toy": "sharpen.toy",
        },
    )
__all__ = ["PRESETS", "InputError", "Objective", "__version__", "llm", "objective", "preset", "theory", "toy"]
