"""A small random Llama and the GGUF file that llama.cpp's converter would write of it, by the gguf package's writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors], object]
HEADS, KV_HEADS, LAYERS, CONTEXT = 2, 1, 2, 64
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
CHAT = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
CHAT += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def alphabet() -> list[str]:
    """GPT-2's 256 printable signs, one a byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in kept else next(others)) for byte in range(256)]


BLANK, NEWLINE = alphabet()[32], alphabet()[10]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [(BLANK, BLANK), (NEWLINE, NEWLINE), ("h", "e"), (BLANK, "he")]
VOCABULARY = [*SPECIAL, *alphabet(), *("".join(pair) for pair in MERGES)]
VOCABULARY += [f"<unused{n}>" for n in range(288 - len(VOCABULARY))]


def small_llama(seed: int = 0) -> Any:
    """Return a random model with tied embeddings, logits a few nats apart."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    more = {"num_key_value_heads": KV_HEADS, "head_dim": 16, "vocab_size": len(VOCABULARY), "rope_theta": 5e3}
    config = LlamaConfig(**sizes, **more, max_position_embeddings=CONTEXT, initializer_range=0.3)
    config.tie_word_embeddings = True
    return LlamaForCausalLM(config).eval()


def in_llama_cpp(model: Any) -> Tensors:
    """Return the weights as llama.cpp names and orders them: rotary pairs are neighbours there (convert_hf_to_gguf)."""

    def paired(weight: np.ndarray, heads: int) -> np.ndarray:
        return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)

    held = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    tensors = {"token_embd.weight": held["model.embed_tokens.weight"], "output_norm.weight": held["model.norm.weight"]}
    for layer in range(LAYERS):
        for theirs, ours in NAMES.items():
            weight = held[f"model.layers.{layer}.{theirs}.weight"]
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(ours)
            tensors[f"blk.{layer}.{ours}.weight"] = weight if heads is None else paired(weight, heads)
    return tensors


def quantised(tensors: Tensors) -> tuple[dict[str, tuple[np.ndarray, Any]], Tensors]:
    """Return what a file stores (Q8_0 embeddings, Q4_1 matrices), and the numbers that this stands for."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    stored, meant = {}, {}
    for name, weight in tensors.items():
        kind = kinds.F32 if weight.ndim == 1 else kinds.Q8_0 if name == "token_embd.weight" else kinds.Q4_1
        stored[name] = (weight if kind == kinds.F32 else gguf.quants.quantize(weight, kind), kind)
        meant[name] = gguf.quants.dequantize(*stored[name])
    return stored, meant


def write_gguf(file: Path, model: Any, change: Change | None = None, architecture: str = "llama") -> Tensors:
    """Write the file and return the numbers in it, by llama.cpp's names; ``change`` is made to what is stored."""
    import gguf

    stored, meant = quantised(in_llama_cpp(model))
    kinds = {name: kind for name, (_, kind) in stored.items()}
    data = {name: array for name, (array, _) in stored.items()}
    if change is not None:
        change(data)
    writer = gguf.GGUFWriter(file, architecture)
    config = model.config
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in VOCABULARY])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    for name, array in data.items():
        writer.add_tensor(name, array, raw_dtype=None if kinds[name] == gguf.GGMLQuantizationType.F32 else kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for what is converted."""
    monkeypatch.setenv("SHARPEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gguf_writer() -> Callable[..., Tensors]:
    """Writes a GGUF file of a model: (file, model, change=None, architecture="llama") -> the numbers in it."""
    pytest.importorskip("gguf")
    return write_gguf


@pytest.fixture
def llama() -> Any:
    """A small random model."""
    return small_llama()
