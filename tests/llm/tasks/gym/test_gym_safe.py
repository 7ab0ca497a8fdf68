from __future__ import annotations

from pathlib import Path

import pytest
import sympy

from sharpen.llm.tasks.gym import judge, safe
from sharpen.llm.tasks.gym.judge import packed
from sharpen.llm.tasks.verification.pool import VerifyPool
from sharpen.llm.tasks.verification.worker import CRASH, TIMEOUT

HOSTILE = (
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 1)()",
    "open('x', 'w')",
    "exec('1')",
    "S('1')",
    "x.subs(x, 1)",
    "sin(x, evaluate=False)",
    "[x for x in (1, 2)]",
    "'a' * 3",
    "1 if 1 else 2",
    "f'{1}'",
    "x := 1",
    "1; 2",
    "not 1",
    "1 < 2",
    "x[0]",
    "preview(x)",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_arithmetic_has_no_meaning(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        safe.expression(text)


@pytest.mark.parametrize(
    "text",
    ["3*x**2 - x/2 + 1", "exp(-2*x)*sin(x) + C", "(1 + 2)*3/4", "-x + +2", "log(x, 2)", "pi*E", "1.5*x", "sqrt(2)**3"],
)
def test_expressions_are_sympys_own(text: str) -> None:
    """SymPy's parser, which evaluates, is the oracle: of these texts alone."""
    names = {"x": sympy.Symbol("x"), "C": sympy.Symbol("C")}
    assert safe.expression(text, local_dict=names) == sympy.parse_expr(text, local_dict=names)


def test_literals() -> None:
    assert safe.literal("[[1, 'a'], (2.5,)]") == [[1, "a"], (2.5,)]
    for text in ("__import__('os')", "[1] * 9", "x", "9" * 3000):
        with pytest.raises(ValueError, match=r"malformed|too long"):
            safe.literal(text)
    with pytest.raises(PermissionError):
        safe.refuse("1")


def test_long_texts_are_not_parsed() -> None:
    with pytest.raises(ValueError, match="too long"):
        safe.expression("1+" * 2000 + "1")


def test_the_hook_refuses_what_no_scorer_needs() -> None:
    for event, arguments in (
        ("os.system", ("true",)),
        ("subprocess.Popen", ()),
        ("open", ("file", "w", 1 | 64)),
        ("socket.connect", ()),
    ):
        with pytest.raises(PermissionError):
            judge._refuse(event, arguments)
    judge._refuse("open", ("file", "r", 0))
    judge._refuse("open", ("/dev/null", "w", 1))


def act(what: str) -> str:
    """A judge of this file: hostile, or slow."""
    if what == "forever":
        while True:
            pass
    if what == "write":
        with open("written-by-a-judge", "w") as file:
            file.write("x" * 10**6)
    if what == "memory":
        return str(len(bytearray(2**34)))
    return what.upper()


def prepare() -> None:
    """Nothing has to be imported."""


def test_a_pool_serves_another_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "acting_judge.py"
    source = Path(__file__).read_text()
    module.write_text(source[source.index("def act(") : source.index("def test_a_pool_serves")])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pool = VerifyPool(workers=1, limit=2.0, memory=2**31, judge="acting_judge:act")
    try:
        assert pool.run([("a",), ("forever",), ("write",), ("b",)]) == ["A", TIMEOUT, CRASH, "B"]
    finally:
        pool.close()
    assert not (tmp_path / "written-by-a-judge").exists() or not (tmp_path / "written-by-a-judge").read_text()


def test_entries_travel_whole() -> None:
    entry = {"question": "q", "answer": None, "metadata": {"points": {(1, 2)}, "n": 3}}
    assert judge._entry(packed(entry)) == entry
