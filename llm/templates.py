"""Prompt templates: from a problem's text to token ids."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sharpen.objective import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = "{problem}"
# Llama 3's chat format states today's date unless it is told another: the same problem would be another prompt
# tomorrow. This is the format's own default.
DATE = "26 Jul 2024"


def encode(tokenizer: PreTrainedTokenizerBase, problem: str, template: str) -> list[int]:
    """Return the token ids of a problem in its template, as a user's turn where the tokenizer has a chat format.

    Args:
        tokenizer: The model's.
        problem: The problem's text; braces in it are left alone.
        template: Name of a template of the package (``boxed-cot``, ``plain``) or a file holding ``{problem}`` once.

    Raises:
        InputError: there is no such template, or it does not hold ``{problem}`` exactly once.
    """
    text = read_template(template).replace(PLACE, problem)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, date_string=DATE)
        assert isinstance(text, str)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    return list(tokenizer(text)["input_ids"])  # type: ignore[arg-type]


@lru_cache(maxsize=8)
def read_template(template: str) -> str:
    """Return a template's text, without the newline that ends its file."""
    folder = files("sharpen.llm") / "prompts"
    packaged = {entry.name.removesuffix(".txt"): entry for entry in folder.iterdir() if entry.name.endswith(".txt")}
    try:
        text = (packaged.get(template) or Path(template)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("template", template, f"{', '.join(sorted(packaged))} or a readable text file") from error
    if text.count(PLACE) != 1:
        raise InputError("template", template, f"a text that holds {PLACE} exactly once")
    return text.removesuffix("\n")
