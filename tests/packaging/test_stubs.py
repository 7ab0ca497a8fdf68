"""What the type checker is told of other libraries, in `.pyright/stubs/`, is what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

STUBS = Path(__file__).parents[2] / ".pyright" / "stubs"


@pytest.mark.parametrize("library", sorted(path.name for path in STUBS.iterdir()))
def test_a_name_in_a_stub_is_the_librarys(library: str) -> None:
    imported = pytest.importorskip(library)
    found: dict[str, object] = {}
    exec((STUBS / library / "__init__.pyi").read_text(encoding="utf-8"), found)  # it imports, and gives names
    told = {name: value for name, value in found.items() if not name.startswith("__")}
    assert len(told) > 20
    assert [name for name, value in told.items() if value is not getattr(imported, name)] == []
