r"""The character-level tokenizer of the embedded model; ``\boxed{`` is one token, so that answers stay short.

It is a ``Qwen2Tokenizer`` without merges, not a tokenizer of our own: for a model of type qwen2, transformers'
``AutoTokenizer`` builds that class whatever the folder says, and would silently drop what another one wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.llm.tasks.embedded import BOXED, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
NEWLINE = "Ċ"  # how byte-level vocabularies write a line feed
VOCABULARY = (PAD, EOS, UNKNOWN, *"0123456789", "+", "=", ";", "?", NEWLINE, BOXED, "}")


def build_tokenizer() -> PreTrainedTokenizerFast:
    r"""Return the tokenizer; characters outside its vocabulary are dropped.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> tokenizer.decode(tokenizer("1+2=?\n\\boxed{3}")["input_ids"])
        '1+2=?\n\\boxed{3}'
    """
    from transformers import AddedToken, Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(VOCABULARY)},
        merges=[],
        unk_token=UNKNOWN,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(BOXED, special=False, normalized=False)])
    return tokenizer  # pyright: ignore[reportReturnType]
