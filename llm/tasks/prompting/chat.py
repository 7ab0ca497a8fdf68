"""Conversations as text: in a tokenizer's chat format, which is a program that comes with the model, or without one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sharpen.objective import InputError

Turn = tuple[str, str]  # role and content
# Llama 3's chat format states today's date unless it is told another: the same problem would be another prompt
# tomorrow. This is the format's own default.
DATE = "26 Jul 2024"
PARAGRAPH = "\n\n"
_STAND_IN = re.compile(r"sharpentext7x(\d+)x")
_ANSWER = "sharpenanswer7x1"
_FOR_AUTHORS = {"tools", "documents"}  # of apply_chat_template's own parameters what formats read


def stand_in(number: int) -> str:
    """Return a text that stands for another where only what is around it matters."""
    return f"sharpentext7x{number}x"


def pieces(shown: str) -> tuple[list[str], list[int]]:
    """Return what is around the stand-ins in a text, and their numbers; one text more than numbers."""
    parts = _STAND_IN.split(shown)
    return parts[::2], [int(number) for number in parts[1::2]]


def has_format(tokenizer: Any) -> bool:
    """Return whether the tokenizer comes with a chat format."""
    return bool(tokenizer.chat_template)


def as_text(turns: Sequence[Turn], end: str) -> str:
    r"""Return a conversation without a chat format: one text, which the response is to follow.

    A system text is a paragraph. A response stands behind what it answers, after a blank if neither brings one, and
    ends as the model's own is to end.

    Args:
        turns: The last is not the assistant's.
        end: What ends a response.

    Example:
        >>> as_text([("user", "Capital of Peru:"), ("assistant", "Lima"), ("user", "Capital of Chad:")], "\\n")
        'Capital of Peru: Lima\\nCapital of Chad:'
    """
    text = ""
    for role, content in turns:
        if role == "assistant":
            apart = " " if text and not text[-1].isspace() and not content[:1].isspace() else ""
            text += apart + content + (end if not content.endswith(end) else "")
        else:
            text += content + (PARAGRAPH if role == "system" and not content.endswith("\n") else "")
    return text


def rendered(tokenizer: Any, turns: Sequence[Turn], options: str, *, opened: bool = True) -> str:
    """Return a conversation in the chat format.

    Args:
        tokenizer: Has one.
        turns: Roles and contents.
        options: Arguments of the format's own, as :func:`packed`.
        opened: Whether the assistant's turn is begun.

    Raises:
        InputError: the format fails.
    """
    messages = [{"role": role, "content": content} for role, content in turns]
    settings = {"date_string": DATE, **json.loads(options)}
    try:
        shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened, **settings)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        roles = ", ".join(dict.fromkeys(role for role, _ in turns))
        raise InputError(
            "chat template", name_of(tokenizer), f"one that renders turns of {roles} ({reason})"
        ) from error
    assert isinstance(shown, str)
    return shown


def packed(options: Mapping[str, Any] | None) -> str:
    """Return arguments of a chat format as one text, which a cache can hold.

    Raises:
        InputError: they are no numbers, texts, truth values, or lists and mappings of such.
    """
    try:
        return json.dumps(dict(options or {}), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        allowed = "true or false, numbers, texts, and lists and mappings of such"
        raise InputError("chat_options", options, allowed) from error


def check_options(tokenizer: Any, options: Mapping[str, Any]) -> None:
    """Refuse arguments that the chat format does not read, where that can be told from its text.

    Raises:
        InputError: it does not read one, or there is no format.
    """
    if not options:
        return
    if not has_format(tokenizer):
        raise InputError("chat_options", dict(options), f"none for {name_of(tokenizer)}, which has no chat format")
    taken = set(inspect.signature(tokenizer.apply_chat_template).parameters) - _FOR_AUTHORS
    read = _read_by(str(tokenizer.chat_template))
    for name in options:
        if name in taken or (read is not None and name not in read):
            known = "no others are known" if read is None else f"reads {', '.join(sorted(read - taken)) or 'none'}"
            raise InputError("chat_options", name, f"what the chat format of {name_of(tokenizer)} reads ({known})")


@lru_cache(maxsize=8)
def _read_by(chat_template: str) -> frozenset[str] | None:
    """Return the arguments that a chat format reads beside the messages; None: its text does not say."""
    import jinja2
    from jinja2 import meta

    given = {"messages", "add_generation_prompt", "raise_exception", "strftime_now", "bos_token", "eos_token"}
    try:
        program = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(chat_template)
    except jinja2.TemplateSyntaxError:  # an extension of another program's
        return None
    found = {name for name in meta.find_undeclared_variables(program) if not name.endswith("_token")}
    return frozenset(found - given)


@lru_cache(maxsize=32)
def check_format(tokenizer: Any, roles: tuple[str, ...], chat_template: str, options: str) -> None:
    """Refuse a chat format that does not open the assistant's turn, or does not show each turn once as it is.

    Args:
        tokenizer: The model's.
        roles: Of the turns.
        chat_template: The format; part of the cache's key only.
        options: Its arguments, as :func:`packed`.

    Raises:
        InputError: it does.
    """
    turns = [(role, stand_in(number)) for number, role in enumerate(roles)]
    shown = rendered(tokenizer, turns, options)
    _check_turn_is_opened(tokenizer, turns, shown, options)
    _, found = pieces(shown)
    for number, role in enumerate(roles):
        if found.count(number) != 1:
            allowed = f"one that shows the {role}'s turn once and as it is (found {found.count(number)} times)"
            raise InputError("chat template", name_of(tokenizer), allowed)


def _check_turn_is_opened(tokenizer: Any, turns: Sequence[Turn], shown: str, options: str) -> None:
    """Refuse a chat format that ignores ``add_generation_prompt`` although an answer begins with more than its text.

    The policy would have to write the head of its own turn first. A format like ``[INST] … [/INST]``, in which the
    answer follows at once, needs no such head.

    Raises:
        InputError: it is one.
    """
    if rendered(tokenizer, turns, options, opened=False) != shown:
        return
    try:
        answered = rendered(tokenizer, [*turns, ("assistant", _ANSWER)], options, opened=False)
    except InputError:  # a format that knows no answers says nothing about their heads
        return
    head, found, _ = answered.partition(_ANSWER)
    if found and head.startswith(shown) and head[len(shown) :].strip():
        allowed = f"one that opens the assistant's turn ({head[len(shown) :]!r}) where add_generation_prompt is set"
        raise InputError("chat template", name_of(tokenizer), allowed)


def name_of(tokenizer: Any) -> str:
    """Return what messages call a tokenizer."""
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
