"""Units of measurement in answers: which are the same, which can be converted, and which contradict each other.

A small table and not a library of units: an answer's unit is one of a few words in many spellings, and what it
is not is as important ("5m" is five times m unless the letter is set as text).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit of measurement.

    Args:
        dimension: Powers of the base kinds, by name: ``(("length", 2),)``.
        factor: Its size in base units.
    """

    dimension: tuple[tuple[str, int], ...]
    factor: Fraction


# kind: (spellings, size). A plain answer may carry them as a word of two letters or more; one letter needs \text{}.
_TABLE: dict[str, list[tuple[str, Fraction]]] = {
    "length": [
        ("m meter meters metre metres", Fraction(1)),
        ("km kilometer kilometers kilometre kilometres", Fraction(1000)),
        ("cm centimeter centimeters centimetre centimetres", Fraction(1, 100)),
        ("mm millimeter millimeters millimetre millimetres", Fraction(1, 1000)),
        ("in inch inches", Fraction(254, 10000)),
        ("ft foot feet", Fraction(3048, 10000)),
        ("yd yard yards", Fraction(9144, 10000)),
        ("mi mile miles", Fraction(1609344, 1000)),
    ],
    "time": [
        ("s sec secs second seconds", Fraction(1)),
        ("min mins minute minutes", Fraction(60)),
        ("h hr hrs hour hours", Fraction(3600)),
        ("day days", Fraction(86400)),
        ("week weeks", Fraction(7 * 86400)),
    ],
    "months": [("month months", Fraction(1)), ("yr yrs year years", Fraction(12))],
    "mass": [
        ("g gram grams", Fraction(1)),
        ("kg kilogram kilograms", Fraction(1000)),
        ("mg milligram milligrams", Fraction(1, 1000)),
    ],
    "weight": [("lb lbs pound pounds", Fraction(16)), ("oz ounce ounces", Fraction(1))],
    "volume": [("l liter liters litre litres", Fraction(1)), ("ml milliliter milliliters", Fraction(1, 1000))],
    "gallons": [("gal gallon gallons", Fraction(8)), ("pint pints", Fraction(1)), ("quart quarts", Fraction(2))],
    "money": [("dollar dollars", Fraction(1)), ("cent cents", Fraction(1, 100))],
    "angle": [("deg degree degrees", Fraction(1))],
    "radians": [("rad radian radians", Fraction(1))],
    "temperature F": [("degrees fahrenheit", Fraction(1))],
    "temperature C": [("degrees celsius", Fraction(1))],
}
_UNITS = {
    name: Unit(((kind, 1),), factor)
    for kind, rows in _TABLE.items()
    for names, factor in rows
    for name in ([names] if kind.startswith("temperature") else names.split())
}
_UNITS |= {"mph": Unit((("length", 1), ("time", -1)), _UNITS["mile"].factor / 3600)}
_UNITS |= {"kmh": Unit((("length", 1), ("time", -1)), Fraction(1000, 3600))}
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}

_TRAILING = re.compile(
    r"(?P<value>.*?[\d})!\]])(?P<gap>\s*)(?:"
    + r"\\text\s*\{(?P<text>[^{}]*)\}|(?P<plain>(?<![a-zA-Z\\])[a-zA-Z][a-zA-Z./ ]*)"
    + r")\s*(?:\^\s*\{?(?P<power>[23])\}?)?",
    re.DOTALL,
)
_DEGREES = re.compile(
    r"(?P<value>.*?[\d})])\s*\^\s*\{?\\circ\}?(?P<scale>\s*(?:\\text\s*\{\s*)?[CF](?:\s*\})?)?", re.DOTALL
)
_DOLLARS = re.compile(r"(?P<sign>-?)\s*\\\$\s*(?P<value>[\d.].*)", re.DOTALL)


def split_unit(answer: str) -> tuple[str, Unit | None]:
    r"""Return an answer's value and its unit, or the answer and None where it has no unit of the table.

    Args:
        answer: In the form of :func:`sharpen.llm.tasks.verification.answer_forms.canonical`.

    Example:
        >>> split_unit(r"5 \text{ meters}")
        ('5', Unit(dimension=(('length', 1),), factor=Fraction(1, 1)))
        >>> split_unit("5m"), split_unit(r"3 \text{ apples}")
        (('5m', None), ('3 \\text{ apples}', None))
    """
    if dollars := _DOLLARS.fullmatch(answer):
        return dollars["sign"] + dollars["value"], _UNITS["dollar"]
    if degrees := _DEGREES.fullmatch(answer):
        scale = (degrees["scale"] or "").strip(" }")[-1:]
        return degrees["value"], _UNITS[{"C": "degrees celsius", "F": "degrees fahrenheit"}.get(scale, "degree")]
    found = _TRAILING.fullmatch(answer)
    if found is None:
        return answer, None
    plain = found["plain"]
    if plain is not None and len(plain.strip()) == 1:
        return answer, None
    unit = _unit(found["text"] if plain is None else plain, int(found["power"] or 1))
    return (answer, None) if unit is None else (found["value"].strip(), unit)


def _unit(name: str, power: int) -> Unit | None:
    words = name.lower().replace(".", "").replace("/", " per ").split()
    if " ".join(words) in _UNITS:
        return _raised(_UNITS[" ".join(words)], power)
    if "per" in words:
        place = words.index("per")
        above, below = _unit(" ".join(words[:place]), 1), _unit(" ".join(words[place + 1 :]), power)
        return None if above is None or below is None else _product(above, _raised(below, -1))
    powers = [_POWERS[word] for word in words if word in _POWERS]
    rest = [word for word in words if word not in _POWERS]
    if len(rest) != 1 or len(powers) > 1 or rest[0] not in _UNITS:
        return None
    return _raised(_UNITS[rest[0]], powers[0] if powers else power)


def _raised(unit: Unit, power: int) -> Unit:
    return Unit(tuple((kind, count * power) for kind, count in unit.dimension), unit.factor**power)


def _product(one: Unit, other: Unit) -> Unit:
    counts = dict(one.dimension)
    for kind, count in other.dimension:
        counts[kind] = counts.get(kind, 0) + count
    return Unit(tuple(sorted((kind, count) for kind, count in counts.items() if count)), one.factor * other.factor)
