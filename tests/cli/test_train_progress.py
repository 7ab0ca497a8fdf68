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


def test_each_checkpoint_is_told_before_it_is_measured_with_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpen.llm.common.schedule import EVALUATION
    from sharpen.llm.tasks.data import AnswerKey, Prompt, PromptSet
    from sharpen.llm.training import final_evaluation

    asking = final_evaluation.Asking(
        PromptSet("sums", (Prompt("a", "1+1="), Prompt("b", "1+2="))), AnswerKey({"a": "2"}), 16, EVALUATION
    )
    clock = iter([100.0, 164.0, 200.0, 232.0])
    monkeypatch.setattr(final_evaluation.time, "monotonic", lambda: next(clock))
    pace, asked = final_evaluation.Pace(after=64), "2 problems of sums x 16 samples"
    with pace.measuring(progress(20), "base", 1, 3, asking):
        assert capsys.readouterr().err == f"measuring base, 1 of 3: {asked}\n"
    with pace.measuring(progress(20), "step_000020", 2, 3, asking):  # 2 s a response; two of 32 and 64 after them
        assert capsys.readouterr().err == f"measuring step_000020, 2 of 3: {asked}; about 256 s left\n"
    assert pace._left(32) == f"; about {96 / 64 * (32 + 64):.0f} s left"
