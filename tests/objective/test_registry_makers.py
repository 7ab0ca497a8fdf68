from __future__ import annotations

import sys
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
