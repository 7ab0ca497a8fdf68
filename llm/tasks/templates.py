"""Prompt templates: from a problem's text to token ids.

A problem is text and nothing else: what looks like the tokenizer's markup in it (``<|im_end|>``, ``</s>``) is encoded
as the characters that it is made of, so that no problem can end its own turn. Everything around it, from the template
and the chat format, is markup as its author wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.objective import InputError
from sharpen.objective.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = "{problem}"
# Llama 3's chat format states today's date unless it is told another: the same problem would be another prompt
# tomorrow. This is the format's own default.
DATE = "26 Jul 2024"
_PROBLEM, _ANSWER = "sharpenproblem7x1", "sharpenanswer7x1"  # stand for them where only what is around them matters


class Frame(NamedTuple):
    """What a template and a chat format put around a problem.

    Args:
        before: Text in front of it.
        after: Text behind it.
        first: Token ids that the tokenizer itself puts in front of a text without a chat format.
        markup: Token ids that no problem may become, with their text.
        own: How often each of them stands in the prompt around a problem.
    """

    before: str
    after: str
    first: tuple[int, ...]
    markup: dict[int, str]
    own: Counter[int]


def encode(tokenizer: PreTrainedTokenizerBase, problem: str, template: str) -> list[int]:
    """Return the token ids of a problem in its template, as a user's turn where the tokenizer has a chat format.

    Without one, what the tokenizer puts in front of a text (BOS) stays, and what it puts behind it (EOS) does not: a
    response is to follow.

    Args:
        tokenizer: The model's.
        problem: The problem's text; braces in it are left alone, and special tokens in it are no markup.
        template: Name of a template of the package (``boxed-cot``, ``plain``), a file holding ``{problem}`` once, or
            ``module:object``, such a text.

    Raises:
        InputError: there is no such template, or it does not hold ``{problem}`` exactly once; the chat format cannot
            be rendered, does not open the assistant's turn, or does not show the problem as it is.
    """
    frame = _frame(tokenizer, template, str(tokenizer.chat_template or ""))
    ids = _parsed(tokenizer, problem, template, frame)
    if _counts(ids, frame.markup) != frame.own:
        ids = _apart(tokenizer, problem, frame)
    return ids


def _parsed(tokenizer: Any, problem: str, template: str, frame: Frame) -> list[int]:
    """Return the ids of the whole prompt's text, whatever is markup in it."""
    text = read_template(template).replace(PLACE, problem)
    if tokenizer.chat_template:
        return _ids(tokenizer, _rendered(tokenizer, text))
    return [*frame.first, *_ids(tokenizer, text)]


def _apart(tokenizer: Any, problem: str, frame: Frame) -> list[int]:
    """Return the ids of a prompt whose problem holds what would be markup: it is encoded as ordinary text.

    So is the ordinary text around it, up to the next markup on either side, because tokens may join the two.
    """
    names = list(frame.markup.values())
    start = max((frame.before.rfind(name) + len(name) for name in names if name in frame.before), default=0)
    end = min((frame.after.find(name) for name in names if name in frame.after), default=len(frame.after))
    text = frame.before[start:] + problem + frame.after[:end]
    around = [*frame.first, *_ids(tokenizer, frame.before[:start])], _ids(tokenizer, frame.after[end:])
    ids = _ids(tokenizer, text, split_special_tokens=True)
    if _counts(ids, frame.markup):  # an added token that is no special one, or a tokenizer that does not split them
        ids = [token for piece in _torn(text, names) for token in _ids(tokenizer, piece, split_special_tokens=True)]
    if _counts(ids, frame.markup):
        raise InputError("problem", problem, "a text that the tokenizer can encode without its special tokens")
    return [*around[0], *ids, *around[1]]


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


def _counts(ids: Iterable[int], markup: dict[int, str]) -> Counter[int]:
    return Counter(token for token in ids if token in markup)


