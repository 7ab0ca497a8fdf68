"""What a result keeps of likelihood and score together, against loops over samples and exact problems."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sharpen.llm.evaluation.records import Record, judged
from sharpen.paper_repro.grids.grid import Asked, Experiment, Grid
from sharpen.paper_repro.grids.plan import expand
from sharpen.paper_repro.work.measures import by_problem, calibration, folder_of


def record(scores: list[float], logprobs: list[float]) -> Record:
    """Return a record of a base model's samples."""
    n = len(scores)
    own = judged(scores, 1.0)
    return Record(
        "a", None, None, ["x"] * n, ["1"] * n, lengths=[1] * n, finished=[True] * n, base_logprob=logprobs, **own
    )


def test_calibration_by_hand() -> None:
    scores, logs = [1.0, 0.0, 1.0, 0.0], [-1.0, -2.0, -2.0, -3.0]  # of one pair both are as likely
    found = calibration([record(scores, logs)])
    wins = sum(0.5 if a == b else float(a > b) for a in (-1.0, -2.0) for b in (-2.0, -3.0)) / 4
    assert found["auc"] == [wins]
    for alpha in (2, 4):
        weights = [math.exp((alpha - 1) * one) for one in logs]
        reached = sum(w * r for w, r in zip(weights, scores, strict=True)) / sum(weights)
        assert found[f"forecast@{alpha}"] == [pytest.approx(reached)]
        assert found[f"ess@{alpha}"] == [pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))]
    (xx,), (rr,), (xr,) = found["corr_xx"], found["corr_rr"], found["corr_xr"]
    assert None not in (xx, rr, xr)
    assert float(xr or 0) / math.sqrt(float(xx or 0) * float(rr or 0)) == pytest.approx(np.corrcoef(logs, scores)[0, 1])


def test_the_forecast_of_many_samples_is_the_exact_accuracy() -> None:
    rng = np.random.default_rng(0)
    p, r = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    drawn = rng.choice(4, size=200_000, p=p)
    found = calibration([record(r[drawn].tolist(), np.log(p[drawn]).tolist())])
    for alpha in (2, 4):
        exact = float((p**alpha) @ r / (p**alpha).sum())
        assert found[f"forecast@{alpha}"][0] == pytest.approx(exact, abs=0.01)


def test_one_kind_of_sample_has_no_auc_and_extreme_likelihoods_no_overflow() -> None:
    found = calibration([record([1.0, 1.0], [-1e5, -2e5])])
    assert (found["auc"], found["forecast@4"], found["ess@4"]) == ([None], [1.0], [1.0])


def test_it_is_kept_where_it_is_asked_for_only() -> None:
    one = record([1.0, 0.0], [-1.0, -2.0])
    assert "auc" not in by_problem([one], 2)
    assert "auc" in by_problem([one], 2, calibrate=True)
    assert "calibrate" not in Asked(data="embedded").plain()
    assert Asked(data="embedded", calibrate=True).plain()["calibrate"] is True
    assert folder_of({"data": "gym:chain_sum?min_terms=2", "split": "test"}) == "gym_chain_sum_min_terms_2-test"


def test_a_prefix_tells_arms_of_two_tasks_apart() -> None:
    common = {"kind": "sample", "claims": ["c"], "title": "t", "methods": {"base": {"method": "plain"}}}
    grid = {
        "claims": {"c": "claim"},
        "rates": {"train": 1, "sample": 1, "start": 1},
        "experiments": [
            {"id": name, "prefix": f"{name}-", **common, "evaluate": [{"data": name}]} for name in ("parity", "sums")
        ],
    }
    assert [run.id for run in expand(Grid.model_validate(grid), "embedded")] == ["parity-base-s0", "sums-base-s0"]
    with pytest.raises(ValueError, match="prefix"):
        Experiment.model_validate({"id": "x", "prefix": "no dash", **common, "evaluate": [{"data": "parity"}]})
