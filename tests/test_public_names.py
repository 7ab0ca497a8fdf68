"""The public names: one list, so that an accidental change is seen; each resolves and is documented.

After a change that is meant: ``python tests/test_public_names.py`` writes ``tests/public_names.txt`` again.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("public_names.txt")
PACKAGES = ("sharpen", "sharpen.objective", "sharpen.theory", "sharpen.toy", "sharpen.llm")


def exported() -> list[str]:
    """Return every public name in full, package by package."""
    found = {package: getattr(importlib.import_module(package), "__all__", ()) for package in PACKAGES}
    return [f"{package}.{name}" for package, names in found.items() for name in sorted(names)]


def test_the_public_names_are_those_of_the_list() -> None:
    assert exported() == LIST.read_text().splitlines(), "if meant: python tests/test_public_names.py"


@pytest.mark.parametrize("full", exported())
def test_a_public_name_resolves_and_is_documented(full: str) -> None:
    package, _, name = full.rpartition(".")
    module = importlib.import_module(package)
    found = getattr(module, name)
    assert name in dir(module)
    if inspect.ismodule(found) or inspect.isclass(found) or inspect.isroutine(found):
        assert (found.__doc__ or "").strip(), f"{full} has no docstring"


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in exported()))
