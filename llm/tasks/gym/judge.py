"""Scoring by reasoning-gym's own scorers, in the killable processes of the verifier and nowhere else.

Some of them call ``eval``, or SymPy's ``parse_expr``, which calls it, on what a model wrote. Here they find
:mod:`sharpen.llm.tasks.gym.safe` in the place of both. An audit hook refuses what no scorer needs: other programs,
connections, changes of files. It is a second line of defence and no sandbox.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

from sharpen.llm.tasks.gym import safe
from sharpen.llm.tasks.gym.names import without_plots

JUDGE = f"{__name__}:score"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ERROR = "error"  # the scorer failed on the answer
# It evaluates the problem's own text by ``eval``, and reads the answer by ``int``.
_EVALUATES_PROBLEMS = {"reasoning_gym.arithmetic.bitwise_arithmetic"}
_REFUSED = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.kill", "os.remove", "os.rmdir"),
    *("os.rename", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.putenv"),
    *("socket.connect", "socket.bind", "socket.sendto", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
)


def packed(entry: dict[str, Any]) -> str:
    """Return a problem as a text that a worker can unpack: this program made it, so it may be a pickle."""
    return base64.b64encode(pickle.dumps(entry)).decode()


def prepare() -> None:
    """Import the scorers, and see that none runs what a model wrote."""
    without_plots()
    import reasoning_gym

    sys.dont_write_bytecode = True
    guard()
    sys.addaudithook(_refuse)
    assert reasoning_gym.factory.DATASETS


def score(generator: str, settings: str, entry: str, answer: str) -> str:
    """Return the score of an answer as a text, or ``error``.

    Args:
        generator: Its name.
        settings: Of its data set, in JSON.
        entry: The problem, packed.
        answer: The answer that was found, in JSON; ``null``: none was.
    """
    try:
        value = _dataset(generator, settings).score_answer(json.loads(answer), _entry(entry))
        return repr(min(1.0, max(0.0, float(value)))) if value == value else ERROR
    except Exception:  # whatever a hostile text provokes in a scorer is an answer without worth
        return ERROR


def guard() -> None:
    """Put what reads without running in the place of what runs, in every module of reasoning-gym."""
    import sympy
    from sympy.parsing import sympy_parser

    stand_in = _Guarded("sympy")
    runs = {id(sympy): stand_in, id(sympy_parser.parse_expr): safe.expression, id(sympy.sympify): safe.expression}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "reasoning_gym":
            continue
        for own, value in list(vars(module).items()):
            if id(value) in runs:
                setattr(module, own, runs[id(value)])
        if name not in _EVALUATES_PROBLEMS:
            module.__dict__["eval"], module.__dict__["exec"] = safe.literal, safe.refuse


class _Guarded(ModuleType):
    """SymPy, whose ways to read a text do not run it."""

    parse_expr = sympify = S = staticmethod(safe.expression)

    def __getattr__(self, name: str) -> Any:
        import sympy

        return getattr(sympy, name)


@lru_cache(maxsize=128)
def _dataset(generator: str, settings: str) -> Any:
    from reasoning_gym.factory import create_dataset

    return create_dataset(generator, **json.loads(settings))


@lru_cache(maxsize=128)
def _entry(text: str) -> dict[str, Any]:
    return pickle.loads(base64.b64decode(text))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _REFUSED:
        raise PermissionError(f"{event} is refused")
    if event == "open" and arguments[0] != os.devnull and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        raise PermissionError("a scorer writes no file")
