"""Programs that run once or twice: compiled in a tenth of the time, and slower by a few per cent.

What a program costs before its first number is XLA's compilation, .1 to 2 s, most of it spent on making small loops
fast. That is worth it for updates, which run a million times, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax

# LLVM's level 0, XLA's older code for fused loops, and one module of code instead of one for each of many loops. The
# arithmetic is the same.
LEVEL = "xla_backend_optimization_level"
QUICK: dict[str, Any] = {
    LEVEL: 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def quickly(function: Callable[..., Any], *, busy: bool = False, **given: Any) -> Callable[..., Any]:
    """Return ``jax.jit(function)``, compiled quickly instead of thoroughly.

    Args:
        function: To compile.
        busy: Whether its time counts beside its compilation: LLVM then optimises as it does by default.
        **given: More arguments of ``jax.jit``.
    """
    options = {name: value for name, value in QUICK.items() if not (busy and name == LEVEL)}
    return jax.jit(function, compiler_options=options if _understood() else None, **given)


@lru_cache(maxsize=1)
def _understood() -> bool:
    """Return whether the options have a meaning: on a CPU, with an XLA that has not dropped one of them."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda x: x, compiler_options=QUICK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
