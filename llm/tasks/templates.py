"""Prompt templates: from a problem's text to token ids.

A template is a text with ``{problem}`` in it, a :class:`Template` (system text, worked examples, a raw completion, stop
strings), or a function of the problem. A problem is text and nothing else, whatever the template: markup of the
tokenizer in it is encoded as characters (:mod:`sharpen.llm.tasks.prompting.framing`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.tasks.prompting.chat import PARAGRAPH, Turn, as_text, check_options, has_format, packed, stand_in
from sharpen.llm.tasks.prompting.framing import framed_ids
from sharpen.llm.tasks.registry import WORD_TASKS
from sharpen.objective import InputError
from sharpen.objective.registry import Registry
from sharpen.objective.storage.files import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = "{problem}"
PREFIX = "template:"
_held: dict[str, Template] = {}
Messages = Sequence[Mapping[str, str]]  # each with "role" and "content"


@dataclass(frozen=True)
class Template:
    r"""How a model is asked a problem.

    With a chat format the system text and each example are turns of their own. In a raw completion, or with a tokenizer
    that has no chat format, they are text: the system text is a paragraph; an example's response stands behind its
    problem, after a blank if neither brings one, and ends with the first stop string, as the model's own is to, or
    with an empty line if there is none.

    Args:
        user: Text of the user's turn, which holds ``{problem}`` exactly once.
        system: Text of the system's turn.
        examples: Pairs of a problem and a response. They are labels: a run without labels whose template has them says
            so.
        chat: False for a raw completion: the text alone, without the tokenizer's chat format.
        stop: Texts that end a response, which keeps the token that completes one.

    Raises:
        InputError: a field is of another kind, or ``user`` does not hold ``{problem}`` exactly once.

    Example:
        >>> asking = Template("Capital of {problem}:", examples=(("Peru", "Lima"),), chat=False, stop=("\\n",))
        >>> asking.turns("Chad")
        [('user', 'Capital of Peru:'), ('assistant', 'Lima'), ('user', 'Capital of Chad:')]
    """

    user: str
    system: str | None = None
    examples: tuple[tuple[str, str], ...] = ()
    chat: bool = True
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.user, str) or self.user.count(PLACE) != 1:
            raise InputError("template", self.user, f"a text that holds {PLACE} exactly once")
        if self.system is not None and not (isinstance(self.system, str) and self.system.strip()):
            raise InputError("template.system", self.system, "a text that is not empty, or None")
        object.__setattr__(self, "examples", _examples(self.examples))
        object.__setattr__(self, "stop", stop_strings(self.stop))
        if not isinstance(self.chat, bool):
            raise InputError("template.chat", self.chat, "True, or False for a raw completion")

    def turns(self, problem: str) -> list[Turn]:
        """Return the roles and contents of the conversation that asks a problem."""
        asked = [("system", self.system)] if self.system is not None else []
        for shown, response in self.examples:
            asked += [("user", self.user.replace(PLACE, shown)), ("assistant", response)]
        return [*asked, ("user", self.user.replace(PLACE, problem))]


@dataclass(frozen=True)
class Called:
    """A template that is a function of the problem, with what its attributes say.

    Args:
        write: Returns a text, or messages with ``role`` and ``content``.
        name: What messages call it.
        chat: See :class:`Template`.
        stop: See :class:`Template`.
    """

    write: Callable[[str], str | Messages]
    name: str
    chat: bool
    stop: tuple[str, ...]

    def turns(self, problem: str) -> list[Turn]:
        """Return the roles and contents of the conversation that asks a problem.

        Raises:
            InputError: the function returns something else.
        """
        allowed = "a function of a problem that returns a text, or messages with role and content, the last a user's"
        written = self.write(problem)
        if isinstance(written, str):
            written = [{"role": "user", "content": written}]
        try:
            turns = [(message["role"], message["content"]) for message in written]
        except (TypeError, KeyError) as error:
            raise InputError("template", self.name, f"{allowed} (got {written!r:.60})") from error
        whole = all(isinstance(part, str) and part.strip() for turn in turns for part in turn)
        if not turns or not whole or turns[-1][0] == "assistant":
            raise InputError("template", self.name, f"{allowed} (got {written!r:.60})")
        return turns


Part = str | Template | Callable[[str], str | Messages]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    problem: str,
    template: str | Template | Callable[[str], str | Messages],
    chat_options: Mapping[str, Any] | None = None,
) -> list[int]:
    """Return the token ids of a problem in its template, in the tokenizer's chat format if it has one.

    Without one, or in a raw completion, what the tokenizer puts in front of a text (BOS) stays, and what it puts behind
    it (EOS) does not: a response is to follow.

    Args:
        tokenizer: The model's.
        problem: The problem's text; braces in it are left alone, and special tokens in it are no markup. Of a template
            that is a function all that it returns is such text.
        template: As :func:`read_template` takes it.
        chat_options: Arguments of the chat format: ``{"enable_thinking": False}``.

    Raises:
        InputError: there is no such template, or it does not hold ``{problem}`` exactly once; the chat format cannot
            be rendered, does not open the assistant's turn, does not show the turns as they are, or does not read an
            argument.
    """
    return encode_all(tokenizer, [problem], template, chat_options)[0]


def encode_all(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[str],
    template: str | Template | Callable[[str], str | Messages],
    chat_options: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Return :func:`encode` of each problem; of a thousand problems in about a tenth of the time.

    Args:
        tokenizer: The model's.
        problems: Their texts.
        template: As of :func:`encode`.
        chat_options: As of :func:`encode`.

    Raises:
        InputError: as :func:`encode`.
    """
    asking, options = read_template(template), packed(chat_options)
    formatted = asking.chat and has_format(tokenizer)
    if chat_options:
        if not asking.chat:
            raise InputError("chat_options", dict(chat_options), "none for a template of a raw completion")
        check_options(tokenizer, chat_options)
    if isinstance(asking, Template):
        frame = asking.turns(stand_in(0))
        around = tuple(frame) if formatted else as_text(frame, _end(asking))
        return framed_ids(tokenizer, around, [(problem,) for problem in problems], options)
    written = [asking.turns(problem) for problem in problems]
    if not formatted:
        return framed_ids(tokenizer, stand_in(0), [(as_text(turns, _end(asking)),) for turns in written], options)
    found = []
    for turns in written:  # which may differ in their roles, too
        roles = tuple((role, stand_in(number)) for number, (role, _) in enumerate(turns))
        found += framed_ids(tokenizer, roles, [[content for _, content in turns]], options)
    return found


