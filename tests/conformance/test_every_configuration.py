"""Every configuration of the package keeps numbers, true and false, texts and seeds apart."""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from sharpen.objective.settings import LARGEST, SEEDS, Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("objective", "theory", "toy", "llm", "paper_repro", "figures", "cli")
BASES = {"BaseModel", "Settings", "ProblemConfig"}
OUTPUTS = "sharpen.cli.schemas."  # models of what commands print, which tests/cli validates


def declaring() -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield module and class of every class whose base is pydantic's or ours."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if any(base in text for base in BASES) else ():
                bases = {base.id for base in getattr(node, "bases", ()) if isinstance(base, ast.Name)}
                if isinstance(node, ast.ClassDef) and bases & BASES:
                    yield ".".join(("sharpen", *file.relative_to(ROOT).with_suffix("").parts)), node


FOUND = [
    (module, node.name) for module, node in declaring() if node.name != "Settings" and not module.startswith(OUTPUTS)
]


def configuration(module: str, name: str) -> type[BaseModel]:
    return getattr(importlib.import_module(module), name)


def kinds(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return {kind for part in get_args(annotation) for kind in kinds(part)}
    return {annotation}


def test_there_are_some() -> None:
    assert len(FOUND) >= 13


@pytest.mark.parametrize(("module", "name"), FOUND)
def test_it_is_one_of_ours(module: str, name: str) -> None:
    found = configuration(module, name)
    assert issubclass(found, Settings)
    config = found.model_config
    assert (config.get("frozen"), config.get("extra"), config.get("allow_inf_nan")) == (True, "forbid", False)


def refused(configuration: type[BaseModel], field: str, value: Any) -> bool:
    """Return whether the field is at fault where it has a value and the others have none."""
    with pytest.raises(ValidationError) as error:
        configuration.model_validate({field: value, "no such field": 1})
    return any(detail["loc"][0] == field for detail in error.value.errors())


@pytest.mark.parametrize(("module", "name"), FOUND)
def test_each_field_takes_its_kind_only(module: str, name: str) -> None:
    found = configuration(module, name)
    for field, info in found.model_fields.items():
        own = kinds(info.annotation)
        if own & {int, float} and bool not in own:
            assert refused(found, field, True), field
            assert refused(found, field, float("nan")), field
            assert refused(found, field, float("inf")), field
            assert refused(found, field, 10**400), field
        if int in own:
            assert refused(found, field, LARGEST + 1), field
            assert refused(found, field, 1.5), field
        if bool in own:
            for wrong in (1, 0, 1.0, "true", "yes"):
                assert refused(found, field, wrong), field
        if str in own:
            for wrong in (True, 1, ["a"]):
                assert refused(found, field, wrong), field
        if field == "seed":
            for wrong in (-1, 2**63, 2**64, 2**32 if module.startswith("sharpen.toy") else SEEDS):
                assert refused(found, field, wrong), field
