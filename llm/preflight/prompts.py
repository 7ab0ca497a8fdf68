"""Prompts that leave no room for a response: left out, and said so, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.llm.tasks.data import PromptSet
from sharpen.llm.tasks.templates import encode_all
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEFT_OUT = "left_out"  # in provenance.json: their ids


class Room(NamedTuple):
    """How problems are asked, and how much fits.

    Args:
        template: Name of the template.
        chat_options: Arguments of the chat format.
        max_length: Prompt and response together, in tokens.
        refuse: Whether a prompt that is too long is an error.
    """

    template: str
    chat_options: Mapping[str, Any]
    max_length: int
    refuse: bool


class Fitting(NamedTuple):
    """The problems of a data set that fit.

    Args:
        prompts: Those, at least one.
        left_out: Ids of the others.
        note: One line on the others; None if there are none.
        ids: Token ids of each of the prompts; None if they were not needed.
    """

    prompts: PromptSet
    left_out: list[str]
    note: str | None
    ids: Sequence[list[int]] | None = None

    def tell(self, out: Path | None, note: Callable[[str], None]) -> None:
        """Say which are left out, and keep it in the folder ``out``, which is open."""
        if self.note is not None:
            note(self.note)
            if out is not None:
                runfolder.annotate(out, **{LEFT_OUT: self.left_out})


def fitting(asked: PromptSet, flag: str, tokenizer: PreTrainedTokenizerBase, room: Room) -> Fitting:
    """Return the problems whose prompts leave room for a response of at least one token.

    They follow from the settings and the tokenizer alone, so training, resuming and evaluating leave out the same ones.

    Args:
        asked: A data set.
        flag: The option that names it; empty if there is one only.
        tokenizer: The model's.
        room: How it is asked.

    Raises:
        InputError: none fits, or one does not and that is to be refused; the template or the chat format cannot be
            used.
    """
    ids = encode_all(tokenizer, [prompt.text for prompt in asked.prompts], room.template, room.chat_options)
    lengths = {prompt.id: len(own) for prompt, own in zip(asked.prompts, ids, strict=True)}
    long = [name for name, tokens in lengths.items() if tokens >= room.max_length]
    if not long:
        return Fitting(asked, [], None, ids)
    of = f"{asked.name} ({flag})" if flag else asked.name
    if room.refuse or len(long) == len(lengths):
        allowed = (
            f"more than the longest prompt of {of}, {max(lengths.values())} tokens; {len(long)} of {len(lengths)} "
            f"prompts leave no room for a response, the first is {long[0]!r:.60}"
        )
        raise InputError("max_length", room.max_length, allowed)
    left = set(long)
    prompts = asked.only(prompt for prompt in asked.prompts if prompt.id not in left)
    note = (
        f"{of}: {len(long)} of {len(lengths)} prompts leave no room for a response within {room.max_length} tokens and "
        f"are left out; the first is {long[0]!r:.60}"
    )
    return Fitting(prompts, long, note, [own for own in ids if len(own) < room.max_length])


def without(asked: PromptSet, out: Path | None) -> Fitting:
    """Return the problems of a finished evaluation or sampling run, for which no tokenizer has to be there."""
    try:
        told = runfolder.read_provenance(out) if out is not None else {}
        left = list(told.get(LEFT_OUT, []))
    except (OSError, ValueError, AttributeError, TypeError):
        left = []
    gone = set(left)
    kept = tuple(prompt for prompt in asked.prompts if prompt.id not in gone)
    return Fitting(asked.only(kept), left, None)
