"""Which tokens end a response beside EOS: those that bring a stop string into its text.

A stop string of one ASCII character is a set of tokens: every one whose text contains it. So it is the same event in
any engine, and a response's log-probability is that of its tokens. Longer strings may come in pieces of several tokens,
so they are looked for in the decoded text whenever a token arrives that could be the last piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sharpen.objective import InputError


class Stops:
    """What ends a response: strings of :attr:`sharpen.llm.rollout.types.Sampling.stop`, for one tokenizer.

    Args:
        tokenizer: Of the model that is sampled from; any of transformers'.
        strings: The stop strings.

    Attributes:
        token_ids: Tokens that end a response wherever they come, in ascending order.
        last_pieces: Tokens that may complete one of the longer strings; ``completed_by`` says whether they did.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        single = [string for string in strings if len(string) == 1 and string.isascii()]
        self._longer = [string for string in strings if string not in single]
        self.token_ids = tuple(sorted({token for string in single for token in tokens_with(tokenizer, string)}))
        last = {token for string in self._longer for token in tokens_with(tokenizer, string[-1])}
        self.last_pieces = frozenset(last - set(self.token_ids))
        self._ends = frozenset(self.token_ids)

    def completed_by(self, response_ids: Sequence[int]) -> bool:
        """Return whether the last token of a response ends it; the tokens before it did not."""
        token = response_ids[-1]
        return token in self._ends or (token in self.last_pieces and self._holds_a_longer(response_ids))

    def length(self, response_ids: Sequence[int]) -> int | None:
        """Return how many of these tokens make the response, the one that ends it included; None if none ends it."""
        counts = range(1, len(response_ids) + 1)
        return next((count for count in counts if self.completed_by(response_ids[:count])), None)

    def _holds_a_longer(self, response_ids: Sequence[int]) -> bool:
        text = _text(self._tokenizer, list(response_ids))
        return any(string in text for string in self._longer)


def stops_for(tokenizer: Any, strings: tuple[str, ...]) -> Stops | None:
    """Return what ends a response under these stop strings; None if there are none.

    Raises:
        InputError: there are some, and no tokenizer to find them with.
    """
    if not strings:
        return None
    if tokenizer is None:
        raise InputError("stop", strings, "() for an engine that was made without a tokenizer")
    return _stops(tokenizer, strings)


@lru_cache(maxsize=8)
def _stops(tokenizer: Any, strings: tuple[str, ...]) -> Stops:
    return Stops(tokenizer, strings)


def tokens_with(tokenizer: Any, character: str) -> list[int]:
    """Return the tokens whose text contains this character, in ascending order.

    Of a character that is not ASCII a token may hold some bytes only, so for those it is every token with text beyond
    ASCII. Special tokens have no text.
    """
    texts = enumerate(_texts(tokenizer))
    if character.isascii():
        return [token for token, text in texts if character in text]
    return [token for token, text in texts if not text.isascii()]


@lru_cache(maxsize=2)
def _texts(tokenizer: Any) -> tuple[str, ...]:
    """Return each token's text twice over: tokenizers of sentencepiece's kind drop a blank at the beginning."""
    return tuple(_text(tokenizer, [token, token]) for token in range(len(tokenizer)))


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
