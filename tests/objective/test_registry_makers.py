"""Parts that a registry does not name one by one: those that a function makes, and those that packages declare."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sharpen.objective import InputError
from sharpen.objective.registry import Registry


def greet(rest: str) -> object:
    if not rest.isalpha():
        raise InputError("greeting", f"hello:{rest}", "a name of letters")
    return lambda: f"hello {rest}"


def test_a_prefix_makes_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("greeting_maker")
    module.greet = greet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    greetings = Registry("greeting")
    greetings.register_maker("hello", "greeting_maker:greet")
    part = greetings.get("hello:you")
    assert part() == "hello you"
    assert greetings.get("hello:you") is part
    assert greetings.name_of(part) == "hello:you"
    with pytest.raises(InputError, match="a name of letters"):
        greetings.get("hello:3")
    with pytest.raises(InputError, match=r"allowed: hello:NAME, or module:object"):
        greetings.get("hi")
    with pytest.raises(InputError, match=r"allowed: .*hello:NAME"):
        greetings.get("hello")


def test_prefixes_are_checked_and_other_modules_stay_open() -> None:
    greetings = Registry("greeting")
    greetings.register_maker("hello", "greeting_maker:greet")
    for prefix in ("hello", "", "a:b"):
        with pytest.raises(ValueError, match="a prefix without a colon"):
            greetings.register_maker(prefix, "x:y")
    assert greetings.get("math:gcd")(6, 4) == 2


def test_what_is_installed_meanwhile_is_found_and_what_is_gone_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What packages declare is read again once a folder of ``sys.path`` has changed."""
    monkeypatch.syspath_prepend(tmp_path)
    os.utime(tmp_path, (1e9, 1e9))  # else the change may come within one tick of the file system's clock
    greetings = Registry("greeting")
    assert greetings.names() == []
    installed = tmp_path / "greetings-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[sharpen.greetings]\ngcd = math:gcd\n")
    assert greetings.names() == ["gcd"]
    assert greetings.get("gcd")(6, 4) == 2
    os.utime(tmp_path, (2e9, 2e9))
    shutil.rmtree(installed)
    assert greetings.names() == []
