"""A training run as a user meets it: folder, metrics, resume, interruption, evaluation, bad input."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sharpen.cli.main import main
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.training import metrics
from sharpen.llm.training.record import Row, mismatch_metrics, sample_metrics
from sharpen.llm.training.run import train
from sharpen.objective import PRESETS, preset
from tests.forked import Forks

SMALL: dict[str, Any] = {
    "steps": 4,
    "problems": 64,
    "prompts_per_step": 4,
    "samples_per_prompt": 4,
    "max_length": 32,  # some responses end and others are cut: each further token takes as long for few as for many
    "checkpoint_every": 2,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 3, "samples": 2, "alpha_prompts": 1},
}
FLAGS = ["--steps", "4", "--prompts-per-step", "4", "--samples-per-prompt", "4", "--checkpoint-every", "2"]
FLAGS += ["--eval-problems", "3", "--eval-samples", "2", "--set", "evaluation.alpha_prompts=1"]
FLAGS += ["--set", "problems=64", "--max-length", "32"]
Trained = Callable[[str], tuple[Path, dict[str, Any]]]
PROMISED = {"step", "reward", "accuracy", "response_length", "entropy", "kl_ref", "ref_logprob"}
PROMISED |= {"engine_logprob_error", "seconds"}


def small(objective: str | dict[str, Any] = "task-reward", **changes: Any) -> TrainConfig:
    fields = PRESETS[objective].to_dict() if isinstance(objective, str) else objective
    return resolve({**SMALL, "objective": fields, **changes})


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "last" / "model.safetensors")


def assert_same_run(a: Path, b: Path) -> None:
    first, second = last_weights(a), last_weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [strip(r) for r in metrics.read(a / "metrics.jsonl")] == [
        strip(r) for r in metrics.read(b / "metrics.jsonl")
    ]
    assert json.loads((a / "evaluation.json").read_text()) == json.loads((b / "evaluation.json").read_text())


def strip(record: dict[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in record.items() if name != "seconds"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the folder of a regime's small run, and what it returned; each is trained once."""

    @cache
    def of(name: str) -> tuple[Path, dict[str, Any]]:
        out = tmp_path_factory.mktemp(name) / "run"
        return out, train(small(name), out)

    return of


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_regime_leaves_a_complete_folder(name: str, trained: Trained) -> None:
    from transformers import AutoModelForCausalLM

    out, result = trained(name)
    records = metrics.read(out / "metrics.jsonl")
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    for record in records:
        assert record.keys() >= PROMISED
        assert (record["reward"] is None) == (name in ("sharpening", "tempered")) == (record["accuracy"] is None)
        assert record["engine_logprob_error"] < 1e-4
        assert record["seconds"].keys() >= {"rollout", "update", "push", "total"}
    assert result == json.loads((out / "evaluation.json").read_text())
    assert result.keys() >= {"base", "last", "best"}
    assert result["base"].keys() >= {"pass@1", "pass@1_interval", "pass@2", "maj@2", "response_length"}
    assert any((out / "tensorboard").iterdir())
    assert (out / "checkpoints" / "best").exists() == (result["best"]["step"] > 0)  # else it is the base
    for kept in ("last", "best") if result["best"]["step"] else ("last",):
        model = AutoModelForCausalLM.from_pretrained(out / "checkpoints" / kept)
        assert sum(p.numel() for p in model.parameters()) > 0


def test_first_step_statistics_of_an_untrained_policy(tmp_path: Path) -> None:
    """Before any update the policy is the reference: no KL, slope one, pseudo-rewards of the closed form."""
    train(small("tempered", steps=1), tmp_path / "run")
    (record,) = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert record["kl_ref"] == pytest.approx(0.0, abs=1e-4)
    assert record["effective_alpha"] == pytest.approx(1.0, abs=1e-4)
    assert record["pseudo_reward"] == pytest.approx(record["ref_logprob"], abs=1e-3)  # (2 - 1) log p


