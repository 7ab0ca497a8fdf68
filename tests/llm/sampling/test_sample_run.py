"""``sharpen llm sample``: what is kept, what it costs, and that a killed run ends as an undisturbed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sharpen.cli.main import main
from sharpen.llm.configs.train import resolve as training_settings
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.preflight import checks as preflight
from sharpen.llm.sampling import SampleConfig, store
from sharpen.llm.sampling import sampling_run as sampling_run
from sharpen.llm.sampling.budget import PASSES, break_even, training_cost
from sharpen.llm.sampling.sampling_run import RECORDS, SAMPLES, run_sampling
from sharpen.llm.tasks.data import AnswerKey
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import encode
from sharpen.objective import InputError

SOURCE = resolve("embedded")


def settings(**changes: object) -> SampleConfig:
    own = {"model": SOURCE.location, "data": "embedded", "template": "plain", "max_length": 48, "problems": 3}
    own |= {"engine": "transformers", "samples": 2, "n": 4}
    return SampleConfig.model_validate({**own, "steps": 2, "rollouts": 2, "candidates": 2, "horizon": 4, **changes})


def test_a_killed_run_continues_to_the_same_samples(tmp_path: Path) -> None:
    config = settings(prompts_per_batch=2, block=20)
    whole = run_sampling(config, tmp_path / "whole")
    run_sampling(config, tmp_path / "killed")
    kept = tmp_path / "killed" / SAMPLES
    lines = kept.read_bytes().split(b"\n")
    kept.write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:40])  # as kill -9 within a write leaves it
    notes: list[str] = []
    again = run_sampling(config, tmp_path / "killed", report=sampling_run.SampleReport(note=notes.append))
    assert notes[:1] == ["continuing after 2 of 3 prompts"]  # whole batches, so the same bits as without the kill
    assert again == whole
    for name in (SAMPLES, RECORDS, "evaluation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(InputError, match=r"alpha: 4\.0 -> 2\.0"):
        run_sampling(settings(prompts_per_batch=2, block=20, alpha=2.0), tmp_path / "killed")


def test_what_is_kept_is_the_models_and_what_it_cost(tmp_path: Path) -> None:
    """log p of the kept texts by a plain forward pass, lengths by the tokenizer, costs by the definition."""
    result = run_sampling(settings(method="best-of-n"), tmp_path)
    model, tokenizer = load_model(SOURCE, "cpu", "float32").eval(), load_tokenizer(SOURCE)
    drawn = store.read(tmp_path / SAMPLES)
    for prompt, one in zip(load_source("embedded", "test", 3).prompts().prompts, drawn, strict=True):
        assert one.proposals == [4, 4]
        for text, length, finished, logprob in zip(one.responses, one.lengths, one.finished, one.logprob, strict=True):
            head = encode(tokenizer, prompt.text, "plain")
            tail = [*tokenizer(text)["input_ids"], *([tokenizer.eos_token_id] if finished else [])]
            assert len(tail) == length
            with torch.no_grad():
                logits = model(torch.tensor([[*head, *tail]])).logits[0, len(head) - 1 : -1].double()
            expected = torch.log_softmax(logits, -1)[range(length), tail].sum().item()
            assert logprob == pytest.approx(expected, abs=1e-3)
    cost = result["cost"]
    assert cost["generated_tokens"] == sum(sum(one.generated) for one in drawn)
    assert cost["returned_tokens"] == sum(sum(one.lengths) for one in drawn)
    assert cost["tokens_per_response"] == cost["generated_tokens"] / 6
    assert cost["overhead"] > 3  # four candidates, the likeliest of which is short
    assert result["base_logprob"] == pytest.approx(sum(sum(one.logprob) for one in drawn) / 6)


@pytest.mark.parametrize("name", ["plain", "low-temperature", "scalable-power"])
def test_every_method_marks_its_answers(name: str) -> None:
    result = run_sampling(settings(method=name, problems=2, samples=1), None)
    assert result["verified"]
    assert 0 <= result["pass@1"] <= 1
    assert (result["cost"]["overhead"] == 1.0) == (name != "scalable-power")


def test_answers_are_opened_after_the_last_response(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = load_source("embedded", "test", 2)

    class Watched:
        prompts, categories = real.prompts, real.categories

        def answers(self) -> AnswerKey:
            events.append("answers")
            return real.answers()

    monkeypatch.setattr(preflight, "load_source", lambda *_: Watched())
    report = sampling_run.SampleReport(batch=lambda *_: events.append("batch"))
    run_sampling(settings(method="plain", problems=2, prompts_per_batch=1), None, report=report)
    assert events == ["batch", "batch", "answers"]


def test_data_without_answers_has_no_accuracy(tmp_path: Path) -> None:
    problem = load_source("embedded", "test", 1).prompts().prompts[0].text
    (tmp_path / "mine.jsonl").write_text(json.dumps({"problem": problem}) + "\n")
    result = run_sampling(settings(method="plain", data=str(tmp_path / "mine.jsonl")), tmp_path / "out")
    assert not result["verified"]
    assert result["pass@1"] is None
    assert result["response_length"] > 0
    assert not (tmp_path / "out" / RECORDS).exists()


def test_the_cost_of_training_beside_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = training_settings({"prompts_per_step": 4, "samples_per_prompt": 2})
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run / "metrics.jsonl").write_text('{"response_length": 10.0}\n{"response_length": 20.5}\n')
    with pytest.raises(InputError, match="beside"):
        training_cost(run)  # not evaluated yet
    last = {"pass@1": 0.5, "pass@1_interval": [0.4, 0.6], "response_length": 12.0}
    (run / "evaluation.json").write_text(json.dumps({"last": last}))
    cost = training_cost(run)
    assert cost["sampled_tokens"] == 244  # 8 responses of 10 tokens, then 8 of 20.5
    assert cost["token_passes"] == PASSES * 244
    responses = break_even(40.0, cost)
    assert responses is not None
    assert responses * 40.0 == pytest.approx(PASSES * 244 + responses * 12.0)
    assert break_even(12.0, cost) is None


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["llm", "sample", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "method" in fails(["--method", "magic"], capsys)
    assert "alpha" in fails(["--alpha", "0"], capsys)
    assert "rollouts" in fails(["--method", "scalable-power", "--rollouts", "1"], capsys)
    assert "max_length" in fails(["--max-length", "5", "--problems", "1", "--engine", "transformers"], capsys)
    assert "run folder" in fails(["--beside", str(tmp_path)], capsys)
    (tmp_path / SAMPLES).write_text("{}\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:1"):
        store.read(tmp_path / SAMPLES)


def test_the_command_prints_lines_and_feeds_comparisons(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shared = ["--problems", "2", "--samples", "2", "--max-length", "48", "--engine", "transformers"]

    def run(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as stop:
            main(["llm", *arguments, *shared])
        assert stop.value.code == 0
        return capsys.readouterr()

    printed = run("sample", "--method", "low-temperature", "--alpha", "4")
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [len(line["responses"]) for line in lines] == [2, 2]
    assert "generated / returned" in printed.err
    run("sample", "--method", "plain", "--out", str(tmp_path / "plain"))
    compared = json.loads(run("eval", "--compare", str(tmp_path / "plain"), "--json").out)["comparison"]
    assert compared["problems"] == 2
    assert compared["measures"]["base_logprob"]["theirs"] < 0
