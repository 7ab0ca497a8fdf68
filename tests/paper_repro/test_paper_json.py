"""What ``sharpen paper`` prints with ``--json`` is what its schemas say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of

COMMON = {"kind": "theory", "claims": ["c"], "title": "t"}
GRID: dict[str, Any] = {
    "claims": {"c": "a claim"},
    "rates": {"train": 1e-3, "sample": 1e-3, "start": 1.0},
    "experiments": [
        {"id": "theory-modes", "compute": "modes", "seconds": 2, **COMMON},
        {"id": "theory-published", "compute": "published", "seconds": 1, **COMMON},
    ],
}


def test_what_the_commands_print_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump(GRID))
    places = ["--grid", str(grid), "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]

    def paper(*words: str, as_json: bool = True) -> Any:
        with pytest.raises(SystemExit) as end:
            main(["paper", *words, *places, *(["--json"] if as_json else [])])
        assert not end.value.code
        printed = capsys.readouterr().out
        return json.loads(printed) if as_json else None

    paper("run", "--run", "theory-modes", as_json=False)
    jsonschema.validate(paper("list", "--scale", "embedded"), schema_of("paper list"))
    runs = paper("list", "--scale", "embedded", "--runs")
    jsonschema.validate(runs, schema_of("paper list"))
    assert [row["status"] for row in runs["runs"]] == ["done", "missing"]
    jsonschema.validate(paper("status"), schema_of("paper status"))
    jsonschema.validate(paper("verify"), schema_of("paper verify"))
    page = ["--out", str(tmp_path / "report.html"), "--folder", str(tmp_path / "report")]
    told = paper("report", *page)
    jsonschema.validate(told, schema_of("paper report"))
    assert [one["claim"] for one in told["verdicts"]] == ["c"]
