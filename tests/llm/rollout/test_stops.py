"""Which tokens end a response by a stop string, for the two kinds of tokenizers that models have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.rollout import Rollout, Sampling, make_engine
from sharpen.llm.rollout.stops import Stops, stops_for, tokens_with
from sharpen.objective import InputError

BYTE_LEVEL = ["<end>", "a", "b", "Ċ", "aĊ", "Ċb", ":", "Ġ", "Ġa", "Q", "Q:", "ĊQ", "Ã", "©", "ĊĊ"]
METASPACE = ["<end>", "<unk>", "a", "b", "<0x0A>", "▁a", "▁", ":", "▁:a", "\n", "Q", "<0xC3>", "<0xA9>"]


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(BYTE_LEVEL)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2's and other tokenizers made by sentencepiece."""
    vocabulary = {token: place for place, token in enumerate(METASPACE)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def ids(tokenizer: Any, *tokens: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(tokens))


@pytest.mark.parametrize(
    ("make", "character", "tokens"),
    [
        (byte_level, "\n", ["Ċ", "aĊ", "Ċb", "ĊQ", "ĊĊ"]),
        (byte_level, " ", ["Ġ", "Ġa"]),
        (byte_level, "a", ["a", "aĊ", "Ġa"]),
        (byte_level, "<", []),  # a special token has no text
        (metaspace, "\n", ["<0x0A>", "\n"]),
        (metaspace, " ", ["▁a", "▁", "▁:a"]),  # also where decoding drops the blank at the beginning of a text
        (metaspace, ":", [":", "▁:a"]),
    ],
)
def test_a_stop_string_of_one_character_is_every_token_that_contains_it(
    make: Any, character: str, tokens: list[str]
) -> None:
    tokenizer = make()
    assert tokens_with(tokenizer, character) == sorted(ids(tokenizer, *tokens))
    assert Stops(tokenizer, [character]).token_ids == tuple(sorted(ids(tokenizer, *tokens)))


@pytest.mark.parametrize(
    ("make", "stop", "response", "length"),
    [
        (byte_level, "\nQ:", ["a", "Ċ", "Q", ":", "a"], 4),
        (byte_level, "\nQ:", ["a", "ĊQ", ":", "a"], 3),
        (byte_level, "\nQ:", ["a", "Ċ", "Q:", "a"], 3),
        (byte_level, "\nQ:", ["a", "Q:", "Ċ", "Q", "b", ":"], None),
        (byte_level, "\n\n", ["Ċb", "aĊ", "Ċb"], 3),  # the last piece goes on after the stop string
        (byte_level, "\n\n", ["a", "ĊĊ", "b"], 2),
        (byte_level, "é", ["a", "Ã", "©", "b"], 3),  # by its second byte, not by the first
        (byte_level, "ab", ["a", "<end>", "b"], 3),  # no text comes between
        (metaspace, "\nQ", ["a", "<0x0A>", "Q", "a"], 3),
        (metaspace, " :", ["▁", ":", "▁:a", "b"], 3),  # the blank before the first is no part of the text
        (metaspace, "é", ["<0xC3>", "<0xA9>", "a"], 2),
    ],
)
def test_longer_stop_strings_end_a_response_by_the_token_that_completes_them(
    make: Any, stop: str, response: list[str], length: int | None
) -> None:
    tokenizer = make()
    stops = Stops(tokenizer, (stop,))
    assert stops.token_ids == ()
    assert stops.length(ids(tokenizer, *response)) == length
    # By definition: the first beginning of the response whose text holds the string.
    texts = [
        tokenizer.decode(ids(tokenizer, *response[: count + 1]), skip_special_tokens=True)
        for count in range(len(response))
    ]
    assert length == next((count + 1 for count, text in enumerate(texts) if stop in text), None)


def test_the_first_of_several_stop_strings_ends_the_response() -> None:
    tokenizer = byte_level()
    stops = stops_for(tokenizer, ("\nQ:", ":", "b"))
    assert stops is not None
    assert stops.length(ids(tokenizer, "a", "a", "Q:", "b")) == 3
    assert stops.length(ids(tokenizer, "Ċb", "a")) == 1
    assert stops.completed_by(ids(tokenizer, "a", "b"))
    assert not stops.completed_by(ids(tokenizer, "b", "a"))
    assert stops_for(None, ()) is None


def test_stop_strings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="made without a tokenizer"):
        stops_for(None, ("\n",))
    for wrong in ("\n", ["\n"], ("",), (1,)):
        with pytest.raises(InputError, match="a tuple of texts"):
            Sampling(3, stop=wrong)  # type: ignore[arg-type]


STOPS = [("\n",), ("\nQ",), ("a:", "\n\n"), ("é", " "), ("never there",)]
TEMPERATURES = (0.0, 1.0)


def rollouts(name: str, folder: Path) -> dict[tuple[str, ...], list[Rollout]]:
    """Greedy and random responses of a tiny random model that says every token, under each of the stop strings."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(BYTE_LEVEL) + 3,  # some models have more tokens than their tokenizer
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=0,
    )
    model, prompts = Qwen2ForCausalLM(config), [[place, 1 + place // 2] for place in range(1, len(BYTE_LEVEL))]
    model.save_pretrained(folder)
    engine = make_engine(name, model=model, location=folder, max_length=32, seed=0, tokenizer=byte_level())
    try:
        return {
            stop: [engine.generate(prompts, 4, Sampling(20, heat, stop=stop), seed=0) for heat in TEMPERATURES]
            for stop in ((), *STOPS)
        }
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_engines_end_responses_where_a_stop_string_is_complete(name: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    found = rollouts(name, tmp_path)
    for stop in STOPS:
        ended = 0
        for free, stopped in zip(found[()], found[stop], strict=True):
            for full, response, finished, logprobs in zip(
                free.response_ids, stopped.response_ids, stopped.finished, stopped.logprobs, strict=True
            ):
                texts = [tokenizer.decode(full[:count], skip_special_tokens=True) for count in range(1, len(full) + 1)]
                first = next((count for count, text in enumerate(texts, 1) if any(s in text for s in stop)), None)
                assert response == full[:first]
                assert finished == (first is not None or full[-1] == 0)
                assert len(logprobs) == len(response)
                ended += first is not None and first < len(full)
        assert (ended > 20) == (stop != ("never there",))


@pytest.mark.vllm
def test_both_engines_cut_the_same_tokens_alike(tmp_path: Path) -> None:
    one, other = (rollouts(name, tmp_path / name) for name in ("transformers", "vllm"))
    for stop in STOPS:
        greedy, same = one[stop][0], other[stop][0]
        assert (greedy.response_ids, greedy.finished) == (same.response_ids, same.finished)
