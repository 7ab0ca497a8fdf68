"""Benchmarks name the fastest opponent that they know, by a call that there is; how cost grows is fitted rightly."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("theory", "toy")
CALL = re.compile(r"\b(numpy|scipy|torch)((?:\.[a-z_]+)*\.[a-z_]\w*)")


def works(file: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{file}.json").read_text(encoding="utf-8"))["works"]


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(work: dict[str, Any]) -> list[str]:
    """Return what is wrong with the opponents of a work: at each size the named one is the fastest known one."""
    wrong = []
    for row in work["rows"]:
        known = row["opponents"]
        if known and (row["opponent"] not in known or known[row["opponent"]] > min(known.values())):
            wrong.append(f"{row['size']}: {row.get('opponent')} is not the fastest of {sorted(known)}")
        if known and not math.isclose(row["ratio"], row["seconds"] / min(known.values()), rel_tol=1e-9):
            wrong.append(f"{row['size']}: ratio {row['ratio']}")
    return wrong


@pytest.mark.parametrize("file", FILES)
def test_no_opponent_is_slower_than_another_known_one(file: str) -> None:
    for name, work in works(file).items():
        assert refused(work) == [], name
        assert len(work["rows"]) == 5
        assert len({frozenset(row["opponents"]) for row in work["rows"]}) == 1


def test_a_slower_opponent_would_be_refused() -> None:
    work = next(work for work in works("theory").values() if len(work["rows"][-1]["opponents"]) > 1)
    row = work["rows"][-1]
    slowest = max(row["opponents"], key=row["opponents"].__getitem__)
    work["rows"][-1] = row | {"opponent": slowest, "ratio": row["seconds"] / row["opponents"][slowest]}
    assert len(refused(work)) == 2


@pytest.mark.parametrize("file", FILES)
def test_opponents_have_the_names_of_calls_that_there_are(file: str) -> None:
    for work in works(file).values():
        for opponent in work["rows"][-1]["opponents"]:
            assert opponent.startswith(("numpy", "scipy", "torch"))
            for library, rest in CALL.findall(opponent):
                if library == "torch" and importlib.util.find_spec("torch") is None:
                    continue
                module, _, name = f"{library}{rest}".rpartition(".")
                assert hasattr(importlib.import_module(module), name), opponent


@pytest.mark.parametrize("file", FILES)
def test_exponents_are_those_of_the_rows(file: str) -> None:
    for name, work in works(file).items():
        for field, of in (("time_exponent", "seconds"), ("memory_exponent", "peak_bytes")):
            if of not in work["rows"][0]:
                continue
            size, cost = np.log([[row["size"], row[of]] for row in work["rows"][-3:]]).T
            assert work[field] == pytest.approx(np.polyfit(size, cost, 1)[0], rel=1e-9), name


def test_what_the_clock_and_the_memory_say() -> None:
    helper = loaded(ROOT / "benchmarks" / "sidebyside.py")
    done: list[str] = []
    found = helper.seconds({"a": lambda: done.append("a"), "b": lambda: sum(range(200_000))}, rounds=1)
    assert 0.0 < found["a"] < found["b"]
    assert helper.peak_bytes(lambda: np.ones(10**6)) == pytest.approx(8e6, rel=0.01)
    row = helper.row(3, lambda: None, {"slow": lambda: sum(range(200_000)), "fast": lambda: None}, memory=False)
    assert row["opponent"] == "fast"
