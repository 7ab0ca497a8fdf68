"""Reading what a model wrote without running it: for scorers that would call ``eval``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

LONGEST = 2000  # characters
_CONSTANTS = ("pi", "E", "I")
_FUNCTIONS = (
    *("exp", "log", "ln", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "Abs"),
    "Integral",  # unevaluated, as some of reasoning-gym's own answers have it
)


def literal(text: str, *_: object) -> Any:
    """Return the list, number or text that is written; in the place of ``eval``.

    Raises:
        ValueError: it is anything else, or too long.
    """
    if len(text) > LONGEST:
        raise ValueError("too long")
    return ast.literal_eval(text)


def refuse(*_: object) -> None:
    """Run nothing; in the place of ``exec``.

    Raises:
        PermissionError: always.
    """
    raise PermissionError("no program is run")


def expression(text: str, local_dict: Mapping[str, Any] | None = None, **_: object) -> Any:
    """Return the SymPy expression that is written; in the place of ``parse_expr``, which calls ``eval``.

    Numbers, names, the four operations, powers, and elementary functions; nothing else has a meaning.

    Args:
        text: In Python's notation.
        local_dict: What names stand for; others are symbols.

    Raises:
        ValueError: it holds anything else, or is too long.
        SyntaxError: it is no expression.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError("too long")
    return _built(ast.parse(text, mode="eval").body, text, local_dict or {})


def _built(node: ast.expr, text: str, names: Mapping[str, Any]) -> Any:
    import sympy

    match node:
        case ast.Constant(value=value) if type(value) is int:
            return sympy.Integer(value)
        case ast.Constant(value=value) if type(value) is float:
            return sympy.Float(ast.get_source_segment(text, node))  # all digits, as they are written
        case ast.Name(id=name):
            if name in names:
                return names[name]
            return getattr(sympy, name) if name in _CONSTANTS else sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _built(operand, text, names)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=operation, right=right):
            return _combined(operation, _built(left, text, names), _built(right, text, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return getattr(sympy, name)(*(_built(argument, text, names) for argument in arguments))
    raise ValueError(f"{type(node).__name__} has no meaning here")


def _combined(operation: ast.operator, left: Any, right: Any) -> Any:
    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow():
            return left**right
    raise ValueError(f"{type(operation).__name__} has no meaning here")
