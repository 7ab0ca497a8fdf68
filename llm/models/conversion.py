"""A GGUF file as a folder of Hugging Face files, which everything else here reads.

transformers reads GGUF and dequantises it. What it leaves out is done here: weights that the file lacks, or has in
another shape, are refused and not made up, and a vocabulary whose digits were learned one by one is split that way.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.models.folder import (
    KINDS,
    ModelFolderError,
    check_complete,
    check_finite,
    check_folder,
    check_tokenizer,
    guarded,
)
from sharpen.objective import MissingError
from sharpen.objective.version import install

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAGIC = b"GGUF"
# What llama.cpp (src/llama-vocab.cpp) does for these values of tokenizer.ggml.pre and transformers 5.19 does not know:
# each digit is cut out before the text is split as GPT-2's. Without it a number takes the blanks before it apart.
DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def check_reader(name: str) -> None:
    """Refuse GGUF files where the package that reads them is not installed.

    Raises:
        MissingError: it is not; it names the model ``name``.
    """
    if find_spec("gguf") is None:
        why = "the package gguf, which reads its file, is not installed"
        raise MissingError("model", name, why, [install("smollm2")])


def check_file(file: Path) -> None:
    """Refuse a file that is no GGUF file.

    Raises:
        ModelFolderError: it does not begin as one.
    """
    try:
        with file.open("rb") as stream:
            begins = stream.read(len(MAGIC))
    except OSError as error:
        raise ModelFolderError(f"{file.name} cannot be read: {error.strerror}") from error
    if begins != MAGIC:
        raise ModelFolderError(f"{file.name} does not begin with {MAGIC.decode()}, so it is no GGUF file")


def architecture(file: Path) -> Any:
    """Return the transformers config that a GGUF file's header describes; no weight is read.

    Raises:
        ModelFolderError: the file is damaged, or transformers does not read its architecture.
    """
    from transformers import AutoConfig

    check_file(file)
    with _quiet():
        return guarded(lambda: AutoConfig.from_pretrained(file.parent, gguf_file=file.name))


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into ``folder``, dequantised to float32.

    A quantised weight is a few bits times a scale, which float32 holds exactly.

    Raises:
        ModelFolderError: the file is damaged or not whole, or transformers does not read its architecture.
    """
    import torch

    check_file(file)
    with torch.random.fork_rng(devices=[]), _quiet(), _read_once():  # blank weights are random numbers at first
        model = _read_model(file)
        tokenizer = _read_tokenizer(file)
        tokenizer.model_max_length = model.config.get_text_config().max_position_embeddings
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    check_folder(folder)  # a tensor of another shape is taken as it comes, and not reported


def _read_model(file: Path) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    read: Any = guarded(
        lambda: AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            # Without it the weights come out dequantised too, and save_pretrained refuses to write them.
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    )
    model, found = read
    check_complete(type(model).__name__, **{kind: found[f"{kind}_keys"] for kind in KINDS})
    check_finite([*model.named_parameters(), *model.named_buffers()], "as float32")
    return model


def _read_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    import gguf
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = guarded(lambda: AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name))
    check_tokenizer(tokenizer)
    kind = gguf.GGUFReader(str(file)).fields.get("tokenizer.ggml.pre")
    if kind is not None and kind.contents() in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


@contextmanager
def _read_once() -> Iterator[None]:
    """Keep what transformers asks the package gguf for again and again: two thirds of a conversion's time.

    It reads a file's header, with each word of the vocabulary, for the config, for the weights and for the tokenizer,
    and makes the same table of names for each module of the model.
    """
    import gguf

    asked = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, make in asked.items():
            setattr(gguf, name, cache(make))
        yield
    finally:
        for name, make in asked.items():
            setattr(gguf, name, make)


@contextmanager
def _quiet() -> Iterator[None]:
    """Show the library's progress bars on a terminal only: elsewhere they would be one endless line."""
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        yield