def name_of(template: str | Template | Callable[[str], str | Messages]) -> str:
    """Return what a configuration calls a template; a name stays.

    A :class:`Template` is named by a hash of its content and a function by its place. Another process does not know
    them unless it has been given them too, or the function stands in a module that can be imported.

    Raises:
        InputError: it is no template.

    Example:
        >>> name_of(Template("{problem} ="))
        'template:7f039ddf'
    """
    if isinstance(template, str):
        return template
    if not isinstance(template, Template):
        return TEMPLATES.name_of(template)
    name = f"{PREFIX}{hashlib.sha256(repr(template).encode()).hexdigest()[:8]}"
    _held[name] = template
    return name


def template_origin(name: str) -> dict[str, str | None] | None:
    """Return where a template that is not of this package comes from: module (None for a text), file and its SHA-256.

    Raises:
        InputError: there is no such template.
    """
    if name in _held:
        return None
    if _is_part(name):
        return TEMPLATES.origin(name)
    return {"module": None, "file": name, "sha256": sha256(Path(name))}


def _is_part(name: str) -> bool:
    return name in TEMPLATES or (":" in name and not Path(name).exists())


def stops(template: str | Template | Callable[[str], str | Messages]) -> tuple[str, ...]:
    """Return the texts that end a response to a template: ``Sampling.stop``.

    Raises:
        InputError: there is no such template.
    """
    return read_template(template).stop


