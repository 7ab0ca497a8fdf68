"""Is a response's final answer the gold answer? 1 or 0, whatever the response holds."""

from __future__ import annotations

import logging
import re
import threading
from functools import lru_cache

# Seconds that math-verify may take for one parse or comparison. It enforces them with an alarm signal, which exists on
# the main thread only; elsewhere it has to run without.
TIMEOUT = 5
# Longer text is not an answer: what math-verify would do with it costs more than it can tell.
LONGEST_ANSWER = 1000
_INTEGER = re.compile(r"\s*([+-]?)0*([0-9]{1,30})\s*")
_BOXED = "\\boxed"

log = logging.getLogger(__name__)


def verify(response: str, answer: str) -> float:
    r"""Return 1.0 if the response's final answer equals the gold answer, else 0.0; never raises.

    The final answer is the content of the last complete ``\boxed{}``, and without one what math-verify finds in the
    text. Two plain integers are compared as such; everything else is math-verify's: the gold answer read as LaTeX, the
    response as LaTeX or a plain expression, errors and timeouts 0.

    Args:
        response: The model's text.
        answer: The gold answer, bare or boxed.

    Example:
        >>> verify(r"so it is \boxed{\frac{1}{2}}", "0.5"), verify("no idea", "0.5")
        (1.0, 0.0)
    """
    boxed = final_answer(response)
    gold = final_answer(answer) or answer
    if boxed is None:
        return _compare(response[-LONGEST_ANSWER:], gold, False)
    left, right = _integer(boxed), _integer(gold)
    if left is not None and right is not None:
        return float(left == right)
    return _compare(boxed, gold, True)


def final_answer(response: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{…}``, or None.

    Example:
        >>> final_answer(r"\boxed{1}, no, \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
    """
    start = response.rfind(_BOXED)
    while start >= 0:
        content = _braced(response, start + len(_BOXED))
        if content is not None:
            return content
        start = response.rfind(_BOXED, 0, start)
    return None


def _braced(text: str, start: int) -> str | None:
    """Return what stands between the brace at ``start`` and the one that closes it, or None."""
    while start < len(text) and text[start] == " ":
        start += 1
    if text[start : start + 1] != "{":
        return None
    depth, escaped = 0, False
    for place in range(start, len(text)):
        character = text[place]
        if not escaped and character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start + 1 : place]
        escaped = character == "\\" and not escaped
    return None


def _integer(text: str) -> str | None:
    """Return a plain integer in canonical form, or None if the text is anything else."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    return ("-" if match[1] == "-" and match[2] != "0" else "") + match[2]


@lru_cache(maxsize=65536)
def _compare(prediction: str, gold: str, boxed: bool) -> float:
    if len(prediction) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        return 0.0
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
    from math_verify import verify as equal

    limit = TIMEOUT if threading.current_thread() is threading.main_thread() else None
    latex, expression = LatexExtractionConfig(), ExprExtractionConfig()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it logs a traceback for every text that is no mathematics
    try:
        golds = parse(f"\\boxed{{{gold}}}", [latex], parsing_timeout=limit)  # type: ignore[arg-type]
        text = f"\\boxed{{{prediction}}}" if boxed else prediction
        found = parse(text, [latex, expression], parsing_timeout=limit)  # type: ignore[arg-type]
        return float(bool(golds and found) and equal(golds, found, timeout_seconds=limit))
    except Exception:  # whatever a hostile text provokes in the parsers is a wrong answer
        return 0.0
    finally:
        logging.disable(before)