def test_a_steps_numbers_by_hand() -> None:
    """Two prompts with two samples each; tokens count once in the entropy, sequences in the KL."""
    rows = [
        Row(-2.0, -3.0, 2, True, 1.0, 0.5, 3.0, 0.5),
        Row(-5.0, -5.0, 6, False, 0.0, 1.5, 1.0, -0.5),
        Row(-1.0, -2.0, 1, True, 1.0, 2.0, 0.5, 0.0),
        Row(-4.0, -8.0, 3, True, 1.0, 0.0, 1.5, 0.0),
    ]
    found = sample_metrics(rows, 2, "task")
    expected = {"reward": 0.75, "accuracy": 0.75, "pseudo_reward": 1.0, "response_length": 3.0, "finished": 0.75}
    expected |= {"entropy": 6.0 / 12, "kl_ref": (1.0 + 0.0 + 1.0 + 4.0) / 4, "ref_logprob": -4.5}
    # Within prompts log p is +-1 and +-3, log pi +-1.5 and +-1.5, the difference +-0.5 and 0.
    expected |= {"effective_alpha": (2 * 1.5 + 2 * 4.5) / 20, "effective_alpha_reliability": 1 - 0.5 * 0.5 / 20}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["effective_alpha_fixed_length"] is None  # no two samples of a prompt are equally long
    assert sample_metrics(rows, 2, "majority")["accuracy"] is None


class Beside(World):
    """One of two processes; the other one has the same samples."""

    def gather(self, items: list[Any]) -> list[Any]:
        return items + items


@pytest.mark.parametrize("world", [World(), Beside()])
def test_engine_and_trainer_by_hand(world: World) -> None:
    """Differences .5 and -.1 of two tokens, 1 of another response's one; the second sequence's ratio e is capped."""
    trainer = torch.tensor([[-1.0, -2.0], [-1.0, 0.0]], dtype=torch.float64)
    off = torch.tensor([[0.5, -0.1], [1.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    found = mismatch_metrics(importance_weights(trainer, trainer - off, mask, 2.0, "sequence"), world)
    expected = {"engine_logprob_error": 1.0, "engine_logprob_error_mean": 1.6 / 3, "engine_kl": -1.4 / 3}
    expected |= {"importance_max": math.e, "importance_capped": 1 / 2}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path, trained: Trained) -> None:
    first, _ = trained("tilted")
    train(small("tilted"), tmp_path / "again")
    assert_same_run(first, tmp_path / "again")
    train(small("tilted", seed=1), tmp_path / "other")
    assert not torch.equal(*(last_weights(out)["model.norm.weight"] for out in (first, tmp_path / "other")))


@pytest.mark.parametrize("reference", ["policy", "refresh:2"])
def test_moving_references(reference: str, tmp_path: Path) -> None:
    objective = preset("tempered", reference=reference)
    train(small(objective.to_dict(), steps=5), tmp_path / "run")
    gaps = [abs(record["kl_ref"]) for record in metrics.read(tmp_path / "run" / "metrics.jsonl")]
    fresh = range(5) if reference == "policy" else (0, 2, 4)
    assert all(gaps[step] < 1e-4 for step in fresh)
    if reference == "refresh:2":
        assert min(gaps[1], gaps[3]) > 1e-4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small("tilted", steps=6), out)
    return out


class KilledError(RuntimeError):
    pass


@pytest.mark.parametrize("reference", ["frozen", "refresh:3"])
def test_a_killed_run_continues_to_the_same_weights(reference: str, undisturbed: Path, tmp_path: Path) -> None:
    from sharpen.llm.training.run import Report

    config = small(preset("tilted", reference=reference).to_dict(), steps=6)
    whole = undisturbed
    if reference != "frozen":
        whole = tmp_path / "whole"
        train(config, whole)

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 4:  # the newest checkpoint is that of four updates
            raise KilledError

    with pytest.raises(KilledError):
        train(config, tmp_path / "parts", report=Report(step=die))
    train(config, tmp_path / "parts")
    assert_same_run(whole, tmp_path / "parts")


SIGNALLED = [*FLAGS, "--steps", "6", "--engine", "transformers", "--preset", "tilted"]
SIGNALLED += ["--learning-rate", "1e-3", "--set", "optimizer.warmup_steps=0"]
# The command, which at the beginning of one step waits until the signal has been sent: it comes at the same place on
# every machine.
WAITING = """
import sys, time
from pathlib import Path
from sharpen.cli.main import main
from sharpen.llm.training.trainer import Trainer

at, sent, step = int(sys.argv.pop(1)), Path(sys.argv.pop(1)), Trainer.step

def late(trainer):
    while trainer.step_index == at and not sent.exists():
        sent.with_name("begun").touch()
        time.sleep(0.02)
    return step(trainer)

Trainer.step = late
main()
"""


def wait_for_steps(number: int, out: Path, steps: int, begun: Path) -> None:
    """Wait until the steps are recorded and the next one has begun: in between their checkpoint is still written."""
    for _ in range(1200):
        if begun.exists() and len(metrics.read(out / "metrics.jsonl")) >= steps:
            return
        assert psutil.pid_exists(number), "the run has ended"
        time.sleep(0.1)
    raise AssertionError("no progress in two minutes")


def in_this_process(out: Path) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", "--out", str(out), *SIGNALLED])
    assert exited.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("signalled", "at"), [(signal.SIGINT, 2), (signal.SIGKILL, 3)])
