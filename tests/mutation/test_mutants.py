"""The list of mutants fits the code, its report is of this list, and a run tells a killed mutant from a survivor."""

from __future__ import annotations

import ast
import html
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_mutants", Path(__file__).with_name("run_mutants.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_mutants"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@cache
def meaning(file: str) -> str:
    return ast.dump(ast.parse((ROOT / file).read_text(encoding="utf-8")))


@cache
def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_change_is_one_place_and_python(tool: ModuleType) -> None:
    mutants = tool.read_mutants()
    assert len(mutants) >= 60
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert ast.dump(ast.parse(mutant.applied(ROOT))) != meaning(mutant.file), mutant.name


def test_every_test_that_should_kill_is_there(tool: ModuleType) -> None:
    for mutant in tool.read_mutants():
        for test in mutant.tests:
            file, name = test.split("::")
            assert name.partition("[")[0] in functions(ROOT / "tests" / file), mutant.name


def test_the_report_is_of_this_list_and_nothing_survives(tool: ModuleType, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    killers = [html.unescape(name) for name in re.findall(r"<code>([^<]*)</code> \|$", text, re.MULTILINE)]
    mutants = tool.read_mutants()
    assert len(killers) == len(mutants)
    for mutant, killer in zip(mutants, killers, strict=True):
        assert killer.partition("[")[0] in {test.partition("[")[0] for test in mutant.tests}, mutant.name
    tool.write_report(mutants, [tool.Verdict("killed", killer) for killer in killers], tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == text, "run `make mutants`"


@pytest.fixture(scope="module")
def worker(tool: ModuleType) -> Iterator[Any]:
    with tool.copied_tree(ROOT) as copy, tool.Worker(copy, ["pydantic"]) as worker:
        yield worker


def test_a_mutant_is_killed_and_a_change_of_nothing_survives(tool: ModuleType, worker: Any) -> None:
    mutant = next(each for each in tool.read_mutants() if each.file == "objective/presets.py")
    assert tool.try_mutant(worker, mutant) == tool.Verdict("killed", mutant.tests[0])
    same = replace(mutant, old=mutant.old + ",", new=mutant.old + ",  # a comment")
    assert tool.try_mutant(worker, same) == tool.Verdict("survived", "")
    assert (worker.copy / mutant.file).read_text("utf-8") == (ROOT / mutant.file).read_text("utf-8")


def test_what_is_no_verdict(tool: ModuleType, worker: Any) -> None:
    tests = ["objective/test_objective_spec.py::test_refresh_every"]
    assert worker.run(tests, ["sharpen.theory.optima.optimum"]).status == "broken"  # never imported: it was not tested
    assert worker.run(["objective/test_objective_spec.py::test_of_no_such_name"], []).status == "broken"
    assert worker.run(tests, ["sharpen.objective.spec"], seconds=0.0).status == "timeout"
    assert worker.run(tests, ["sharpen.objective.spec"]).status == "survived"


def test_a_run_goes_on_where_it_was_stopped(tool: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "mutants.jsonl"
    assert tool.known(results) == {}
    results.write_text('{"key": "a", "name": "x", "status": "killed", "by": "t"}\n{"key": "b", "na', encoding="utf-8")
    assert tool.known(results) == {"a": tool.Verdict("killed", "t")}
    mutant = tool.read_mutants()[0]
    assert mutant.key(ROOT) == mutant.key(ROOT) != replace(mutant, new=mutant.new + " ").key(ROOT)


def test_words_choose_by_name_or_file(tool: ModuleType) -> None:
    mutants = tool.read_mutants()
    assert tool.chosen(mutants, []) == mutants
    assert {mutant.file for mutant in tool.chosen(mutants, ["theory/core/change.py"])} == {"theory/core/change.py"}
    assert tool.chosen(mutants, ["no such word"]) == []
