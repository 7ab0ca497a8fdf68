"""Public names that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return a package's ``__getattr__``, ``__dir__`` and ``__all__``: a name's module is imported on its first use.

    Args:
        package: The package's ``__name__``.
        names: Public name to ``module:attribute``, or to ``module`` alone where the module itself is meant.

    Example:
        >>> __getattr__, __dir__, __all__ = exports("math", {"root": "math:sqrt"})
        >>> __all__, __getattr__("root")(9.0)
        (['root'], 3.0)
    """
    public = sorted(names)

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(public)}")
        module, _, attribute = names[name].partition(":")
        found: Any = importlib.import_module(module)
        found = getattr(found, attribute) if attribute else found
        setattr(sys.modules[package], name, found)  # asked for once
        return found

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *public})

    return get, listed, public
