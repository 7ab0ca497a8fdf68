r"""Where a response says what its final answer is: in a box, or in words.

Two places count. The last complete ``\boxed{}`` that is not empty, together with the boxes before it that belong to
the same list ("\boxed{-2} and \boxed{1}"). Without a box: what the response *states* as its answer, which is what
follows the last "answer is", "Answer:", "<answer>" or "####"; else the whole response where it is nothing but an
answer; else what its last sentence concludes ("Therefore, the area is 12."). A number that merely comes last in a text
is not an answer: a response that is cut at the length limit ends somewhere.
"""

from __future__ import annotations

import bisect
import re
from typing import NamedTuple

LONGEST_RESPONSE = 200_000  # characters, of which the last ones are read
LONGEST_ANSWER = 1000  # characters; longer text is not an answer
MOST_JOINED = 16  # boxes of one list
LONGEST_GAP = 80  # characters between two boxes of one list
_BOX = re.compile(r"\\boxed *\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_EMPTY = re.compile(r"\\boxed|[\s{}$~]")

# Between the boxes of one list: a separator, formula delimiters, the name of the next unknown, and, if the separator
# is a word, up to three other words ("papers and"). Words that take something back separate nothing.
_TYPESETTING = re.compile(
    r"\\(?:text|mathrm|textbf|mbox)(?![a-zA-Z])|\\q?quad(?![a-zA-Z])|\\[,;:! ()\[\]]|[\s$~{}().*&]|\\\\"
)
_UNKNOWN = re.compile(r"\b[a-zA-Z](?:_\{?\w\}?)?\s*(?:=|\\in(?![a-zA-Z]))")
_AND = re.compile(r"\b(?:and|or)\b")
_REVISION = re.compile(
    r"\b(?:no|not|wait|but|then|so|actually|instead|hence|therefore|thus|which|rather|correct|wrong|gives?|is|are)\b"
)
_MOST_WORDS = 3

# Runs of blanks are bounded, so that the time stays linear in a text of nothing else.
_CUE = re.compile(
    r"(?i:(?<![a-z])(?:answers?|final (?:result|value|solution)))(?![a-z])[*_\s]{0,8}"
    r"(?:(?i:to|for|of|in) [^.\n:=]{1,80}?(?=[\s*_](?i:is|are|was|equals)\s|:|=))?"
    r"(?:[\s,]{0,4}(?i:then|thus|therefore|hence|so|now|finally)\b[\s,]{0,4})?"
    r"\s{0,4}(?:[:=]|(?i:is|are|was|equals|(?:would|will|must|should) be)(?![a-z]))[*_\s]{0,8}:?"
    r"(?:[\s,]{0,4}(?i:then|thus|therefore|hence|so|now|simply|just)\b[\s,]{0,4}:?)?"
    r"|(?i:(?<![a-z])answer) {1,4}(?=\$|\\[(\[]|-?\d)"
    r"|(?i:(?<![a-z])final answer|^[#*_ ]{0,8}answer)[*_ ]{0,8}\r?\n"
    r"|<answer>"
    r"|(?:^|\n)[ \t]{0,8}####",
    re.MULTILINE,
)
_LEAD = re.compile(r"[ \t*_>]{0,8}(?:\r?\n[ \t*_>]{0,8}){0,3}")
_FORMULA = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|(?<!\\)\$(?P<c>[^$\n]+?)(?<!\\)\$|\\\((?P<d>.+?)\\\)", re.DOTALL
)
_JOIN = re.compile(r"[\s,;]*(?:and|or)?[\s,;]*")
_PERCENT = re.compile(r"\s*(?:\\?%|(?:percent|pct)\b)")
_SENTENCE = re.compile(r"(?<![ap]\.m)[.!?]+[*_]{0,4}(?=\s|$)")
_REASON = re.compile(r"[\s,]*\b(?:because|since|which|where|as|when|if|but|I hope)\b.*", re.DOTALL)
_CONCLUSION = re.compile(
    r"(?i:\b(?:therefore|thus|so|hence|consequently|finally|in conclusion|we (?:find|get|obtain|conclude|see|have))\b)"
)
_CONDITION = re.compile(r"(?i:\b(?:if|let|suppose|assume|assuming|not|maybe|perhaps)\b)|\?")
_COPULA = re.compile(r"(?:\s(?i:is|are|equals|be)|=)\s+(?!(?:the|our|an?|correct|possible|true)\b)(?=\S)")
_AFTER_THE_END = re.compile(r"(?:I hope it is correct\.?|<\|.{1,40}\|>\s*\w*|\s)+$", re.DOTALL)
_APPROXIMATELY = re.compile(r"^(?i:approximately|about|exactly|roughly|simply|just)\s+")
_EDGE = "*_\"'“”‘’`"
# A response that is nothing but an answer has no sentence in it and no open end.
_WRAPPED_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s*\{[^{}]*\}")
_WORD = re.compile(r"(?<!\\)\b[a-zA-Z]{2,}\b")
_QUANTITY = re.compile(r"[-+$]?\d[\d.,/]* +[a-zA-Z]+\.?")
_OPEN_END = re.compile(r"[=+\-*/^<>,(\[{:\\?]\s*$")


