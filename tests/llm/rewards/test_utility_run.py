"""A run with a utility and an exponent of right answers: command, record, resumption after a kill, value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sharpen.cli.main import main
from sharpen.llm.common.report import Report
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.evaluation import selection
from sharpen.llm.evaluation.records import Record
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train
from sharpen.objective import Objective

BENT = Objective(beta_inv=10.0, utility="log", alpha_right=0.5)
SMALL: dict[str, Any] = {
    "objective": BENT.to_dict(),
    "steps": 2,
    "prompts_per_step": 2,
    "samples_per_prompt": 4,
    "max_length": 32,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0, "choose_by": "objective"},
    "checkpoint_every": 1,
    "trackers": [],
}


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    return int(exited.value.code or 0)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    class KilledError(RuntimeError):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 1:
            raise KilledError

    with pytest.raises(KilledError):
        train(resolve(SMALL), tmp_path / "killed", report=Report(step=die))
    stored = TrainConfig.as_written(yaml.safe_load((tmp_path / "killed" / "config.yaml").read_text()))
    assert stored.objective == BENT
    result = train(stored, tmp_path / "killed")
    train(resolve(SMALL), tmp_path / "whole")
    runs = [tmp_path / name / "checkpoints" / "last" / "model.safetensors" for name in ("killed", "whole")]
    first, second = map(load_file, runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert result["choice"]["by"] == "objective"
    assert result["labels"]["training"]
    assert all(np.isfinite(row["objective"]) for row in result["selection"])
    assert all(one["reward"] is not None for one in metrics.read(tmp_path / "whole" / "metrics.jsonl"))


def test_the_command_takes_both_and_refuses_what_has_no_reward(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["llm", "train", "--dry-run", "--out", str(tmp_path / "run"), "--alpha-right", "0.5"]
    assert exit_code([*flags, "--beta-inv", "10", "--utility", "pass@4"]) == 0
    shown = yaml.safe_load(capfd.readouterr().out.partition("\n\n")[0])
    assert shown["objective"] | {"utility": "pass@4", "alpha_right": 0.5, "beta_inv": 10.0} == shown["objective"]
    refused = {
        ("--preset", "sharpening", "--utility", "log"): "beta_inv: got 0.0 with utility log",
        ("--beta-inv", "10", "--utility", "log", "--learner", "grpo"): "utility: got 'log', allowed: identity for grpo",
        ("--beta-inv", "10", "--utility", "pass@99"): "at least 99",
    }
    for given, message in refused.items():
        assert exit_code([*flags, *given]) == 2
        assert message in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("utility", ["pass@2", "log"])
def test_the_value_is_what_the_samples_estimate_without_bias(utility: str) -> None:
    """Of pass@2 the pairs of samples with a right one; of log P minus the sum of 1/j from the right count on."""
    rng = np.random.default_rng(0)
    objective = Objective(alpha=2.0, beta_inv=4.0, utility=utility, alpha_right=1.0)
    config = resolve({**SMALL, "objective": objective.to_dict()})
    rights = ([True, False, False, True], [False] * 4, [True] * 4)
    records, wanted = [], []
    for name, right in enumerate(rights):
        log_pi, log_p = -rng.exponential(size=4), -rng.exponential(size=4)
        rest = np.where(right, 1.0, 2.0) / 4.0 * log_p - log_pi / 4.0
        pairs = [right[i] or right[j] for i in range(4) for j in range(i)]
        gain = np.mean(pairs) if utility == "pass@2" else -sum(1.0 / j for j in range(sum(right) + 1, 5))
        wanted.append(rest.mean() + gain)
        few: dict[str, Any] = {"responses": ["x"] * 4, "votes": [None] * 4, "lengths": [3] * 4, "finished": [True] * 4}
        lists = {"logprob": log_pi.tolist(), "base_logprob": log_p.tolist(), "entropy": [1.0] * 4}
        records.append(Record(str(name), None, None, correct=list(right), **few, **lists))
    found = selection.objective_value(config, records, load_source("embedded", "train", 2), seed=1)
    assert found["objective"] == pytest.approx(np.mean(wanted), abs=1e-12)


def test_the_choice_takes_the_samples_that_the_value_needs() -> None:
    for by, count in (("objective", 8), ("pass@1", selection.SAMPLES)):
        fields = {**SMALL, "samples_per_prompt": 8, "objective": {"beta_inv": 1.0, "utility": "pass@8"}}
        config = resolve({**fields, "evaluation": {**SMALL["evaluation"], "choose_by": by}})
        assert selection.samples(config) == count
        json.dumps(config.model_dump(mode="json"))
