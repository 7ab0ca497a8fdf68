"""The lines that a training run writes as it goes."""

from __future__ import annotations

import pytest

from sharpen.cli.llm.train_output import progress


def test_a_step_without_a_measured_reference_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With `reference_every` most steps have no log p, and the objective of sharpening has no reward."""
    told = {"response_length": 7.0, "seconds": {"total": 1.5}}
    step = progress(20).step
    step({"step": 0, "reward": 0.5, "ref_logprob": -3.25, **told})
    step({"step": 9, "reward": None, "ref_logprob": None, **told})
    first, tenth = capsys.readouterr().err.splitlines()
    assert "reward 0.500" in first
    assert "-3.25" in first
    assert tenth.split("log p")[1].split() == ["-", "1.50", "s"]