class Found(NamedTuple):
    """An answer in a response.

    Args:
        text: The answer, without box or delimiters.
        boxed: Whether it was in a box.
    """

    text: str
    boxed: bool


def find_answer(response: str, finished: bool = True) -> Found | None:
    r"""Return a response's final answer, or None if it has none; see the module.

    Args:
        response: Text of the model; of a long one the last ``LONGEST_RESPONSE`` characters are read.
        finished: False where the response was cut at the length limit: a statement that runs into the cut may lack its
            end, and is no answer. A complete box is one all the same.

    Example:
        >>> find_answer("**Answer: 3/4**"), find_answer("If x * 2 =")
        (Found(text='3/4', boxed=False), None)
        >>> find_answer("The answer is 12", finished=False) is None
        True
    """
    boxed = final_answer(response)
    if boxed is not None:
        return Found(boxed, True)
    stated = _stated(response[-LONGEST_RESPONSE:], finished)
    return None if stated is None else Found(stated, False)


def final_answer(response: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{…}`` that is not empty, or None.

    Boxes before it that belong to the same list are joined to it with commas: between the two stands a comma, a
    semicolon, "and" or "or", and nothing that begins another thought. The time is linear in the text.

    Example:
        >>> final_answer(r"\boxed{1}, no, \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
        >>> final_answer(r"x=\boxed{-2} \text{ and } x=\boxed{1}"), final_answer(r"\boxed{10}\boxed{}")
        ('-2, 1', '10')
    """
    text = response[-LONGEST_RESPONSE:]
    boxes = _filled(text, _boxes(text))
    if not boxes:
        return None
    first, content, end = boxes[-1]
    found = [text[content:end]]
    for before in reversed(boxes[:-1]):
        if len(found) == MOST_JOINED or before[2] >= first or not _continues(text[before[2] + 1 : first]):
            break
        first = before[0]
        found.append(text[before[1] : before[2]])
    return ", ".join(dict.fromkeys(reversed(found)))


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """Return (start of the command, of the content, place of the closing brace) of the complete boxes, in order."""
    starts = {match.end() - 1: match.start() for match in _BOX.finditer(text)}
    if not starts:
        return []
    found, open_braces = [], []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            brace = open_braces.pop()
            if brace in starts:
                found.append((starts[brace], brace + 1, match.start()))
    return sorted(found)


def _filled(text: str, boxes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the boxes that hold something; the text is read once, however deeply they are nested."""
    starts, ends, at = [], [], 0  # of what is something
    for empty in _EMPTY.finditer(text if boxes else ""):
        if empty.start() > at:
            starts.append(at)
            ends.append(empty.start())
        at = empty.end()
    starts.append(at)
    ends.append(len(text))

    def holds(content: int, end: int) -> bool:
        first = bisect.bisect_right(ends, content)
        return first < len(ends) and starts[first] < end

    return [box for box in boxes if holds(box[1], box[2])]


def _continues(gap: str) -> bool:
    """Return whether the text between two boxes makes them one list."""
    if len(gap) > LONGEST_GAP:
        return False
    words = _TYPESETTING.sub(" ", _UNKNOWN.sub(" ", _TYPESETTING.sub(" ", gap)))
    if _AND.search(words):
        rest = _AND.sub(" ", words)
        return not _REVISION.search(rest.lower()) and len(re.findall(r"\w+", rest)) <= _MOST_WORDS
    return re.fullmatch(r"\s*[,;]\s*", words) is not None


def _stated(text: str, finished: bool) -> str | None:
    cues = [cue.end() for cue in _CUE.finditer(text)]
    if not cues:
        return (_nothing_but_an_answer(text) or _concluded(text)) if finished else None
    start = cues[-1]
    lead = _LEAD.match(text, start)
    start = lead.end() if lead else start
    statement, complete = _statement(text[start : start + LONGEST_ANSWER])
    if not statement or not (finished or complete) or _OPEN_END.search(statement):
        return None
    return statement


def _statement(rest: str) -> tuple[str, bool]:
    """Return the answer at the start of a text, and whether the text goes on after it."""
    formula = _FORMULA.match(rest)
    if formula is not None:
        return _listed(rest, formula), True
    line = rest.partition("\n")[0].partition("</answer>")[0]
    end = _SENTENCE.search(line)
    sentence = line[: end.start()] if end else line
    complete = len(sentence) < len(rest.rstrip())
    copulas = list(_COPULA.finditer(_FORMULA.sub(_masked, sentence)))
    if copulas and len(_WORD.findall(sentence[: copulas[-1].start()])) > 1:  # "Answer: The largest n is 34."
        sentence = sentence[copulas[-1].end() :]
    formula = _FORMULA.search(sentence)
    if formula is None:
        plain = _APPROXIMATELY.sub("", _REASON.sub("", sentence).strip())
        return plain.strip(_EDGE).strip(), complete
    return _listed(sentence, formula), True


def _listed(text: str, formula: re.Match[str]) -> str:
    """Return the content of a formula and of those that continue a list with it."""
    found, end = [_inside(formula)], formula.end()
    while (joint := _JOIN.match(text, end)) and (following := _FORMULA.match(text, joint.end())):
        if not joint[0].strip():
            break
        found.append(_inside(following))
        end = following.end()
    return ", ".join(found) + ("\\%" if _PERCENT.match(text, end) else "")


def _concluded(text: str) -> str | None:
    """Return what the last sentence of a text concludes; only of its last ``LONGEST_ANSWER`` characters."""
    text = _AFTER_THE_END.sub("", text[-LONGEST_ANSWER:]).rpartition("\n")[2]
    starts = [0, *(match.end() for match in _SENTENCE.finditer(text) if match.end() < len(text))]
    sentence = text[starts[-1] :]
    if not _CONCLUSION.search(sentence) or _CONDITION.search(sentence):
        return None
    tails = list(_COPULA.finditer(_FORMULA.sub(_masked, sentence)))
    if tails:
        tail, _ = _statement(sentence[tails[-1].end() :])
        return _nothing_but_an_answer(tail)
    formulas = list(_FORMULA.finditer(sentence))
    return _inside(formulas[-1]) if formulas else None


def _masked(formula: re.Match[str]) -> str:
    return "$" * len(formula[0])


def _inside(formula: re.Match[str]) -> str:
    return next(content for content in formula.groupdict().values() if content is not None).strip()


def _nothing_but_an_answer(text: str) -> str | None:
    line = text.strip()
    if not line or "\n" in line or "\\boxed" in line or len(line) > LONGEST_ANSWER:
        return None
    formula = _FORMULA.match(line)
    if formula is not None and not _PERCENT.sub("", line[formula.end() :]).strip(" ."):
        return _listed(line, formula)
    bare = _WRAPPED_TEXT.sub(" ", line)
    words = _WORD.findall(bare)
    number = re.search(r"\d", bare) is not None
    # "Paris" is an answer, and so is a formula; a word among numbers ("approximately 7") is part of a sentence.
    if len(words) > 1 or (words and number and not _QUANTITY.fullmatch(bare)) or not re.search(r"[^\W_]", line):
        return None
    whole = line.count("{") == line.count("}") and bare.count("=") <= 1 and ";" not in bare
    return line if whole and not _OPEN_END.search(bare) else None
