"""What commands print with ``--json`` is what their schemas say, by a validator that shares no code with them."""

from __future__ import annotations

import importlib.util
import inspect
import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel, ValidationError

from sharpen.cli.main import main
from sharpen.cli.schemas import analysis, dynamics, llm, paper, shapes, theory, toy
from sharpen.cli.schemas.commands import PRINTED, VERSION, schema_of
from tests.cli.shared.commands import leaves

ROOT = Path(__file__).parents[3]
HERE = {
    "theory fixed-points": "--alpha 3",
    "theory derive": "T4",
    "theory optimum": "--kl 0.1,0.2 --points 3 --answers 0,1,0,1,2",
    "theory response": "",
    "theory coverage": "--answers 0,1,0,1,2",
    "theory sensitivity": "--draws 50",
    "theory phase": "",
    "theory estimators": "--group 2",
    "theory fold": "",
    "theory self-sharpening": "",
    "theory length": "--alphas 1,2",
    "theory sequences": "",
    "toy target": "alpha slope --seeds 2",
    "llm train": "--dry-run",
    "llm sample": "--model embedded --method power --problems 2 --samples 2 --max-length 30 --engine transformers",
    "llm outcomes": "--model embedded --problems 2 --max-length 30 --width 0.1 --threshold 0.05",
    "llm pretrain": "--steps 1 --batch 4 --hidden 32 --layers 1",
    "llm data": "--train dial --test dial",
    "llm tasks": "",
    "llm models": "",
    "llm recipes": "",
    "paper run": "--scale paper --dry-run --run toy-mode",
    "doctor": "",
}
NEED_OUT = ("llm outcomes", "llm pretrain", "toy target")
# Where a test makes the output in any case, it validates it too.
ELSEWHERE = {
    "theory optimum": "tests/cli/test_known_outcomes.py",
    "theory response": "tests/cli/test_known_outcomes.py",
    "theory coverage": "tests/cli/test_known_outcomes.py",
    "toy simulate": "tests/toy/test_toy_signal_to_noise.py",
    "toy sweep": "tests/toy/test_toy_sweep.py",
    "toy findings": "tests/toy/studies/test_toy_findings.py",
    "toy learners": "tests/toy/learners/test_toy_learners.py",
    "toy phase": "tests/toy/studies/test_toy_phase.py",
    "llm train": "tests/cli/test_fixed_names.py",
    "llm eval": "tests/llm/evaluation/test_eval_run.py",
    "llm forecast": "tests/cli/test_fixed_names.py",
    "llm audit": "tests/cli/test_fixed_names.py",
    "llm verify-sampler": "tests/cli/test_verify_sampler.py",
    "llm export": "tests/llm/export/test_export.py",
    "llm fetch": "tests/llm/models/test_model_cache.py",
    "paper list": "tests/paper_repro/test_paper_json.py",
    "paper status": "tests/paper_repro/test_paper_json.py",
    "paper report": "tests/paper_repro/test_paper_json.py",
    "paper verify": "tests/paper_repro/test_paper_json.py",
}


def test_every_command_with_json_has_a_schema_and_a_test() -> None:
    found = {name for name, one in leaves() if any("--json" in each.opts for each in one.params)}
    assert found == PRINTED.keys() == HERE.keys() | ELSEWHERE.keys()
    for name, file in ELSEWHERE.items():
        assert f'schema_of("{name}")' in (ROOT / file).read_text(encoding="utf-8"), name


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a study of seconds of one that takes an hour."""
    monkeypatch.setattr("sharpen.toy.studies.target.SIZES", (0.3,))
    monkeypatch.setattr("sharpen.toy.studies.target.TUNING", 2)
    monkeypatch.setattr("sharpen.toy.studies.target_slope.LENGTHS", (2,))
    monkeypatch.setattr("sharpen.toy.studies.target_slope.LATE", {"step_size": 0.05, "steps": 20})


@pytest.mark.usefixtures("shortened")
@pytest.mark.parametrize("name", HERE)
def test_what_a_command_prints_fits(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")] if name in NEED_OUT else []
    with pytest.raises(SystemExit) as end:
        main([*name.split(), *HERE[name].split(), *out, "--json"])
    printed = capsys.readouterr()
    assert not end.value.code, printed.err
    found = json.loads(printed.out, parse_constant=lambda number: pytest.fail(f"{number} is not JSON"))
    jsonschema.validate(found, schema_of(name))


def test_a_field_that_nobody_described_or_that_is_gone_is_refused() -> None:
    row = {"base_success": 0.1, "beta": 1.0, "group": None, "state": "one optimum", "optima": []}
    whole = {**row, "least_beta": None, "equal_beta": None}
    schema = schema_of("theory fold")
    jsonschema.validate(whole, schema)
    for wrong in (row, {**whole, "more": 1}, {**whole, "beta": "1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
        with pytest.raises(ValidationError):
            dynamics.Folded.model_validate(wrong)


@pytest.mark.parametrize("name", PRINTED)
def test_schemas_are_schemas(name: str) -> None:
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:sharpen:json:{VERSION}:{name.replace(' ', '-')}"


def test_a_shape_has_one_name_and_says_what_it_is() -> None:
    """The page has a heading for each."""
    rooms = (shapes, theory, dynamics, toy, llm, analysis, paper)
    own = [
        one
        for room in rooms
        for _, one in inspect.getmembers(room, inspect.isclass)
        if one.__module__ == room.__name__ and issubclass(one, BaseModel) and "[" not in one.__name__
    ]
    assert len({one.__name__ for one in own}) == len(own)
    assert all(one.__doc__ for one in own)


def test_the_page_is_what_the_schemas_say() -> None:
    spec = importlib.util.spec_from_file_location("json_page", ROOT / "docs" / "site" / "json_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/site/json_page.py"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("llm", "forecast")):
        with pytest.raises(SystemExit) as end:
            main(["schema", *words])
        assert not end.value.code
    listed, _, printed = capsys.readouterr().out.partition("{")
    assert [line.strip() for line in listed.splitlines()[1:]] == [f"sharpen {name}" for name in PRINTED]
    assert json.loads("{" + printed) == schema_of("llm forecast")
    with pytest.raises(SystemExit) as end:
        main(["schema", "llm", "forecasts"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: command: got 'llm forecasts', allowed: one that has --json: ")
