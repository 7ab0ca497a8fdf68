"""Token ids of a prompt in which some texts are text and nothing else.

What looks like the tokenizer's markup in them (``<|im_end|>``, ``</s>``) is encoded as the characters that it is made
of, so that no problem can end its own turn. Everything around them, from the template and the chat format, is markup
as its author wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from sharpen.llm.tasks.prompting.chat import Turn, check_format, name_of, pieces, rendered, stand_in
from sharpen.objective import InputError

AT_ONCE = 1024  # texts a call of the tokenizer, which holds more of each than its ids meanwhile


class Frame(NamedTuple):
    """What a template and a chat format put around texts that are not trusted.

    Args:
        around: Texts before, between and behind them.
        order: Which of them stands at each place between.
        first: Token ids that the tokenizer itself puts in front of a text without a chat format.
        markup: Token ids that none of them may become, with their text.
        own: How often each of those stands in the prompt around them.
    """

    around: tuple[str, ...]
    order: tuple[int, ...]
    first: tuple[int, ...]
    markup: dict[int, str]
    own: Counter[int]


def framed_ids(
    tokenizer: Any, turns: tuple[Turn, ...] | str, givens: Sequence[Sequence[str]], options: str
) -> list[list[int]]:
    """Return the token ids of prompts that differ in the given texts only.

    Without a chat format, what the tokenizer puts in front of a text (BOS) stays, and what it puts behind it (EOS)
    does not: a response is to follow.

    Args:
        tokenizer: The model's.
        turns: A conversation, or a text that no chat format is put around, with :func:`stand_in` of 0, 1, … where the
            texts stand.
        givens: Those texts, of each prompt.
        options: Arguments of the chat format, as :func:`sharpen.llm.tasks.prompting.chat.packed`.

    Raises:
        InputError: the chat format cannot be used, or a text cannot be encoded without markup.
    """
    frame = _frame(tokenizer, turns, str(tokenizer.chat_template or ""), options)
    found = _parsed(tokenizer, turns, givens, frame.first, options)
    for place, (ids, given) in enumerate(zip(found, givens, strict=True)):
        if _counts(ids, frame.markup) != frame.own:
            found[place] = _apart(tokenizer, [given[number] for number in frame.order], frame)
    return found


@lru_cache(maxsize=32)
def _frame(tokenizer: Any, turns: tuple[Turn, ...] | str, chat_template: str, options: str) -> Frame:
    """Return what is around every given text; ``chat_template`` is part of the key only."""
    if isinstance(turns, str):
        shown, first = turns, _put_in_front(tokenizer, turns)
    else:
        check_format(tokenizer, tuple(role for role, _ in turns), chat_template, options)
        shown, first = rendered(tokenizer, turns, options), ()
    around, order = pieces(shown)
    markup = _markup(tokenizer)
    same = [stand_in(number) for number in range(len(order))]
    (ids,) = _parsed(tokenizer, turns, [same], first, options)
    return Frame(tuple(around), tuple(order), first, markup, _counts(ids, markup))


def _parsed(
    tokenizer: Any,
    turns: tuple[Turn, ...] | str,
    givens: Sequence[Sequence[str]],
    first: Sequence[int],
    options: str,
) -> list[list[int]]:
    """Return the ids of each whole prompt's text, whatever is markup in it."""
    if isinstance(turns, str):
        return [[*first, *ids] for ids in _ids_of_all(tokenizer, [_filled(turns, given) for given in givens])]
    whole = [rendered(tokenizer, [(role, _filled(text, given)) for role, text in turns], options) for given in givens]
    return _ids_of_all(tokenizer, whole)


def _filled(text: str, given: Sequence[str]) -> str:
    around, order = pieces(text)
    return around[0] + "".join(given[number] + behind for number, behind in zip(order, around[1:], strict=True))


def _apart(tokenizer: Any, given: Sequence[str], frame: Frame) -> list[int]:
    """Return the ids of a prompt with a text in it that holds what would be markup: it is encoded as ordinary text.

    So is the ordinary text around it, up to the next markup on either side, because tokens may join the two.
    """
    names = list(frame.markup.values())
    *between, last = frame.around[1:]
    start = _behind_last(frame.around[0], names)
    ids, text = [*frame.first, *_ids(tokenizer, frame.around[0][:start])], frame.around[0][start:]
    for one, behind in zip(given, between, strict=False):
        end, start = _before_first(behind, names), _behind_last(behind, names)
        text += one + behind[:end]
        if end < len(behind):
            ids += [*_as_characters(tokenizer, text, frame.markup), *_ids(tokenizer, behind[end:start])]
            text = behind[start:]
    end = _before_first(last, names)
    text += given[-1] + last[:end]
    return [*ids, *_as_characters(tokenizer, text, frame.markup), *_ids(tokenizer, last[end:])]


def _behind_last(text: str, names: Iterable[str]) -> int:
    return max((text.rfind(name) + len(name) for name in names if name in text), default=0)


def _before_first(text: str, names: Iterable[str]) -> int:
    return min((text.find(name) for name in names if name in text), default=len(text))


def _as_characters(tokenizer: Any, text: str, markup: dict[int, str]) -> list[int]:
    ids = _ids(tokenizer, text, split_special_tokens=True)
    if _counts(ids, markup):  # an added token that is no special one, or a tokenizer that does not split them
        torn = _torn(text, markup.values())
        ids = [token for piece in torn for token in _ids(tokenizer, piece, split_special_tokens=True)]
    if _counts(ids, markup):
        raise InputError("problem", text, "a text that the tokenizer can encode without its special tokens")
    return ids


def _torn(text: str, names: Iterable[str]) -> list[str]:
    """Return the text in pieces, cut behind the first character of each name in it."""
    cuts = set()
    for name in names:
        place = text.find(name)
        while place >= 0:
            cuts.add(place + 1)
            place = text.find(name, place + 1)
    places = [0, *sorted(cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places) if a < b]


def _ids(tokenizer: Any, text: str, **settings: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **settings)["input_ids"]) if text else []


def _ids_of_all(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text, by calls for many: most of what a call takes is not the text's."""
    if not all(texts) or len(texts) == 1:
        return [_ids(tokenizer, text) for text in texts]
    found = []
    for start in range(0, len(texts), AT_ONCE):
        found += tokenizer(list(texts[start : start + AT_ONCE]), add_special_tokens=False)["input_ids"]
    return found


def _counts(ids: Iterable[int], markup: dict[int, str]) -> Counter[int]:
    return Counter(token for token in ids if token in markup)


def _markup(tokenizer: Any) -> dict[int, str]:
    """Return the tokens that no given text may become: special ones, and ``<…>``, ``[…]`` that the chat format names.

    The unknown token is none: an unknown character becomes it. Nor are other added tokens: runs of blanks, words.
    """
    named = str(tokenizer.chat_template or "")
    added = getattr(tokenizer, "added_tokens_decoder", {})
    unknown = getattr(tokenizer, "unk_token_id", None)
    return {
        token: str(entry.content)
        for token, entry in added.items()
        if token != unknown and entry.content.strip()
        if entry.special or (entry.content in named and entry.content[0] + entry.content[-1] in ("<>", "[]"))
    }


def _put_in_front(tokenizer: Any, text: str) -> tuple[int, ...]:
    whole, plain = list(tokenizer(text)["input_ids"]), _ids(tokenizer, text)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start])
    raise InputError("tokenizer", name_of(tokenizer), "one that puts tokens before and behind a text only")
