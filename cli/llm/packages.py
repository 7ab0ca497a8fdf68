"""Whether what ``sharpen llm`` needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from sharpen.cli.shared.errors import fail

PACKAGES = ("torch", "transformers", "datasets", "safetensors", "math_verify")  # of the extra llm


def missing_packages() -> list[str]:
    """Return which packages of the extra ``llm`` are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def require_packages() -> None:
    """End with one line if the extra ``llm`` is not installed."""
    missing = missing_packages()
    if missing:
        from sharpen.objective.version import install

        fail(f"sharpen llm: {', '.join(missing)} not installed, needed: {install('llm')}")
