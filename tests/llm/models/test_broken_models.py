"""A model's folder that is not whole is refused in one line, which says what is wrong; none of it is computed with."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from sharpen.cli.main import main
from sharpen.llm.export.folder import export
from sharpen.llm.models.registry import ModelSource, artifact_path, load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.objective import InputError

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
GATE, EMBEDDING = "model.layers.0.mlp.gate_proj.weight", "model.embed_tokens.weight"
Weights = dict[str, torch.Tensor]


class Break(NamedTuple):
    """One way to break a folder.

    Args:
        name: For a test's id.
        apply: Does it to a whole folder.
        told: Part of the message, a regular expression.
    """

    name: str
    apply: Callable[[Path], object]
    told: str


def broken(folder: Path, apply: Callable[[Path], object]) -> Path:
    """Return a copy of the embedded model's folder after ``apply``."""
    shutil.copytree(artifact_path(), folder)
    apply(folder)
    return folder


def config(**changes: object) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(content))

    return apply


def weights(change: Callable[[Weights], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def data(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def without_layer(tensors: Weights) -> None:
    for name in [name for name in tensors if ".layers.2." in name]:
        del tensors[name]


def with_value(value: float) -> Callable[[Weights], object]:
    def change(tensors: Weights) -> None:
        tensors[GATE][3, 4] = value

    return change


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


class Payload:
    """What a hostile pickle runs when it is opened: it leaves a file beside itself."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.file),)


def hostile_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Payload(folder / "ran")}))


def in_shards(weight_map: object) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        names = list(load_file(folder / WEIGHTS))
        (folder / WEIGHTS).rename(folder / "model-1.safetensors")
        places = dict.fromkeys(names, weight_map) if isinstance(weight_map, str) else weight_map
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    return apply


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / TOKENIZER).read_text())
        change(content)
        (folder / TOKENIZER).write_text(json.dumps(content))

    return apply


def no_files(folder: Path) -> None:
    for name in (TOKENIZER, "tokenizer_config.json"):
        (folder / name).unlink()


NOT_JSON = {"a list": "[]", "null": "null", "garbage": "{{{", "nothing": "", "deep": "[" * 10**5, "long": "9" * 6000}
TRUNCATED = "cannot be read: .*(header|metadata)"
MODELS = [
    Break("12 tensors missing", weights(without_layer), r"12 tensors \(model\.layers\.2\..*\) missing"),
    Break("one tensor missing", weights(lambda held: held.pop(GATE)), rf"1 tensor \({GATE}\) missing"),
    Break(
        "one too many", weights(lambda held: held.update(extra=torch.zeros(3))), r"1 tensor \(extra\) without a place"
    ),
    Break("a shape", weights(lambda held: held.update({GATE: torch.zeros(3, 5)})), rf"\({GATE}\) of another shape"),
    Break("NaN", weights(with_value(float("nan"))), rf"NaN or infinite as float32: 1 tensor \({GATE}\)"),
    Break("infinity", weights(with_value(float("-inf"))), rf"NaN or infinite as float32: 1 tensor \({GATE}\)"),
    Break(
        "whole numbers", weights(lambda held: held.update({GATE: held[GATE].to(torch.int8)})), rf"no floating.*{GATE}"
    ),
    Break(
        "a head of its own",
        weights(lambda held: held.update({"lm_head.weight": -held[EMBEDDING]})),
        "ties embedding and head, the weights hold two different ones",
    ),
    Break("bert", config(model_type="bert"), r"not those of BertLMHeadModel: \d+ tensors .* missing"),
    Break("another decoder", config(model_type="llama"), r"not those of LlamaForCausalLM: .*bias.* without a place"),
    Break("no decoder", config(model_type="t5"), "T5Config"),
    Break("unknown model", config(model_type="gpt17"), "model_type 'gpt17', which .* do not know"),
    Break("no model type", config(model_type=None), "model_type None"),
    Break("a list for a type", config(model_type=["qwen2"]), "model_type"),
    Break("activation", config(hidden_act="gulp"), "hidden_act 'gulp', which .* do not know"),
    Break("dtype", config(dtype="float99"), "dtype 'float99', which .* do not know"),
    Break("rotary embedding", config(rope_parameters={"rope_type": "spin", "rope_theta": 1e4}), "spin"),
    Break("text for a number", config(hidden_size="128"), "hidden_size"),
    Break("no layers", config(num_hidden_layers=-1, layer_types=None), "config.json, weights and tokenizer"),
    Break("a layer less", config(num_hidden_layers=2, layer_types=None), r"12 tensors .* without a place"),
    Break("a layer more", config(num_hidden_layers=4, layer_types=None), r"12 tensors .* missing"),
    Break(
        "10^9 layers", config(num_hidden_layers=10**9, layer_types=None), r"1e\+09 layers, the weights are 38 tensors"
    ),
    Break("10^12 tokens", config(vocab_size=10**12), r"describes 1\.28e\+14 parameters, the weights hold 6\.44e\+05"),
    Break("another number of heads", config(num_attention_heads=7), "of another shape"),
    Break(
        "foreign code", config(model_type="mine", auto_map={"AutoModelForCausalLM": "code.Model"}), "model_type 'mine'"
    ),
    Break("an adapter", text("adapter_config.json", "{}"), "merge it with `sharpen llm export`"),
    *(Break(f"config is {name}", text(CONFIG, content), CONFIG) for name, content in NOT_JSON.items()),
    *(
        Break(f"generation config is {name}", text("generation_config.json", content), "generation_config.json")
        for name, content in NOT_JSON.items()
    ),
    Break("no weights", gone(WEIGHTS), "no model.safetensors"),
    Break("half a file", data(lambda held: held[: len(held) // 2]), TRUNCATED),
    Break("an empty file", data(lambda held: b""), TRUNCATED),
    Break("four bytes", data(lambda held: held[:4]), TRUNCATED),
    Break("garbage", data(lambda held: b"\x01" * 999), TRUNCATED),
    Break("a broken header", data(lambda held: held[:8] + b"x" * 99 + held[107:]), TRUNCATED),
    Break("a huge header", data(lambda held: struct.pack("<Q", 2**60) + held[8:]), TRUNCATED),
    Break("bytes at the end", data(lambda held: held + b"more"), TRUNCATED),
    Break("a pickle", pickled, "pytorch_model.bin is a pickle.*not read"),
    Break("a hostile pickle", hostile_pickle, "pytorch_model.bin is a pickle.*not read"),
    Break("a shard is gone", in_shards("model-2.safetensors"), "model-2.safetensors cannot be read"),
    Break("shards without names", in_shards({GATE: None}), "no weight_map of file names"),
    Break("an index of nothing", in_shards(None), "no weight_map of file names"),
]
TOKENIZERS = [
    *(Break(f"tokenizer is {name}", text(TOKENIZER, content), TOKENIZER) for name, content in NOT_JSON.items()),
    *(
        Break(f"tokenizer config is {name}", text("tokenizer_config.json", content), "tokenizer_config.json")
        for name, content in NOT_JSON.items()
    ),
    Break("no tokenizer", gone(TOKENIZER), "no tokens for digits"),
    Break("no file of it", no_files, "tokenizer"),
    Break("an unknown kind", tokenizer(lambda held: held["model"].update(type="Guess")), "ModelUntagged"),
    Break("no vocabulary", tokenizer(lambda held: held["model"].update(vocab={})), "tokenizer"),
    Break("words for numbers", tokenizer(lambda held: held["model"].update(vocab={"1": "one"})), "TypeError"),
]
EOS = [
    Break("a word", text("generation_config.json", '{"eos_token_id": "stop"}'), "eos_token_id: got 'stop'"),
    Break("beyond the vocabulary", text("generation_config.json", '{"eos_token_id": [1, 999]}'), "got 999, .* 0 to 19"),
    Break("below it", text("generation_config.json", '{"eos_token_id": -5}'), "got -5, .* from 0 to 19"),
]


def names(breaks: list[Break]) -> list[str]:
    return [one.name for one in breaks]


def refusal(error: pytest.ExceptionInfo[InputError]) -> str:
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("case", MODELS, ids=names(MODELS))
def test_a_broken_model_is_refused(case: Break, tmp_path: Path) -> None:
    folder = broken(tmp_path / "model", case.apply)
    with pytest.raises(InputError, match=rf"^model: got .* allowed: .*{case.told}") as error:
        load_model(ModelSource("mine", str(folder)), "cpu", "float32")
    refusal(error)
    assert not (folder / "ran").exists()  # what a hostile pickle would have made


@pytest.mark.parametrize("case", TOKENIZERS, ids=names(TOKENIZERS))
def test_a_broken_tokenizer_is_refused(case: Break, tmp_path: Path) -> None:
    source = ModelSource("mine", str(broken(tmp_path / "model", case.apply)))
    with pytest.raises(InputError, match=rf"^model: got 'mine', allowed: .*{case.told}") as error:
        load_tokenizer(source)
    refusal(error)


@pytest.mark.parametrize("case", EOS, ids=names(EOS))
def test_an_end_of_sequence_that_no_model_could_say_is_refused(case: Break, tmp_path: Path) -> None:
    source = ModelSource("mine", str(broken(tmp_path / "model", case.apply)))
    model = load_model(source, "cpu", "float32")
    with pytest.raises(InputError, match=case.told) as error:
        make_engine("transformers", model=model, location=source.location, max_length=16, seed=0)
    refusal(error)


def test_whole_folders_in_other_forms_load(tmp_path: Path) -> None:
    """Shards, and a head that is stored beside the embedding that it is tied to, are no faults."""
    whole = load_model(resolve("embedded"), "cpu", "float32").state_dict()
    shards = broken(tmp_path / "shards", in_shards("model-1.safetensors"))
    twice = broken(
        tmp_path / "twice",
        weights(lambda held: held.update({"lm_head.weight": held["model.embed_tokens.weight"].clone()})),
    )
    for folder in (shards, twice):
        loaded = load_model(ModelSource("mine", str(folder)), "cpu", "float32").state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in whole.items())


def test_weights_that_a_dtype_cannot_hold_are_refused_in_it(tmp_path: Path) -> None:
    folder = broken(tmp_path / "model", weights(lambda held: held["model.norm.weight"].fill_(1e5)))
    source = ModelSource("mine", str(folder))
    load_model(source, "cpu", "bfloat16")
    with pytest.raises(InputError, match=r"NaN or infinite as float16: 1 tensor \(model\.norm\.weight\)"):
        load_model(source, "cpu", "float16")


COMMANDS = [
    ("export", "transformers"),
    *((name, "transformers") for name in ("train", "eval", "sample")),
    *(pytest.param(name, "vllm", marks=pytest.mark.vllm) for name in ("train", "eval", "sample")),
]


@pytest.mark.parametrize("case", ["12 tensors missing", "a shape", "NaN"])
@pytest.mark.parametrize(("command", "engine"), COMMANDS)
def test_every_command_refuses_it(
    command: str, engine: str, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one line that names the tensors, before vLLM is started, which takes a minute; no folder is left behind."""
    wrong = next(one for one in MODELS if one.name == case)
    folder = broken(tmp_path / "model", wrong.apply)
    arguments = ["llm", command, "--model", str(folder), "--out", str(tmp_path / "out")]
    if command != "export":
        arguments += ["--data", "embedded", "--template", "plain", "--engine", engine]
    if command == "train":
        arguments += ["--eval-data", "embedded"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.search(wrong.told, line), line
    assert not (tmp_path / "out").exists()


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = broken(tmp_path / "model", config(auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load_model(ModelSource("mine", str(folder)), "cpu", "float32")  # by transformers' own class
    assert not (tmp_path / "ran").exists()


def test_prompts_of_another_models_tokenizer_are_refused() -> None:
    model = load_model(resolve("embedded"), "cpu", "float32")
    engine = make_engine("transformers", model=model, location="", max_length=16, seed=0)
    for token in (20, -1):
        with pytest.raises(InputError, match=rf"^prompt 1: got {token}, allowed: tokens from 0 to 19, the model's"):
            engine.generate([[5], [5, token]], 1, Sampling(4), 0)


def test_an_adapter_beside_a_config_does_not_lead_to_another_model(tmp_path: Path) -> None:
    """transformers would load the model that the adapter names, and nothing of this folder."""
    folder = broken(tmp_path / "model", lambda where: None)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    assert (folder / CONFIG).is_file()
    with pytest.raises(InputError, match="an adapter of another model"):
        load_model(ModelSource("mine", str(folder)), "cpu", "float32")


ADAPTERS = [
    ("one tensor missing", lambda held: held.pop(next(iter(held))), r"1 tensor \(.*lora_A.*\) missing"),
    ("one too many", lambda held: held.update(extra=torch.zeros(3)), r"1 tensor \(extra\) without a place"),
    (
        "NaN",
        lambda held: held.update({next(iter(held)): next(iter(held.values())) * torch.nan}),
        "NaN .* in the adapter",
    ),
    ("a shape", lambda held: held.update({next(iter(held)): torch.zeros(9, 9)}), "size mismatch|Error"),
    (
        "whole numbers",
        lambda held: held.update({next(iter(held)): torch.ones(2, 128, dtype=torch.int8)}),
        "no floating",
    ),
]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("lora") / "adapter"
    model = load_model(resolve("embedded"), "cpu", "float32")
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)  # type: ignore[arg-type]
    get_peft_model(model, lora).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(("change", "told"), [case[1:] for case in ADAPTERS], ids=[case[0] for case in ADAPTERS])
def test_a_broken_adapter_is_not_merged(
    change: Callable[[Weights], object], told: str, adapter: Path, tmp_path: Path
) -> None:
    """peft fills what an adapter lacks with its initial numbers, and says so in a warning."""
    shutil.copytree(adapter, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"allowed: a LoRA adapter of the base model .*({told})") as error:
        export(str(tmp_path / "adapter"), tmp_path / "out")
    refusal(error)
    assert not (tmp_path / "out").exists()


def test_a_pickled_adapter_is_not_opened(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps({"a": Payload(tmp_path / "ran")}))
    with pytest.raises(InputError, match=r"adapter_model\.bin is a pickle"):
        export(str(tmp_path / "adapter"), tmp_path / "out")
    assert not (tmp_path / "ran").exists()
