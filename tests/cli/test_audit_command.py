"""``sharpen llm audit`` on the embedded model: two checkpoints of a short run, its null, logs, what is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpen.cli.main import main
from sharpen.figures.llm.audit import title
from sharpen.llm.evaluation import records as store

FAMILIES = {
    *("sharpening", "reward", "length", "sharpening+reward", "sharpening+length", "reward+length", "all"),
}
ASK = ["--problems", "5", "--samples", "4", "--engine", "transformers", "--max-length", "40"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["llm", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates."""
    out = tmp_path_factory.mktemp("trained") / "run"
    sizes = ["--steps", "2", "--prompts-per-step", "2", "--samples-per-prompt", "4", "--max-length", "40"]
    fast = ["--learning-rate", "1e-3", "--set", "optimizer.warmup_steps=0"]
    evaluation = ["--eval-problems", "2", "--eval-samples", "2", "--engine", "transformers"]
    assert run("train", "--preset", "task-reward", *sizes, *fast, *evaluation, "--out", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def finished(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of the run's last checkpoint against the model that it began from."""
    out = tmp_path_factory.mktemp("audit") / "out"
    assert run("audit", "--policy", str(trained), "--checkpoint", "2", *ASK, "--out", str(out)) == 0
    return out


def audit_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "audit.json").read_text())


def is_row(row: dict[str, Any]) -> bool:
    return {"value", "low", "high"} <= row.keys() and row["low"] <= row["value"] <= row["high"]


def test_the_fixed_names_and_the_samples_behind_them(finished: Path) -> None:
    found = audit_of(finished)
    assert found["explained"].keys() == FAMILIES
    assert found["shapley"].keys() == {"sharpening", "reward", "length"}
    rows = (found["kl"], found["rest"], *found["explained"].values(), *found["shapley"].values())
    assert all({"value", "low", "high"} <= row.keys() for row in rows)
    assert found["kl"]["value"] > 0
    assert is_row(found["kl"])
    added = sum(row["value"] for row in found["shapley"].values())
    assert added == pytest.approx(found["explained"]["all"]["value"], abs=1e-9)
    assert found["rest"]["value"] == pytest.approx(found["kl"]["value"] - added, abs=1e-9)
    of_policy = store.read(finished / "policy" / "records.jsonl")
    of_base = store.read(finished / "base" / "records.jsonl")
    kl = []
    for p, b in zip(of_policy, of_base, strict=True):  # each outcome once a sample, weighed by the mixture
        log_pi = np.array([*(p.logprob or []), *(b.base_logprob or [])])
        log_p = np.array([*(p.base_logprob or []), *(b.logprob or [])])
        pi, base = np.exp(log_pi), np.exp(log_p)
        kl.append(np.sum((pi * (log_pi - log_p) - pi + base) / (4 * pi + 4 * base)))
    assert found["kl"]["value"] == pytest.approx(np.mean(kl), rel=1e-6)
    accuracy = [np.mean([np.mean(one.correct) for one in records]) for records in (of_base, of_policy)]
    first = found["pass"][0]["pass@k"]
    assert [first[name]["value"] for name in ("base", "policy")] == pytest.approx(accuracy)
    assert found["support"]["n"] == found["crossover"]["most"] == found["tax"]["K"] == 4
    assert found["verdict"].startswith("KL(pi||p)") or "hardly differ" in found["verdict"]


