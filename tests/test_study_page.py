"""The tables of the pages on studies, the dial and learners are those of what is committed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SITE = Path(__file__).resolve().parents[1] / "docs" / "site"
CHANGES = {
    "real_study": ("| base | 0.36", "| base | 0.63"),
    "first_study": ("| `unstable` |", "| `stable` |"),
    "dial": ("| 0.99", "| 0.98"),
    "dial_study": ("| `dial-1` | 0.41", "| `dial-1` | 0.51"),
    "stability": ("| antonyms | 3", "| antonyms | 4"),
    "learners": ("| P;", "| Q;"),
    "votes": ("| `letters` | 2 → 4 | 64 | 10", "| `letters` | 2 → 4 | 64 | 11"),
    "cost": ("| policy at a KL | outcomes | 100: ", "| policy at a KL | outcomes | 100: 1"),
}


@pytest.fixture(params=CHANGES)
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SITE))  # where they have what they share
    spec = importlib.util.spec_from_file_location(request.param, SITE / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(text: str, writer: ModuleType) -> str:
    from pages import filled  # pyright: ignore[reportMissingImports]

    return filled(text, writer.TABLES)


def test_the_pages_say_what_is_committed(writer: ModuleType) -> None:
    for page in writer.PAGES:
        text = page.read_text(encoding="utf-8")
        assert any(f"<!-- table: {name} -->" in text for name in writer.TABLES)
        assert filled(text, writer) == text, f"python docs/site/{writer.__name__}.py writes {page.name} again"


def test_a_page_of_other_numbers_would_be_noticed(writer: ModuleType) -> None:
    text = writer.PAGES[0].read_text(encoding="utf-8")
    changed = text.replace(*CHANGES[writer.__name__], 1)
    assert changed != text
    assert filled(changed, writer) == text
