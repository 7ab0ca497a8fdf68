"""The door of samplers: what one is, those that are built in, and how its settings reach it.

A sampler draws one response. What it can be told stands in its own signature and nowhere else: the settings that it
takes have an effect, the others have none, and a run that gives one of those is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

from sharpen.llm.samplers.kernel import Tokens
from sharpen.llm.samplers.requests import Autoregressive, Extend, Key, Method, Next, Sample
from sharpen.objective import InputError
from sharpen.objective.registry import Registry

MODEL = "model"  # the keyword under which a sampler gets the model itself


class Sampler(Protocol):
    """A function that draws one response: a generator that yields requests and returns a ``Sample``.

    Args:
        prompt: Token ids, at least one.
        longest: Longest response in tokens, at least 1.
        key: The source of its random numbers; they depend on nothing else, so a killed run goes on with the same.
        settings: By keyword, what the signature names: a field of ``SampleConfig`` (``alpha``, ``budget``, ``n``, ...)
            with the value of the run, whatever the signature's default; ``model``, an ``Autoregressive``, which knows
            the tokens that end a response; and any other name from the run's ``options``, or its default.

    It yields a list of ``Extend`` (draw a continuation) and ``Next`` (which tokens are the likeliest), and is sent a
    list of as many ``Path`` and ``Likeliest``, in their order. The ``Sample`` has a response of 1 to ``longest`` tokens
    and, as its path's ``base``, log p of each in nats; its counts are what the method cost.
    """

    def __call__(self, prompt: Tokens, longest: int, key: Key, /, *args: Any, **settings: Any) -> Method: ...  # noqa: D102


@dataclass(frozen=True)
class Unless:
    """Says of a sampler's setting, in ``Annotated``, that it does nothing once another one is given.

    Args:
        other: Name of the other setting, which is None where it is not given.
    """

    other: str


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a function (prompt, longest, key, settings by keyword) that yields requests")
    inspect.signature(part).bind_partial((0,), 1, None)  # refuses a function without three places


SAMPLERS: Registry[Sampler] = Registry("sampler", _check)
SAMPLERS.register("plain", "sharpen.llm.samplers.candidates:plain")
SAMPLERS.register("low-temperature", "sharpen.llm.samplers.candidates:low_temperature")
SAMPLERS.register("best-of-n", "sharpen.llm.samplers.candidates:best_of_n")
SAMPLERS.register("power", "sharpen.llm.samplers.power:power_sampler")
SAMPLERS.register("scalable-power", "sharpen.llm.samplers.scalable:scalable_sampler")
SAMPLERS.register("power-smc", "sharpen.llm.samplers.particles:particles")
SAMPLERS.register("reweighted", "sharpen.llm.samplers.particles:reweighted")


def settings_of(name: str) -> dict[str, inspect.Parameter]:
    """Return the settings that a sampler takes by keyword, in the order of its signature; ``model`` is none."""
    return {key: one for key, one in _keywords(name).items() if key != MODEL}


def _keywords(name: str) -> dict[str, inspect.Parameter]:
    names = list(inspect.signature(SAMPLERS.get(name, "method")).parameters.values())[3:]
    return {one.name: one for one in names if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}


def replaced_by(name: str, setting: str) -> str | None:
    """Return which setting, once given, makes another one of a sampler do nothing; None: it always has an effect."""
    try:
        hint = get_type_hints(SAMPLERS.get(name, "method"), include_extras=True).get(setting)
    except (NameError, TypeError):  # a user's annotation that stands for a type checker only, or an object's
        return None
    return next((mark.other for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Unless)), None)


def taking(setting: str) -> list[str]:
    """Return the names of the registered samplers that take a setting."""
    return SAMPLERS.where(lambda name: setting in settings_of(name))


def check_options(name: str, options: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Refuse options that a sampler does not take.

    Args:
        name: The sampler's.
        options: What a run gives it beside the fields of its configuration.
        fields: Those fields.

    Raises:
        InputError: an option is a field, or nothing that the sampler takes, or one that it needs is missing.
    """
    known = set(fields)
    takes = settings_of(name)
    own = [one for one in takes if one not in known]
    kinds = {one.kind for one in inspect.signature(SAMPLERS.get(name, "method")).parameters.values()}
    for option, value in options.items():
        if option in known:
            raise InputError(f"options.{option}", value, f"not as an option: {option} is a setting of its own")
        if option not in own and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise InputError(f"options.{option}", value, f"what {name} takes: {', '.join(own) or 'no option'}")
    for one in own:
        if takes[one].default is inspect.Parameter.empty and one not in options:
            raise InputError(f"options.{one}", None, f"a value, which {name} needs")


def begin(
    name: str,
    prompt: Tokens,
    longest: int,
    key: Key,
    model: Autoregressive,
    fields: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Method:
    """Return the generator of a sampler for one response, which checks what the sampler yields and returns.

    Args:
        name: The sampler's.
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        model: What will answer the generator's requests.
        fields: Settings of the run; the sampler gets those that it takes.
        options: Settings that only this sampler has, see :func:`check_options`.

    Raises:
        InputError: the sampler is no generator; or, while it runs, it yields no requests or returns no response.
    """
    known = {**fields, MODEL: model}
    given = {one: known[one] for one in _keywords(name) if one in known}
    drawing = SAMPLERS.get(name, "method")(prompt, longest, key, **given, **options)
    if not isinstance(drawing, Generator):
        raise InputError("method", name, f"a sampler that yields requests; it returned {type(drawing).__name__}")
    return _checked(name, drawing, longest)


def _checked(name: str, drawing: Method, longest: int) -> Method:
    try:
        requests = next(drawing)
        while True:
            if not (isinstance(requests, list) and all(isinstance(one, Extend | Next) for one in requests)):
                raise InputError("method", name, "a sampler that yields lists of Extend and Next")
            requests = drawing.send((yield requests))
    except StopIteration as end:
        sample = end.value
    if not isinstance(sample, Sample):
        raise InputError("method", name, f"a sampler that returns a Sample, not {type(sample).__name__}")
    if not (1 <= len(sample.path) <= longest and len(sample.path.base) == len(sample.path)):
        found = f"{len(sample.path)} tokens, {len(sample.path.base)} of log p"
        raise InputError("method", name, f"a sampler of 1 to {longest} tokens with log p of each ({found})")
    return sample
