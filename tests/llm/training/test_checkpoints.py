"""Checkpoints that are torn, truncated or foreign are refused; LoRA and bfloat16 runs come back to where they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm.configs.targets import find_target
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.training import checkpoint, metrics, run
from sharpen.llm.training.run import Report, train
from sharpen.objective import InputError, preset
from sharpen.objective.storage import files

SMALL: dict[str, Any] = {
    "steps": 4,
    "problems": 32,
    "prompts_per_step": 2,
    "max_length": 32,
    "samples_per_prompt": 4,
    "checkpoint_every": 2,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 1},
}
LEAST = {"problems": 1, "samples": 1, "alpha_prompts": 0}  # an evaluation of which a test says nothing


class KilledError(RuntimeError):
    pass


def small(**changes: Any) -> TrainConfig:
    return resolve({**SMALL, "objective": preset("tempered").to_dict(), **changes})


def die_at(step: int) -> Report:
    def die(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise KilledError

    return Report(step=die)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("killed") / "run"
    with pytest.raises(KilledError):
        train(small(), out, report=die_at(2))
    return out


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def scramble(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def zero(file: Path) -> None:
    """Zeros in the middle, of the same size: what a disk gives back after a crash."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    file.write_bytes(content)


DAMAGE = {
    "zeros in the weights": lambda at: zero(at / "model.safetensors"),
    "zeros in the optimizer": lambda at: zero(at / "trainer" / "optimizer.safetensors"),
    "no trainer state": lambda at: shutil.rmtree(at / "trainer"),
    "no config": lambda at: (at / "config.json").unlink(),
    "no listing": lambda at: (at / files.LISTING).unlink(),
    "truncated optimizer": lambda at: truncate(at / "trainer" / "optimizer.safetensors"),
    "scrambled optimizer": lambda at: scramble(at / "trainer" / "optimizer.safetensors"),
    "missing optimizer": lambda at: (at / "trainer" / "optimizer.safetensors").unlink(),
    "truncated weights": lambda at: truncate(at / "model.safetensors"),
    "torn manifest": lambda at: truncate(at / "trainer" / "trainer.json"),
    "a manifest that is a list": lambda at: (at / "trainer" / "trainer.json").write_text("[]"),
    "missing manifest": lambda at: (at / "trainer" / "trainer.json").unlink(),
    "another format": lambda at: edit(at / "trainer" / "trainer.json", format=99),
    "another step": lambda at: edit(at / "trainer" / "trainer.json", step=7),
    "a pickle": lambda at: (at / "trainer" / "trainer.json").write_bytes(b"\x80\x04cos\nsystem\n."),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damaged_checkpoints_are_refused_in_one_line(name: str, killed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed, out)
    DAMAGE[name](out / "checkpoints" / "step_000002")
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"checkpoint: got .*step_000002.*starts at step 1") as refused:
        train(small(), out)
    assert "\n" not in str(refused.value)
    assert (out / "metrics.jsonl").read_bytes() == before


def equal_runs(one: Path, other: Path) -> None:
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [metrics.read(out / "metrics.jsonl") for out in (one, other)]
    for a, b in zip(*records, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    assert (one / "evaluation.json").read_bytes() == (other / "evaluation.json").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train(small(), out)
    return out


def test_an_older_intact_checkpoint_is_gone_on_from_and_said(
    killed: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the writing of a checkpoint and the dropping of the older one's state."""
    out, notes = tmp_path / "run", []
    shutil.copytree(killed, out)
    monkeypatch.setattr(files, "remove_listed", lambda *_: None)
    monkeypatch.setattr(run, "evaluate_run", lambda *_: {})
    train(small(), out)  # to step 4; the state of step 2 is still there
    monkeypatch.undo()
    zero(out / "checkpoints" / "step_000004" / "trainer" / "optimizer.safetensors")
    train(small(), out, report=Report(note=notes.append))
    (said,) = [note for note in notes if "damaged" in note]
    assert "trainer/optimizer.safetensors is not what was written" in said
    assert "going on from step_000002" in said
    equal_runs(whole, out)


def test_a_run_without_checkpoints_says_that_it_starts_again(killed: Path, whole: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "run", []
    shutil.copytree(killed, out)
    shutil.rmtree(out / "checkpoints" / "step_000002")
    train(small(), out, report=Report(note=notes.append))
    assert any("starting at step 1 again" in note for note in notes)
    equal_runs(whole, out)


@pytest.mark.parametrize("content", [None, b'{"base": {', b"[" * 100_000])
def test_measuring_again_gives_the_same_file(content: bytes | None, whole: Path, tmp_path: Path) -> None:
    """Also after the checkpoints that were not chosen have been deleted."""
    out, notes = tmp_path / "run", []
    shutil.copytree(whole, out, symlinks=True)
    if content is None:
        (out / "evaluation.json").unlink()
    else:
        (out / "evaluation.json").write_bytes(content)
    train(small(), out, report=Report(note=notes.append))
    assert any("damaged; measuring again" in note for note in notes) == (content is not None)
    equal_runs(whole, out)


def test_a_checkpoint_that_changed_is_not_measured(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out, symlinks=True)
    (out / "evaluation.json").unlink()
    zero((out / "checkpoints" / "last").resolve() / "model.safetensors")
    for act in (lambda: train(small(), out), lambda: find_target(str(out))):
        with pytest.raises(InputError, match=r"model\.safetensors is not what was written"):
            act()


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"step": "x"}', b"\xff", b"[" * 100_000, b"{}"])
def test_damaged_metrics_are_refused_with_their_line(line: bytes, killed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed, out)
    file = out / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([line, *lines]))
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"^metrics: got '.*metrics\.jsonl:1'"):
        train(small(), out)
    assert file.read_bytes() == before


