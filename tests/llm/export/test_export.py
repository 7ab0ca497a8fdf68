"""Exports load with ``from_pretrained``, hold the weights they should, and never half a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.configs.train import resolve as resolve_config
from sharpen.llm.export import folder as exporting
from sharpen.llm.export.card import CARD, card
from sharpen.llm.export.folder import EXPORT, export
from sharpen.llm.models.registry import load_model, resolve
from sharpen.objective import InputError, preset

SOURCE = resolve("embedded")
PROMPT = torch.tensor([[5, 6, 7, 8]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(PROMPT).logits


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A folder with an adapter of peft's that changes the model, and the adapted model's logits."""
    torch.manual_seed(0)
    model = get_peft_model(
        load_model(SOURCE, "cpu", "float32"),
        LoraConfig(r=4, lora_alpha=12.0, target_modules="all-linear", init_lora_weights=False),  # type: ignore[arg-type]
    )
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter", logits(model)


def test_an_export_loads_and_is_the_model(tmp_path: Path) -> None:
    told = export("embedded", tmp_path / "out")
    assert (told["dtype"], told["base"]) == ("float32", None)
    assert told["files"].keys() >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert not [name for name in told["files"] if name.endswith((".bin", ".pt", ".pkl"))]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(load_model(SOURCE, "cpu", "float32")))
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")("12+34+56=")["input_ids"]
    assert tokens == AutoTokenizer.from_pretrained(SOURCE.location)("12+34+56=")["input_ids"]
    assert json.loads((tmp_path / "out" / EXPORT).read_text()) == told
    assert not (tmp_path / "out.part").exists()
    assert "No training run of sharpen belongs to it" in (tmp_path / "out" / CARD).read_text()


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_weights_are_rounded_once_to_the_dtype_asked_for(dtype: str, kind: torch.dtype, tmp_path: Path) -> None:
    export("embedded", tmp_path / "out", dtype=dtype)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    original = load_file(Path(SOURCE.location) / "model.safetensors")
    assert stored.keys() == original.keys()
    assert all(torch.equal(stored[name], weight.to(kind)) for name, weight in original.items())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == kind


def test_an_adapter_is_merged(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, expected = adapter
    told = export(str(folder), tmp_path / "out", base="embedded")
    assert told["base"] == SOURCE.location
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged, logits(load_model(SOURCE, "cpu", "float32")), atol=0.1)
    export(str(folder), tmp_path / "again")  # the adapter names its base itself
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "again")), merged)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="a LoRA adapter of the base model"):
        export(str(folder), tmp_path / "torn")
    assert not (tmp_path / "torn").exists()


def test_nothing_in_the_way_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(InputError, match="new or empty folder"):
            export("embedded", tmp_path / "notes", force=force)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"
    export("embedded", tmp_path / "out")
    with pytest.raises(InputError, match="new or empty folder"):
        export("embedded", tmp_path / "out", dtype="bfloat16")
    assert export("embedded", tmp_path / "out", dtype="bfloat16", force=True)["dtype"] == "bfloat16"


