"""A run whose dtype or engine the machine chose goes on with those that it began with, wherever it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed import placement
from sharpen.llm.training import run as running
from sharpen.llm.training.checkpoint import stored_dtype
from sharpen.llm.training.run import train
from sharpen.llm.training.trainer import Trainer
from sharpen.objective.storage import runfolder


def run_of(steps: int) -> TrainConfig:
    evaluation = {"problems": 2, "samples": 1, "alpha_prompts": 0, "choose_by": "last"}
    fields = {"steps": steps, "prompts_per_step": 2, "samples_per_prompt": 2, "max_length": 32, "checkpoint_every": 1}
    return resolve({**fields, "engine": "transformers", "device": "cpu", "evaluation": evaluation})


def told(out: Path) -> str:
    return json.loads((out / runfolder.PROVENANCE).read_text(encoding="utf-8"))["dtype"]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_goes_on_in_the_dtype_it_began_with(
    recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(placement, "gains_by_bfloat16", lambda model: True)
    step = Trainer.step

    def stops(trainer: Trainer) -> Any:
        if trainer.step_index == 1:
            raise RuntimeError("the machine went down")
        return step(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", stops)
        with pytest.raises(RuntimeError, match="went down"):
            train(run_of(2), out)
    assert (told(out), stored_dtype(out / "checkpoints")) == ("bfloat16", "bfloat16")
    if not recorded:  # as folders of before have it
        file = out / runfolder.PROVENANCE
        known = json.loads(file.read_text(encoding="utf-8"))
        del known["dtype"]
        file.write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(placement, "gains_by_bfloat16", lambda model: False)
    train(run_of(2), out)
    assert (out / "checkpoints" / "step_000002").is_dir()
    assert (told(out), stored_dtype(out / "checkpoints")) == ("bfloat16", "bfloat16")


@pytest.mark.parametrize(
    ("asked", "began", "installed", "expected"),
    [
        ("auto", "vllm", True, "vllm"),
        ("auto", "transformers", True, "transformers"),
        ("auto", "vllm", False, "auto"),  # which is transformers then
        ("auto", None, True, "auto"),
        ("transformers", "vllm", True, "transformers"),
    ],
)
def test_a_run_goes_on_with_the_engine_it_began_with(
    asked: str, began: str | None, installed: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two engines sample different responses at one seed."""
    known = {} if began is None else {"engine": began}
    (tmp_path / runfolder.PROVENANCE).write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(running, "vllm_available", lambda: installed)
    config = resolve({"engine": asked, "dtype": "float32"})
    assert running._as_begun(config, tmp_path).engine == expected


def test_without_a_checkpoint_there_is_no_dtype(tmp_path: Path) -> None:
    assert stored_dtype(tmp_path / "checkpoints") is None


@pytest.mark.parametrize(("lora", "device", "dtype"), [(None, "cpu", "bfloat16"), ({"rank": 4}, "cpu", "float32")])
def test_adapters_on_a_cpu_compute_in_float32(
    lora: dict[str, int] | None, device: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "gains_by_bfloat16", lambda model: True)
    config = resolve({"lora": lora, "device": device})
    assert placement.placement(config) == (device, dtype)
    assert placement.placement(resolve({"lora": lora, "device": "cuda"})) == ("cuda", "bfloat16")
    assert placement.placement(resolve({"lora": lora, "device": device, "dtype": "bfloat16"})) == (device, "bfloat16")
