"""What a result says is what its proof checks: no formula is typed, and no step or statement survives a change."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from sympy.core.relational import Relational

from sharpen.theory.proofs.catalogue import MODULES, theorem
from sharpen.theory.proofs.notation import SIGN_OF, VALUE_OF, Short, Word, by_sign, evaluate
from sharpen.theory.proofs.numbers import estimators as estimators_numbers
from sharpen.theory.proofs.numbers import finite_samples as finite_samples_numbers
from sharpen.theory.proofs.prose import Text, say, typed_formula
from sharpen.theory.proofs.result import RELATIONS, Derivation, Theorem
from sharpen.theory.proofs.sums import I, P, vanishes

PROOFS = Path(__file__).parents[3] / "theory" / "proofs"
STEPS = {"equal", "has_sign", "compare", "limit", "cases", "check", "confirm", "measured"}
OPPOSITE = {"positive": "negative", "negative": "positive", "nonnegative": "nonpositive", "nonpositive": "nonnegative"}


def changed(value: Any) -> Iterator[Any]:
    """Yield what a claim of this value would be with another sign, a factor and an inverse, where that is another."""
    if isinstance(value, sp.MatrixBase):
        yield from (-value, 2 * value, value + sp.ones(*value.shape))
        return
    value = sp.sympify(value)
    for other in (-value, 2 * value, 1 / value if value != 0 else sp.Integer(1)):
        if evaluate(other) != evaluate(value):
            yield other


class Doubting(Derivation):
    """Puts every exact step through its check once more with a false claim, which has to fail."""

    survivors: list[str]
    doubted: int = 0

    def _doubt(self, method: str, text: Text, *args: Any, **kwargs: Any) -> None:
        scratch = Derivation(np.random.default_rng(0))
        getattr(scratch, method)(text, *args, **kwargs)
        self.doubted += 1
        if scratch.steps[-1].holds:
            self.survivors.append(f"{text} {scratch.steps[-1].shown}")

    def equal(self, text: Text, left: Any, right: Any, **kwargs: Any) -> Any:
        others = list(changed(right))
        for other in others[self.doubted % len(others) :][:1]:  # each in its turn, to save time
            self._doubt("equal", text, left, other, **kwargs)
        return super().equal(text, left, right, **kwargs)

    def compare(self, text: Text, left: Any, sign: str, right: Any, **kwargs: Any) -> Any:
        self._doubt("compare", text, left, OPPOSITE[sign], right, **kwargs)
        return super().compare(text, left, sign, right, **kwargs)

    def limit(self, text: Text, expression: Any, x: Any, point: Any, value: Any, **kwargs: Any) -> Any:
        others = [other for other in changed(value) if other != value]
        self._doubt("limit", text, expression, x, point, others[0], **kwargs)
        return super().limit(text, expression, x, point, value, **kwargs)


@pytest.fixture(scope="module")
def doubted() -> Callable[[str], Doubting]:
    """Return a result's proof, with few simulated runs and each exact step doubted; what runs over cases is not.

    Each is made once, for both tests: most of their time is SymPy's.
    """

    @lru_cache
    def proof(name: str) -> Doubting:
        doubting = Doubting(np.random.default_rng(0))
        doubting.survivors = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finite_samples_numbers, "CHAINS", 20)
            patch.setattr(finite_samples_numbers, "RACERS", 20)
            patch.setattr(finite_samples_numbers, "RACES", finite_samples_numbers.RACES[-1:])
            patch.setattr(estimators_numbers, "DRAWS", 1_000)
            theorem(name).prove(doubting)
        return doubting

    return proof


@pytest.mark.parametrize("name", MODULES)
def test_no_step_survives_a_change_of_its_claim(name: str, doubted: Callable[[str], Doubting]) -> None:
    doubting = doubted(name)
    assert doubting.doubted > 3
    assert doubting.survivors == []


def lies(relation: Any) -> Iterator[Any]:
    """Yield false relations: the right side changed, or an inequality turned."""
    if isinstance(relation, sp.Eq):
        yield from (sp.Eq(relation.lhs, other, evaluate=False) for other in changed(relation.rhs))
    else:
        sign = next(sign for sign, kind in RELATIONS.items() if isinstance(relation, kind))
        yield RELATIONS[OPPOSITE[sign]](relation.lhs, relation.rhs, evaluate=False)


@pytest.mark.parametrize("name", MODULES)
def test_no_statement_survives_a_change_of_a_formula(name: str, doubted: Callable[[str], Doubting]) -> None:
    d = doubted(name)
    true, proved = d.statement, len(d.steps)
    assert true is not None
    d.close()
    assert len(d.steps) == proved  # the true one passes
    tried = 0
    for place, part in enumerate(true.parts):
        for lie in lies(part) if isinstance(part, Relational) else ():
            d.statement = Text(true.words, (*true.parts[:place], lie, *true.parts[place + 1 :]))
            d.close()
            assert not d.steps.pop().holds, f"{part} as {lie}"
            assert len(d.steps) == proved
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize(
    "typed",
    [
        "The largest change is tanh(alpha epsilon).",
        "The slope is -Cov.",
        "The group's mean gives one plus one part.",
        "The slope at the knife edge is log(1 - h) less H.",
        "For alpha above one the vertices repel.",
        "Accuracy rises.",
        "The task reward helps.",
        "RLOO is biased.",
        "A transition has v_t over v_s.",
        "It is proportional to the power.",
        "There are 2 of them.",
        "The policy π is best.",
        "It tends to infinity.",
        r"It is \frac of it.",
        "It is the best of x and y.",
    ],
)
def test_a_formula_or_a_direction_cannot_be_typed(typed: str) -> None:
    with pytest.raises(ValueError, match="has a formula in its words"):
        say(typed)


@pytest.mark.parametrize(
    "typed",
    ["As in T4 the log-odds move.", "Tang and Munos 2025.", "k1 in the loss, pass@k and maj@k.", "A policy's own."],
)
def test_names_are_no_formulas(typed: str) -> None:
    assert say(typed) == typed


def test_no_prose_of_the_proofs_holds_a_formula() -> None:
    """Also that which no test runs: every sentence goes through ``say``, and none has a formula in its words."""
    sentences = 0
    for file in sorted(PROOFS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if called in STEPS and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "d":
                assert not isinstance(first, ast.Constant | ast.JoinedStr), (
                    f"{file.name}:{node.lineno}: a bare sentence"
                )
            written = first if called in ("say", "state") else node.args[1] if called == "Theorem" else None
            for part in ast.walk(written) if written is not None else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    assert typed_formula(part.value.replace("{}", " ")) == "", f"{file.name}:{node.lineno}"
                    sentences += 1
    assert sentences > 250


def derived(*parts: Any, template: str = "It is {}.") -> bool:
    """Return whether a result holds that proves x + x = 2 x and says this of it."""

    def prove(d: Derivation) -> None:
        x = sp.Symbol("x", positive=True)
        d.equal(say("A sum."), Short("S", x + x), 2 * x)
        d.state(template, *parts)

    return Theorem("T1", "sum", prove).derive().holds


def test_a_statement_can_only_show_what_is_checked() -> None:
    x = sp.Symbol("x", positive=True)
    total = Short("S", x + x)
    assert derived(sp.Eq(total, 2 * x, evaluate=False))
    assert derived(x)
    assert derived(2 * x)  # a part of what was checked
    assert derived(sp.Gt(x, 0, evaluate=False))  # true by the sign of the symbol
    assert not derived(sp.Eq(total, 3 * x, evaluate=False))
    assert not derived(3 * x)
    assert not derived(sp.Lt(x, 0, evaluate=False))


def test_a_word_is_chosen_from_what_is_checked_or_the_result_fails() -> None:
    x = sp.Symbol("x", positive=True)
    assert by_sign(2 * x, "up", "down").text == "up"
    assert by_sign(-2 * x, "up", "down").text == "down"
    assert derived(by_sign(2 * x, "up", "down"))
    assert not derived(by_sign(3 * x, "up", "down"))  # of nothing that was checked
    assert not derived(by_sign(sp.Symbol("y", real=True), "up", "down"))  # no word fits
    assert not derived(Word(2 * x, ""))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1, "rise rises raises leads likelier cost little short turned worse exceeded leaves repels"),
        (1, "go_up the_first up help minimum only_towards_the_better_one does_not_exist do_not_converge"),
        (-1, "fall falls lowers trails gain much better settles attracts exists converge down hurt maximum"),
        (-1, "go_down less_likely the_second in_excess only_away_from_it approached_and_not_attained"),
        (0, "kept up down help hurt does_not_exist do_not_converge maximum minimum"),
        (0, "only_towards_the_better_one only_away_from_it"),
    ],
)
def test_every_word_of_a_sign_says_it(value: int, words: str) -> None:
    """The table once more, by hand, and nothing else in it: a word turned there is turned in every statement."""
    listed = {word.replace("_", " ") for word in words.split()}
    assert {word for word in listed if by_sign(sp.Integer(value), word).text != word} == set()
    opposite = {
        1: ("negative", "nonpositive", "zero"),
        -1: ("positive", "nonnegative", "zero"),
        0: ("positive", "negative"),
    }
    assert not listed & {word for word, sign in SIGN_OF.items() if sign in opposite[value]}


def test_every_word_of_a_sign_is_in_the_test_above() -> None:
    marks = [
        mark for mark in getattr(test_every_word_of_a_sign_says_it, "pytestmark", ()) if mark.name == "parametrize"
    ]
    listed = {word.replace("_", " ") for _, words in marks[0].args[1] for word in words.split()}
    assert listed == set(SIGN_OF)


def test_every_word_of_a_value_says_it() -> None:
    by_hand = {
        0: {"everything", "is lost", "stays lost", "dies out", "stays"},
        1: {"as much", "flips", "keeps what it has"},
        sp.oo: {"has no bound", "takes over", "comes back", "leaves"},
    }
    assert {value: {word for word in VALUE_OF if VALUE_OF[word] == value} for value in by_hand} == by_hand
    assert set().union(*by_hand.values()) == set(VALUE_OF)


def test_the_statement_on_self_sharpening_names_the_classes() -> None:
    said = str(theorem("T11").derive().statement)
    above, below = said.split("Below one")
    assert "a vertex attracts, the uniform policy repels and any policy between them is a saddle" in above
    assert "a vertex repels and the uniform policy attracts" in below


def test_a_name_is_no_formula() -> None:
    for name in ("-Cov", "a = b", "1 + 1", "Cov(r) > 0"):
        with pytest.raises(ValueError, match="is a formula"):
            Short(name, sp.Symbol("x"))


def test_a_difference_at_a_point_ends_the_search_for_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where there is none: these hold by steps that come after the look at a point."""
    x, k = sp.symbols("x k", positive=True)
    assert vanishes(sp.log(x * k) - sp.log(x) - sp.log(k))
    assert vanishes(1 / (P[I] * (P[I] - k)) - (1 / (P[I] - k) - 1 / P[I]) / k)
    assert not vanishes(sp.Function("f")(x) - sp.Function("g")(x))
    monkeypatch.setattr(sp, "simplify", lambda _: pytest.fail("looked for a proof of what is false"))
    assert not vanishes(sp.log(x * k) - sp.log(x))
    assert not vanishes(1 / (P[I] * (P[I] - k)) - 1 / (P[I] - k))


def test_another_form_has_to_be_the_same() -> None:
    """``by`` helps SymPy; it cannot smuggle in another expression."""
    x = sp.Symbol("x", positive=True)
    d = Derivation(np.random.default_rng(0))
    d.equal(say("Right."), x**2 - 1, (x - 1) * (x + 1), by=(x + 1) * (x - 1))
    d.equal(say("Another left side."), x**2 - 2, x**2 - 1, by=x**2 - 1)
    d.compare(say("Another sign."), -x, "positive", 0, by=x)
    assert [step.holds for step in d.steps] == [True, False, False]