def test_a_finished_audit_is_read_again_as_folders_of_both(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, page = tmp_path / "shares.png", tmp_path / "made" / "page.html"
    given = ["--base", str(finished / "base"), "--policy", str(finished / "policy"), "--plot", str(picture)]
    assert run("audit", *given, "--html", str(page), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == audit_of(finished)
    assert picture.stat().st_size > 10_000
    text = page.read_text()
    assert title(found).splitlines()[0] in text
    assert "prefers-color-scheme:dark" in text
    assert "<svg" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)  # nothing is fetched
    assert f"{found['kl']['value']:.3f}" in text


def test_the_base_against_itself_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "null.svg"
    assert run("audit", "--base", "embedded", "--policy", "embedded", *ASK, "--json", "--plot", str(picture)) == 0
    found = json.loads(capsys.readouterr().out)
    for row in (found["kl"], found["rest"], *found["explained"].values(), *found["shapley"].values()):
        assert row["low"] <= 0 <= row["high"]
        assert abs(row["value"]) < 1e-6
    for name in ("gained", "lost"):
        assert found["support"][name]["low"] <= found["support"][f"{name}_by_chance"] <= found["support"][name]["high"]
    assert "hardly differ" in found["verdict"]
    assert "hardly differ" in picture.read_text()


def test_what_is_printed_fits_eighty_columns(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "--base", str(finished / "base"), "--policy", str(finished / "policy")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.startswith(("base ", "policy "))) <= 80
    text = "\n".join(lines)
    for said in ("KL(π‖p)", "none of them (rest)", "pass^k", "sharpening tax A(4)", "problems gained", "Sharpening"):
        assert said in text


def log(path: Path, right: list[list[int]]) -> str:
    rows = [
        {"doc_id": doc, "resps": [["x"]], "filtered_resps": [[f"{one}" for one in marks]], "filter": "none"}
        | {"metrics": ["exact_match"], "exact_match": marks}
        for doc, marks in enumerate(right)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_logs_of_lm_eval_are_compared_without_log_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = log(tmp_path / "b.jsonl", [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    policy = log(tmp_path / "p.jsonl", [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    files = ["--plot", str(tmp_path / "k.png"), "--html", str(tmp_path / "page.html")]
    assert run("audit", "--base", base, "--policy", policy, "--json", *files) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[name] is None for name in ("kl", "explained", "shapley", "rest", "token_entropy"))
    assert "no log-probabilities" in found["unscored"]
    assert [found["support"][name]["value"] for name in ("kept", "gained", "lost")] == pytest.approx([1 / 3, 0, 1 / 3])
    area = np.mean([4 - (0.25 + 0.5 + 0.75 + 1), 4 - (0.5 + 5 / 6 + 1 + 1)])
    assert found["tax"]["A"]["base"]["value"] == pytest.approx(2 / 3 * area)
    assert found["tax"]["A"]["policy"]["value"] == 0
    assert "pass@1" in title(found)
    assert "Support" in (tmp_path / "page.html").read_text()
    assert run("audit", "--base", base, "--policy", policy) == 0
    assert "cannot be told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--policy", "nowhere"], "model"),
        (["--policy", "embedded", "--problems", "1"], "problems"),
        (["--policy", "embedded", "--samples", "1"], "samples"),
        (["--policy", "embedded", "--plot", "a.gif"], "figure file"),
        (["--policy", "embedded", "--metric", "acc"], "metric"),
        (["--policy", "embedded", "--force"], "force"),
        (["--policy", "embedded", "--task", "antonyms", "--data", "gsm8k"], "task"),
        (["--policy", "embedded", "--checkpoint", "3"], "checkpoint"),
        (["--base", "embedded", "--policy", "x.jsonl"], "base"),
        (["--policy", "x.jsonl"], "base"),
    ],
)
def test_bad_flags_are_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") or named in last
    assert named in last
    assert "allowed" in last


def test_flags_that_nothing_would_read_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--base", str(finished / "base"), "--policy", str(finished / "policy")]
    assert run("audit", *given, "--samples", "8") == 2
    assert "samples" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom sharpen.cli.main import main\n"
    code += "try:\n    main(['llm', 'audit', '--help'])\nexcept SystemExit:\n    pass\n"
    code += "print([one for one in ('torch', 'jax', 'pandas', 'scipy', 'matplotlib') if one in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert told.stdout.splitlines()[-1] == "[]"