def around(template: str | Template | Callable[[str], str | Messages], problem: str) -> str:
    """Return what a template shows around a problem, as one text for reading; the problem's own text is a blank."""
    asking = read_template(template)
    if isinstance(asking, Template):
        return as_text(asking.turns(" "), _end(asking))
    return as_text(asking.turns(problem), _end(asking)).replace(problem, " ")


def examples_in(template: str | Template | Callable[[str], str | Messages], problem: str) -> int:
    """Return how many responses a template shows as the assistant's: worked examples, wherever they are from."""
    return sum(role == "assistant" for role, _ in read_template(template).turns(problem))


def _end(asking: Template | Called) -> str:
    return asking.stop[0] if asking.stop else PARAGRAPH


def _examples(given: object) -> tuple[tuple[str, str], ...]:
    allowed = "pairs of two texts, a problem and a response"
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InputError("template.examples", given, allowed)
    for pair in given:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InputError("template.examples", pair, allowed)
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise InputError("template.examples", pair, allowed)
    return tuple((pair[0], pair[1]) for pair in given)


def stop_strings(given: object) -> tuple[str, ...]:
    """Return texts that end a response as a tuple.

    Raises:
        InputError: they are something else, or one is empty.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InputError("template.stop", given, "texts that are not empty, in a list or tuple")
    for text in given:
        if not isinstance(text, str) or not text:
            raise InputError("template.stop", text, "texts that are not empty, in a list or tuple")
    return tuple(given)


def _check(part: object) -> None:
    if not isinstance(part, str | Template) and not callable(part):
        raise TypeError(f"a text that holds {PLACE} once, a Template, or a function of the problem")


TEMPLATES: Registry[Any] = Registry("template", _check)
_FOLDER = files("sharpen.llm.tasks") / "prompts"
boxed_cot = (_FOLDER / "boxed-cot.txt").read_text(encoding="utf-8")
plain = (_FOLDER / "plain.txt").read_text(encoding="utf-8")
# By their places, as a user's text is named: a registry takes a text for the place of a part.
TEMPLATES.register("boxed-cot", f"{__name__}:boxed_cot")
TEMPLATES.register("plain", f"{__name__}:plain")
TEMPLATES.register("answer-tags", "sharpen.llm.tasks.gym.tasks:answer_tags")
TEMPLATES.register_maker("gym", "sharpen.llm.tasks.gym.tasks:template")
for _name in WORD_TASKS:
    _place = _name.replace("-", "_")
    TEMPLATES.register(_name, f"sharpen.llm.tasks.words.family:completions.{_place}")
    TEMPLATES.register(f"{_name}-turns", f"sharpen.llm.tasks.words.family:conversations.{_place}")


@lru_cache(maxsize=32)
def read_template(template: str | Template | Callable[[str], str | Messages]) -> Template | Called:
    """Return a template; a text loses the newline that ends it.

    Args:
        template: A built-in name, a file, ``module:object`` or an entry point's name; or a template itself that is no
            text.

    Raises:
        InputError: there is no such template, or it does not hold ``{problem}`` exactly once.
    """
    if template in _held:
        return _held[template]  # type: ignore[index]
    if not isinstance(template, str):
        return _made(template, str(getattr(template, "__qualname__", type(template).__name__)))
    if template.startswith(PREFIX):
        raise InputError("template", template, "a template that was given to this process; module:object is for others")
    try:
        part = TEMPLATES.get(template) if _is_part(template) else Path(template).read_text(encoding="utf-8")
        return _made(part, template)
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"{', '.join(TEMPLATES)}, module:object or a readable text file"
        raise InputError("template", template, allowed) from error


def _made(part: Part, name: str) -> Template | Called:
    if isinstance(part, Template):
        return part
    if not isinstance(part, str):
        _check(part)
        return Called(part, name, getattr(part, "chat", True), stop_strings(getattr(part, "stop", ())))
    if part.count(PLACE) != 1:
        raise InputError("template", name, f"a text that holds {PLACE} exactly once")
    return Template(part.removesuffix("\n"))
