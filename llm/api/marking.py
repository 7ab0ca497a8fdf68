"""Marking answers from Python."""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.llm.tasks.verification.verify import verify as compare
from sharpen.objective import InputError


def verify(response: str, answer: str | float, finished: bool = True) -> float:
    r"""Return 1.0 if a response's final answer equals the gold answer, else 0.0; no text makes it raise.

    Args:
        response: Text of a model.
        answer: The gold answer, text or a number.
        finished: False where the response was cut at the length limit.

    Raises:
        InputError: an argument is no text.

    Example:
        >>> verify(r"so it is \boxed{\frac{1}{2}}", 0.5), verify("no idea", "7")
        (1.0, 0.0)
    """
    return compare(_text(response, "response"), _gold(answer, "answer"), finished)


def verify_many(
    responses: Sequence[str], answers: Sequence[str | float] | str | float, finished: Sequence[bool] | None = None
) -> list[float]:
    r"""Return 1.0 or 0.0 for each response, as :func:`verify` does, compared by several processes at once.

    Args:
        responses: Texts of a model.
        answers: As many gold answers, or one for all.
        finished: False for each response that was cut at the length limit; None if none was.

    Raises:
        InputError: there are more of the one than of the other, or an entry is no text.

    Example:
        >>> verify_many([r"\boxed{7}", "The answer is 8."], 7)
        [1.0, 0.0]
    """
    if isinstance(responses, str):
        raise InputError("responses", responses, "a list of texts; verify takes one")
    texts = [_text(one, f"responses[{place}]") for place, one in enumerate(responses)]
    golds = [answers] * len(texts) if isinstance(answers, str | int | float) else list(answers)
    for name, other in (("answers", golds), ("finished", texts if finished is None else finished)):
        if len(other) != len(texts):
            raise InputError(name, f"{len(other)} of them", f"{len(texts)}, as many as responses")
    with Verifier() as verifier:
        return verifier(texts, [_gold(one, f"answers[{place}]") for place, one in enumerate(golds)], finished)


def _text(given: object, field: str) -> str:
    if not isinstance(given, str):
        raise InputError(field, given, "a text")
    return given


def _gold(given: object, field: str) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise InputError(field, given, "a text or a number")
    return str(given)
