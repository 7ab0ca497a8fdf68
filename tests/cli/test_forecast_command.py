"""``sharpen llm forecast``: fixed names, folders that continue, finished evaluations, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sharpen.cli.analysis.forecast import samples_of
from sharpen.cli.main import main
from sharpen.figures.llm.forecast import _calibration, plot_forecast, title, turns
from sharpen.llm.evaluation import records as store
from sharpen.theory.forecast.report import forecast

ASK = ["--problems", "6", "--samples", "8", "--engine", "transformers", "--max-length", "48", "--batch", "3"]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(["llm", "forecast", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forecast") / "out"
    assert run([*ASK, "--alphas", "1,2,4", "--beta-inv", "1", "--k", "2", "--out", str(out)]) == 0
    return out


def parsed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_the_fixed_names_and_the_records_behind_them(finished: Path) -> None:
    found = json.loads((finished / "forecast.json").read_text())
    assert {"curve", "slope_at_1", "verdict", "tilts", "task_reward", "greedy", "mode", "mixed"} <= found.keys()
    assert [row["alpha"] for row in found["curve"]] == [1, 2, 4]
    assert all({"alpha", "expected_reward", "low", "high", "ess"} <= row.keys() for row in found["curve"])
    assert found["slope_at_1"].keys() == {"value", "low", "high"}
    records = store.read(finished / "samples" / "records.jsonl")
    marks = np.array([one.correct for one in records], dtype=float)
    scores = np.array([one.logprob for one in records])
    assert found["curve"][0]["expected_reward"] == pytest.approx(marks.mean())
    slopes = [np.cov(r, s)[0, 1] for r, s in zip(marks, scores, strict=True)]
    assert found["slope_at_1"]["value"] == pytest.approx(np.mean(slopes))
    assert found["task_reward"]["value"] == pytest.approx((marks.max(axis=1) == 1).mean())
    assert found["mixed"]["value"] == pytest.approx(((marks.max(axis=1) == 1) & (marks.min(axis=1) == 0)).mean())
    greedy = store.read(finished / "greedy" / "records.jsonl")
    assert found["greedy"]["value"] == pytest.approx(np.mean([one.correct[0] for one in greedy]))
    assert all(one.logprob is not None and one.logprob[0] > -60 for one in greedy)


def test_the_same_command_continues_and_a_finished_folder_is_read(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "forecast.json").read_bytes()
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    records = again / "samples" / "records.jsonl"
    records.write_bytes(b"".join(records.read_bytes().splitlines(keepends=True)[:3]))  # as a kill leaves it
    for name in ("samples", "greedy"):
        (again / name / "evaluation.json").unlink()
    assert run([*ASK, "--alphas", "1,2,4", "--beta-inv", "1", "--k", "2", "--out", str(again)]) == 0
    assert (again / "forecast.json").read_bytes() == before
    capsys.readouterr()
    picture = tmp_path / "curve.png"
    read = ["--from", str(finished / "samples"), "--alphas", "2", "--json", "--plot", str(picture)]
    assert run(read) == 0
    found, whole = parsed(capsys), json.loads(before)
    assert found["curve"][1]["expected_reward"] == pytest.approx(whole["curve"][1]["expected_reward"])
    assert "greedy" not in found
    assert picture.stat().st_size > 10_000


def test_what_is_printed_fits_eighty_columns(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--from", str(finished / "samples"), "--beta-inv", "1,10000", "--k", "4,7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if str(finished) not in line and "/artifact" not in line]
    assert max(len(line.rstrip()) for line in named) <= 80
    assert any("Task reward can reach" in line for line in lines)
    assert any("slope at alpha = 1" in line for line in lines)
    assert "…" not in "".join(named)
    found = json.loads((finished / "forecast.json").read_text())["calibration"]
    assert any(line.split()[1:] == [f"{one:.2f}" for one in found["expected_reward"]] for line in lines if line)
    assert any(line.startswith("Accuracy") and "in log p" in line for line in lines)


def test_answers_that_are_not_told_have_no_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        store.Record(
            id=str(place),
            subject=None,
            level=None,
            responses=[str(one) for one in range(32)],
            votes=[None] * 32,
            correct=[bool(one) for one in rng.random(32) < 0.5],
            lengths=[100] * 32,
            finished=[True] * 32,
            logprob=[float(one) for one in -80 + 5 * rng.normal(size=32)],
        )
        for place in range(4)
    ]
    rows = [
        store.Record(**{**vars(one), "votes": ["right" if good else "wrong" for good in one.correct]}) for one in rows
    ]
    found = forecast(samples_of(rows, []), alphas=[4.0])
    assert found["curve"][1]["expected_reward"] is None
    assert found["curve"][1]["needs"] > 32
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "cannot be told" in title(found)
    plot_forecast(found, tmp_path / "none.svg")
    drawn = (tmp_path / "none.svg").read_text()
    assert "cannot be told" in drawn
    assert turns(found["calibration"]) in drawn


def test_the_turns_of_accuracy_in_log_p_are_drawn_and_bound_those_in_alpha() -> None:
    """Right is the second likeliest of five: accuracy rises and falls in log p, and so it does in alpha."""
    from matplotlib.figure import Figure

    from sharpen.theory.forecast.samples import Samples

    rng = np.random.default_rng(0)
    p = np.array([0.35, 0.3, 0.12, 0.12, 0.11])
    at = rng.choice(5, size=(40, 64), p=p)
    found = forecast(
        [Samples.of(np.log(p)[one], one == 1, response=[str(x) for x in one]) for one in at], alphas=[1.5, 8]
    )
    curve = [row["expected_reward"] for row in found["curve"]]
    exact = [float(p[1] ** alpha / np.sum(p**alpha)) for alpha in (1, 1.5, 8)]
    assert curve == pytest.approx(exact, abs=0.03)
    assert exact[0] < exact[1] > exact[2]
    assert found["calibration"]["turns"] == 1
    found["calibration"]["low"][0] = found["calibration"]["expected_reward"][0] + 0.01  # few problems: outside it
    panels = Figure().subplots(2)
    _calibration(panels[1], found["calibration"])
    assert panels[1].get_title(loc="left") + panels[1].get_title() == turns(found["calibration"])
    panel = panels[0]
    plot_forecast(found, axes=panel)
    assert "log p" not in panel.get_xlabel()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--alphas", "1,x"], "alphas"),
        (["--alphas=-1"], "alphas"),
        (["--k", "0"], "k"),
        (["--beta-inv", "0"], "beta-inv"),
        (["--plot", "curve.gif"], "figure file"),
        (["--from", "nowhere"], "from"),
        (["--from", "nowhere", "--samples", "4"], "samples"),
        (["--outcomes", "nowhere"], "outcomes"),
        (["--force"], "force"),
        (["--task", "first-letter", "--data", "gsm8k"], "task"),
        (["--problems", "1", "--samples", "2", "--engine", "transformers"], "problems"),
    ],
)
def test_bad_flags_are_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert named in last
    assert "allowed" in last


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--temperature", "0.5"], "temperature 0.5"),
        (["--top-p", "0.9"], "top-p 0.9"),
        (["--no-likelihoods"], "log-prob"),
    ],
)
def test_samples_of_another_distribution_are_refused(
    changes: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["llm", "eval", "--problems", "2", "--samples", "2", "--engine", "transformers", "--max-length", "40"]
    with pytest.raises(SystemExit):
        main([*asked, *changes, "--out", str(tmp_path / "other")])
    capsys.readouterr()
    assert run(["--from", str(tmp_path / "other")]) == 2
    assert said in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom sharpen.cli.main import main\n"
    code += "try:\n    main(['llm', 'forecast', '--help'])\nexcept SystemExit:\n    pass\n"
    code += "print([one for one in ('torch', 'jax', 'pandas', 'arviz_stats', 'scipy') if one in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert told.stdout.splitlines()[-1] == "[]"


def test_known_outcomes_replace_the_estimates(finished: Path, tmp_path: Path) -> None:
    """The seen responses as outcomes, their missing mass as frontier."""
    records = store.read(finished / "samples" / "records.jsonl")
    rows: dict[str, list[Any]] = {"prompt_id": [], "logprob": [], "reward": [], "length": []}
    front: dict[str, list[Any]] = {"prompt_id": [], "logprob": [], "depth": []}
    for one in records:
        seen = {
            text: (log_p, float(good))
            for text, log_p, good in zip(one.responses, one.logprob or [], one.correct, strict=True)
        }
        for log_p, good in seen.values():
            for name, value in zip(rows, (one.id, log_p, good, 1), strict=True):
                rows[name].append(value)
        front["prompt_id"].append(one.id)
        front["depth"].append(1)
        front["logprob"].append(np.log(max(1e-9, 1 - sum(np.exp(log_p) for log_p, _ in seen.values()))))
    parquet.write_table(pa.table(rows), tmp_path / "outcomes.parquet")
    parquet.write_table(pa.table(front), tmp_path / "frontier.parquet")
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert run([*ASK, "--alphas", "1,8", "--k", "2", "--outcomes", str(tmp_path), "--out", str(out)]) == 0
    row = json.loads((out / "forecast.json").read_text())["curve"][1]
    low, high = row["certain"]
    assert 0 <= low <= high <= low + 0.1
    assert low <= row["expected_reward"] <= high
    assert row["low"] <= low
    assert row["high"] >= high
    assert "needs" not in row


def test_particles_measure_what_samples_cannot_tell(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    asked = [*ASK, "--alphas", "1,4", "--k", "2", "--particles", "4", "--out", str(out)]
    assert run(asked) == 0
    found = json.loads((out / "forecast.json").read_text())
    (drawn,) = found["particles"]
    row = found["curve"][1]
    marks = [np.mean(one.correct) for one in store.read(out / "particles-4" / "records.jsonl")]
    assert drawn["alpha"] == row["alpha"] == 4
    assert drawn["tokens_per_response"] > 8
    assert drawn["acceptance"] >= 0.5
    assert row["measured"] is True
    assert row["expected_reward"] == pytest.approx(np.mean(marks))
    assert row["low"] <= row["expected_reward"] <= row["high"]
    assert "needs" not in row
    monkeypatch.setattr("sharpen.cli.analysis.forecast.LEAST_ACCEPTED", 1.1)  # as if the populations disagreed
    assert run(asked) == 0
    row = json.loads((out / "forecast.json").read_text())["curve"][1]
    assert row["expected_reward"] is None
    assert row["needs"] >= 8