def test_a_signal_loses_nothing_that_was_saved(
    signalled: signal.Signals, at: int, undisturbed: Path, tmp_path: Path, model_forks: Forks
) -> None:
    """Ctrl-C leaves a checkpoint off the schedule, of three updates; a kill in the fourth step loses the third."""
    out, sent = tmp_path / "parts", tmp_path / "sent"
    command = [str(at), str(sent), "llm", "train", "--out", str(out), *SIGNALLED]
    number = model_forks.begin(WAITING, *command, environment=os.environ | {"CI": "1"})
    wait_for_steps(number, out, at, tmp_path / "begun")
    os.kill(number, signalled)
    sent.touch()
    done = model_forks.end()
    assert done.returncode == (130 if signalled == signal.SIGINT else -signalled)
    assert "Traceback" not in done.stderr
    assert not (out / "evaluation.json").exists()
    newest = max(path.name for path in (out / "checkpoints").glob("step_*"))
    assert newest == ("step_000003" if signalled == signal.SIGINT else "step_000002")
    in_this_process(out)
    assert_same_run(undisturbed, out)


def test_a_finished_run_is_left_alone(trained: Trained) -> None:
    notes: list[str] = []
    from sharpen.llm.training.run import Report

    out, first = trained("task-reward")
    stamp = (out / "metrics.jsonl").stat().st_mtime_ns
    assert train(small(), out, report=Report(note=notes.append)) == first
    assert (out / "metrics.jsonl").stat().st_mtime_ns == stamp
    assert "nothing to do" in notes[0]


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_rollouts_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", *FLAGS, "--engine", "vllm", "--out", str(tmp_path / "run"), "--json"])
    assert exited.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() >= {"base", "last", "best"}
    for record in metrics.read(tmp_path / "run" / "metrics.jsonl"):
        assert 0.0 < record["engine_logprob_error"] < 1e-4  # two implementations, one policy, after every update


EVERY_DATA = ("--data", "--eval-data", "--eval-selection-data")
BAD_INPUT = [
    (["--preset", "sharp"], "preset: got 'sharp'"),
    (["--alpha", "nan"], "alpha: got nan"),
    (["--mode", "foo"], "mode: got 'foo'"),
    (["--model", "gpt-17"], "model"),
    (["--model", "/nonexistent/model"], "model"),
    (["--model", "qwen2.5-3b"], "DigitalLearningGmbH/MATH-lighteval"),
    (["--model", "qwen2.5-3b", *[word for name in EVERY_DATA for word in (name, "embedded")]], "model: got"),
    (["--data", "/nonexistent.jsonl"], "data"),
    (["--steps", "0"], "steps: got 0"),
    (["--steps", "many"], "steps: got 'many'"),
    (["--samples-per-prompt", "1"], "samples_per_prompt: got 1"),
    (["--max-length", "4"], "max_length: got 4"),
    (["--engine", "sglang"], "engine: got 'sglang'"),
    (["--config", "/nonexistent.yaml"], "config"),
    (["--out", "/proc/nowhere"], "out: got '/proc/nowhere'"),
    (["--no-such-flag"], "--no-such-flag"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_INPUT, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_bad_input_is_one_line_and_status_two(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", "--out", str(tmp_path / "run"), "--engine", "transformers", *flags])
    error = capsys.readouterr().err
    assert exited.value.code == 2
    several = re.match(r"error: (\d) things are missing or wrong\n", error)  # told together, numbered, below that line
    assert error.count("\n") == 1 if several is None else f"\n  {several[1]}. " in error, error
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "run").exists()
