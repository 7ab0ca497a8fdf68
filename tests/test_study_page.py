"""The tables of the study on a real model are those of its committed report."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[1] / "docs" / "site" / "real_study.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_study", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_say_what_the_report_says(writer: ModuleType) -> None:
    for page in writer.PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- table: ") >= 1
        assert writer.filled(text) == text, f"python {FILE.name} writes {page.name} again"


def test_a_page_of_other_numbers_would_be_noticed(writer: ModuleType) -> None:
    text = writer.PAGES[0].read_text(encoding="utf-8")
    changed = text.replace("| base | 0.36", "| base | 0.63", 1)
    assert changed != text
    assert writer.filled(changed) == text