@lru_cache(maxsize=8)
def _frame(tokenizer: Any, template: str, chat_template: str) -> Frame:
    """Return what is around every problem; ``chat_template`` is part of the key only."""
    text = read_template(template).replace(PLACE, _PROBLEM)
    shown = text
    if tokenizer.chat_template:
        shown = _rendered(tokenizer, text)
        _check_turn_is_opened(tokenizer, text, shown)
        if shown.count(_PROBLEM) != 1:
            allowed = f"one that shows the user's turn once and as it is (found {shown.count(_PROBLEM)} times)"
            raise InputError("chat template", _name(tokenizer), allowed)
    before, after = shown.split(_PROBLEM)
    first = () if tokenizer.chat_template else _put_in_front(tokenizer, text)
    markup = _markup(tokenizer)
    frame = Frame(before, after, first, markup, Counter())
    return frame._replace(own=_counts(_parsed(tokenizer, _PROBLEM, template, frame), markup))


def _markup(tokenizer: Any) -> dict[int, str]:
    """Return the tokens that no problem may become: special ones, and ``<…>`` and ``[…]`` that the chat format names.

    The unknown token is none: an unknown character becomes it. Nor are other added tokens: runs of blanks, words.
    """
    chat = str(tokenizer.chat_template or "")
    added = getattr(tokenizer, "added_tokens_decoder", {})
    unknown = getattr(tokenizer, "unk_token_id", None)
    return {
        token: str(entry.content)
        for token, entry in added.items()
        if token != unknown and entry.content.strip()
        if entry.special or (entry.content in chat and entry.content[0] + entry.content[-1] in ("<>", "[]"))
    }


def _put_in_front(tokenizer: Any, text: str) -> tuple[int, ...]:
    whole, plain = list(tokenizer(text)["input_ids"]), _ids(tokenizer, text)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start])
    raise InputError("tokenizer", _name(tokenizer), "one that puts tokens before and behind a text only")


def _check_turn_is_opened(tokenizer: Any, text: str, shown: str) -> None:
    """Refuse a chat format that ignores ``add_generation_prompt`` although an answer begins with more than its text.

    The policy would have to write the head of its own turn first. A format like ``[INST] … [/INST]``, in which the
    answer follows at once, needs no such head.

    Raises:
        InputError: it is one.
    """
    if _rendered(tokenizer, text, opened=False) != shown:
        return
    try:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": _ANSWER}]
        answered = str(tokenizer.apply_chat_template(turns, tokenize=False, date_string=DATE))
    except Exception:  # a format that knows no answers says nothing about their heads
        return
    head, found, _ = answered.partition(_ANSWER)
    if found and head.startswith(shown) and head[len(shown) :].strip():
        allowed = f"one that opens the assistant's turn ({head[len(shown) :]!r}) where add_generation_prompt is set"
        raise InputError("chat template", _name(tokenizer), allowed)


def _rendered(tokenizer: Any, text: str, *, opened: bool = True) -> str:
    """Return a user's turn in the chat format.

    Raises:
        InputError: the format, which is a program that comes with the model, fails.
    """
    turns = [{"role": "user", "content": text}]
    try:
        shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened, date_string=DATE)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError("chat template", _name(tokenizer), f"one that renders a user's turn ({reason})") from error
    assert isinstance(shown, str)
    return shown


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _check_text(part: object) -> None:
    if not isinstance(part, str):
        raise TypeError(f"a text that holds {PLACE} once")


TEMPLATES: Registry[str] = Registry("template", _check_text)
_FOLDER = files("sharpen.llm.tasks") / "prompts"
boxed_cot = (_FOLDER / "boxed-cot.txt").read_text(encoding="utf-8")
plain = (_FOLDER / "plain.txt").read_text(encoding="utf-8")
# By their places, as a user's text is named: a registry takes a text for the place of a part.
TEMPLATES.register("boxed-cot", f"{__name__}:boxed_cot")
TEMPLATES.register("plain", f"{__name__}:plain")


@lru_cache(maxsize=8)
def read_template(template: str) -> str:
    """Return a template's text, without the newline that ends it.

    Args:
        template: A built-in name, a file, ``module:object`` (a text) or an entry point's name.

    Raises:
        InputError: there is no such template, or it does not hold ``{problem}`` exactly once.
    """
    known = template in TEMPLATES or (":" in template and not Path(template).exists())
    try:
        text = TEMPLATES.get(template) if known else Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"{', '.join(TEMPLATES)}, module:object or a readable text file"
        raise InputError("template", template, allowed) from error
    if text.count(PLACE) != 1:
        raise InputError("template", template, f"a text that holds {PLACE} exactly once")
    return text.removesuffix("\n")