def test_lost_metrics_are_told(killed: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "run", []
    shutil.copytree(killed, out)
    truncate(out / "metrics.jsonl")  # of the step after the checkpoint: nothing is lost
    lines = (out / "metrics.jsonl").read_bytes().split(b"\n")
    (out / "metrics.jsonl").write_bytes(b"\n".join(lines[1:]))
    train(small(), out, report=Report(note=notes.append))
    assert any("no record of 1 of 2 earlier steps" in note for note in notes)
    assert [record["step"] for record in metrics.read(out / "metrics.jsonl")] == [1, 2, 3]


def test_a_disk_that_is_full_at_a_checkpoint_costs_the_steps_since_the_last(
    whole: Path, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    out = tmp_path / "run"
    with full_disk(500_000), pytest.raises(InputError, match=r"step_000002.*File too large") as refused:
        train(small(), out)
    assert "\n" not in str(refused.value)
    assert not [path for path in out.rglob("*") if path.name.endswith((".part", ".lock"))]
    train(small(), out)
    equal_runs(whole, out)


def test_a_foreign_model_is_refused(killed: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    out = tmp_path / "run"
    shutil.copytree(killed, out)
    file = out / "checkpoints" / "step_000002" / "trainer" / "optimizer.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    tensors["x" + name[1:]] = tensors.pop(name)  # the same bytes under another parameter's name
    save_file(tensors, file)
    listing = files.listing(file.parents[1])
    (file.parents[1] / files.LISTING).write_text(json.dumps(listing))  # by a hand that knows the hashes
    with pytest.raises(InputError, match="parameters do not match"):
        train(small(), out)


def test_a_folder_without_its_name_is_no_checkpoint(killed: Path, tmp_path: Path) -> None:
    """What a kill leaves while a checkpoint is written is ignored."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(killed / "checkpoints", folder)
    shutil.copytree(folder / "step_000002", folder / ".step_000004.0123456789ab.part")
    found = checkpoint.to_continue(folder)
    assert found == (folder / "step_000002", [])


@pytest.mark.parametrize("fields", [{"lora": {"rank": 4}}, {"dtype": "bfloat16"}], ids=["lora", "bfloat16"])
def test_runs_whose_files_are_rounded_continue_exactly(fields: dict[str, Any], tmp_path: Path) -> None:
    """Merged adapters and bfloat16 files cannot give back what was trained; the trainer's state can."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = small(**fields, evaluation=LEAST)
    train(config, whole)
    with pytest.raises(KilledError):
        train(config, parts, report=die_at(2))
    train(config, parts)
    a, b = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    records = [metrics.read(out / "metrics.jsonl") for out in (whole, parts)]
    for first, second in zip(*records, strict=True):
        assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}


def test_lora_trains_adapters_only_and_exports_a_plain_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from sharpen.llm.models.registry import artifact_path

    train(small(lora={"rank": 2}, evaluation=LEAST), tmp_path / "run")
    base = AutoModelForCausalLM.from_pretrained(str(artifact_path())).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoints" / "last").state_dict()
    assert base.keys() == trained.keys()
    moved = {name for name in base if not torch.equal(base[name], trained[name])}
    linear = {name for name in base if name.endswith("proj.weight")}
    assert moved
    assert moved <= linear
    for name in moved:
        rank = torch.linalg.matrix_rank(trained[name] - base[name], rtol=1e-4)
        assert 1 <= int(rank) <= 2


@pytest.mark.parametrize("kind", ["grpo", "ppo", "dapo", "reinforce", "tb", "tb-batch", "unlikeliness", "best-of-n"])
def test_every_learner_trains(kind: str, tmp_path: Path) -> None:
    objective = preset("tilted", beta_inv=2.0) if kind == "dapo" else preset("tempered")
    epochs = 2 if kind in ("ppo", "dapo", "tb", "tb-batch", "grpo") else 1
    length = 64 if kind == "dapo" else 32  # responses of one reward alone teach it nothing
    learner = {"kind": kind, "epochs": epochs}
    changes = {"objective": objective.to_dict(), "steps": 2, "max_length": length, "evaluation": LEAST}
    train(small(learner=learner, **changes), tmp_path / "run")
    for record in metrics.read(tmp_path / "run" / "metrics.jsonl"):
        assert record["gradient_norm"] > 0 or record.get("groups") == 1
        assert ("rollout_rounds" in record) == (kind == "dapo")


@pytest.mark.parametrize("kind", ["format", "majority", "random", "self_certainty", "negative_entropy", "inverted"])
def test_every_reward_trains(kind: str, tmp_path: Path) -> None:
    config = small(reward={"kind": kind}, objective=preset("task-reward").to_dict(), steps=1, evaluation=LEAST)
    train(config, tmp_path / "run")
    (record,) = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert record["reward"] is not None
    assert record["accuracy"] is None