def test_only_what_an_export_wrote_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "f").write_text("p")
    export("embedded", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part"]  # no lock, nothing half written
    assert (tmp_path / "out.part" / "f").read_text() == "p"
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"no export wrote; this one has notes\.txt"):
        export("embedded", tmp_path / "out", force=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_link_to_another_disk_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/model")
    export("embedded", tmp_path / "out")
    export("embedded", tmp_path / "out", dtype="bfloat16", force=True)
    assert (tmp_path / "out").is_symlink()
    assert json.loads((tmp_path / "disk" / "model" / EXPORT).read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("out", ["/proc/nowhere/out", "x" * 5000, "a_file/out"])
def test_places_that_cannot_be_written_are_told_before_the_model_is_loaded(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("mine")
    monkeypatch.setattr(exporting, "_loaded", None)
    with pytest.raises(InputError, match=r"^out: got .*a place that can be written"):
        export("embedded", tmp_path / out)


def test_what_does_not_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, part = load_model(SOURCE, "cpu", "float32"), tmp_path / "out.part"
    export("embedded", part)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match=r"q_proj.*came back other"):
        exporting._check_written(model, part, part)


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, field in (
        (["--model", "nowhere"], "model"),
        (["--model", "embedded", "--dtype", "int8"], "dtype"),
        (["--model", "embedded", "--checkpoint", "best"], "checkpoint"),
        (["--model", "embedded", "--base", "embedded"], "base"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["llm", "export", "--out", str(tmp_path / "out"), *arguments])
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {field}")
    with pytest.raises(SystemExit) as stop:
        main(["llm", "pretrain", "--out", str(tmp_path / "new"), "--hidden", "100"])
    assert stop.value.code == 2
    assert "a multiple of 32" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def trained(run: Path, model: str = "smollm2") -> TrainConfig:
    """Write what a finished run leaves beside its weights, its numbers made up for the test."""
    import yaml

    config = resolve_config({"model": model, "steps": 4, "seed": 7, "objective": preset("tempered").to_dict()})
    folder = run / "checkpoints" / "step_000004"
    folder.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    steps = [{"step": n, "kl_ref": None if n == 3 else n / 8} for n in range(4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps))
    row = {"problems": 12, "samples": 4, "pass@1": 0.25, "pass@1_interval": [0.125, 0.5], "maj@4": 0.375}
    row |= {"maj@4_interval": [0.25, 0.625], "response_length": 9.04, "finished": 1.0}
    last = row | {"pass@1": 0.75, "pass@1_interval": [0.625, 0.875], "step": 4}
    alpha = {"prompts": 3, "target": 2.0, "policy": {"slope": 1.5, "low": 1.25, "high": 1.75}, "base": {}}
    told = {"base": row | {"step": 0}, "last": last, "best": last, "effective_alpha": alpha, "labels": {"any": True}}
    (run / "evaluation.json").write_text(json.dumps(told))
    return config


def test_a_card_says_what_a_checkpoint_is_and_how_far_it_sharpened(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    text = card("runs/mine", str(tmp_path / "run" / "checkpoints" / "step_000004"), None, "float32", 1234)
    for part in (
        "# mine",
        "| base | smollm2 |",
        "| objective | tempered: alpha 2.0, ",
        "none: no label was read in training",
        "| learner | rloo, ",
        "| updates | 4 of 4, ",
        "| seed | 7 |",
        "12 held-out problems",
        "| pass@1 | 0.250 [0.125, 0.500] | 0.750 [0.625, 0.875] |",
        "| maj@4 | 0.375 [0.250, 0.625] | 0.375 [0.250, 0.625] |",
        "Labels were used",
        "KL(π‖base) = 0.250 nats a sequence, mean over the rollouts after 2 updates.",
        "Effective alpha = 1.50 [1.25, 1.75]",
        "1,234 parameters in float32",
    ):
        assert part in text
    assert str(tmp_path) not in text  # no folder of this machine


def test_a_card_says_what_was_not_measured(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    place = str(tmp_path / "run" / "checkpoints" / "step_000002")
    assert "was not evaluated" in card("x", place, None, "float32", 1)
    (tmp_path / "run" / "evaluation.json").unlink()
    (tmp_path / "run" / "metrics.jsonl").unlink()
    text = card("x", place, None, "float32", 1)
    assert "was not evaluated" in text
    assert "KL(π‖base) was not measured." in text
    assert "effective alpha was not measured" in text


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    trained(tmp_path / "run", "qwen2.5-3b")
    text = card("x", str(tmp_path / "run" / "checkpoints" / "step_000004"), None, "bfloat16", 1)
    data = ModelCard(text).data.to_dict()
    assert tuple(data[name] for name in ("base_model", "library_name", "tags")) == (
        "Qwen/Qwen2.5-3B-Instruct",
        "transformers",
        ["sharpen"],
    )


def test_a_push_says_what_it_would_send_and_sends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*given: Any) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["llm", "export", "--model", "embedded", "--out", str(out), "--push", "me/mine", "--json"])
    assert stop.value.code == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema_of("llm export"))
    upload = told["upload"]
    assert upload["files"].keys() >= {"model.safetensors", "config.json", "tokenizer.json", CARD, EXPORT}
    assert all(size == len((out / name).read_bytes()) for name, size in upload["files"].items())
    assert upload["bytes"] == sum(upload["files"].values())
    assert upload["command"] == f"hf upload me/mine {out} --repo-type model"
    for name in ("mine", "me/mine/x", "me/..", "me/a b"):
        with pytest.raises(SystemExit) as stop:
            main(["llm", "export", "--model", "embedded", "--out", str(tmp_path / "no"), "--push", name])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: push: got ")
