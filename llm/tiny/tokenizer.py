r"""The character-level tokenizer of the embedded model; ``\boxed{`` is one token, so that answers stay short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.llm.tiny.corpus import BOXED, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
VOCABULARY = (PAD, EOS, UNKNOWN, *"0123456789", "+", "=", ";", "?", "\n", BOXED, "}")


def build_tokenizer() -> PreTrainedTokenizerFast:
    r"""Return the tokenizer.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> tokenizer.decode(tokenizer("1+2=?\n\\boxed{3}")["input_ids"])
        '1+2=?\n\\boxed{3}'
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
