"""Finders, comparisons and forms: on written and generated texts, against oracles that share no code."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.llm.tasks.answers.comparisons import COMPARISONS, exact, normal_number, normal_words, number, words
from sharpen.llm.tasks.answers.finders import FINDERS, first_line, last_number, tag, whole
from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import AnswerKey, Prompt, PromptSet, form_of
from sharpen.llm.tasks.listed import hold, problems
from sharpen.llm.tasks.marking import marks
from sharpen.llm.tasks.registry import judgement_of
from sharpen.llm.tasks.sources import load_source, task_origins
from sharpen.llm.tasks.verification.verify import Verifier, vote
from sharpen.llm.tasks.verification.voting import by_value
from sharpen.objective import InputError

PLAIN = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)
NO_VERIFIER: Verifier = None  # type: ignore[assignment]  # where nothing may ask for it


@pytest.mark.parametrize(
    ("finder", "response", "expected"),
    [
        ("boxed", r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("boxed", "nothing here", None),
        ("last-number", "first 3, then -4.5 apples", "-4.5"),
        ("last-number", "about 1,234,567.", "1,234,567"),
        ("last-number", "v2 of model x7", None),
        ("last-number", "3/4 of it", "3/4"),
        ("tag", "<answer>1</answer> <ANSWER>\n 2 </ANSWER>", "2"),
        ("tag", "<answer></answer>", None),
        ("tag", "<answer>cut", None),
        ("first-line", "\n\n  cold\nhot", "cold"),
        ("first-line", "", None),
        ("whole", "  a\nb ", "a\nb"),
        ("whole", " \n", None),
    ],
)
def test_answers_are_found(finder: str, response: str, expected: str | None) -> None:
    assert AnswerForm(finder).found([response]) == [expected]


@given(value=st.fractions(max_denominator=1), before=st.sampled_from(["", "so ", "= ", "1 + 2 = "]))
def test_the_last_number_is_the_one_that_was_written(value: Fraction, before: str) -> None:
    assert last_number(f"{before}{value}.") == str(value)


@given(answer=PLAIN.filter(lambda text: text.strip() and "<" not in text), junk=PLAIN.filter(lambda t: "<" not in t))
def test_tagged_whole_and_first_lines_are_taken_as_they_are(answer: str, junk: str) -> None:
    assert tag(f"{junk}<answer>{answer}</answer>{junk}") == answer.strip()
    assert whole(answer) == answer.strip()
    line = answer.splitlines()[0].strip() if answer.splitlines()[0].strip() else None
    if line is not None:
        assert first_line(f"\n{answer}") == line


@pytest.mark.parametrize("name", ["words", "number", "exact"])
@given(one=PLAIN, other=PLAIN)
def test_comparisons_are_symmetric_and_agree_with_their_normal_form(name: str, one: str, other: str) -> None:
    compare = COMPARISONS.get(name)
    assert compare(one, other) == compare(other, one)
    assert compare(one, other) in (0.0, 1.0)
    if compare(one, other) == 1.0:
        assert compare.normal(one) == compare.normal(other)  # type: ignore[attr-defined]


@given(top=st.integers(-(10**12), 10**12), places=st.integers(0, 6), below=st.integers(1, 999))
def test_numbers_are_compared_by_value(top: int, places: int, below: int) -> None:
    decimal = f"{top // 10**places if top >= 0 else -(-top // 10**places)}"
    rest = f"{abs(top) % 10**places:0{places}d}" if places else ""
    sign = "-" if top < 0 and not decimal.startswith("-") else ""
    written = f"{sign}{decimal}" + (f".{rest}" if rest else "")
    value = Fraction(top, 10**places)
    assert normal_number(written) == str(value)
    assert number(f"{top}/{below}", str(Fraction(top, below))) == 1.0
    assert number(written, str(value + 1)) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Paris.", "paris", 1), ("the cold", "Cold", 1), ("São Tomé", "sao tome", 1), ("un-do", "undo", 0), ("", "", 0),
     ("a", "an", 0), ("x" * 2000, "x" * 2000, 0)],
)  # fmt: skip
def test_words_are_compared_by_what_they_say(one: str, other: str, same: int) -> None:
    assert words(one, other) == same
    assert exact("A  b", "A b") == 1.0
    assert normal_words("“Don’t!”") == "don't"


def test_hostile_numbers_take_no_time() -> None:
    for text in ("9" * 10**6, "1/" + "0" * 300, "1e999999999", "." * 10**5, "1," * 10**5):
        assert number(text, "7") == 0.0
        assert isinstance(normal_number(text), str)


def test_the_default_form_is_todays_rule() -> None:
    responses = [r"\boxed{007}", "The answer is 3.", r"\boxed{2/3}", "no", r"so \boxed{\frac{2}{3}}", "x = 2 =", "7"]
    golds = ["7", "3", "2/3", "1", "2/3", "2", "7"]
    finished = [True, True, True, True, True, False, True]
    form = AnswerForm()
    with Verifier(workers=1) as verifier:
        assert form.scores(responses, [(gold,) for gold in golds], finished, verifier) == verifier(
            responses, golds, finished
        )
        votes = [vote(text, ended) for text, ended in zip(responses, finished, strict=True)]
        assert form.votes(responses, finished) == votes
        assert form.united([votes], verifier) == by_value([votes], verifier)


def test_a_rambling_response_that_was_cut_is_not_right() -> None:
    with Verifier(workers=1) as verifier:
        assert AnswerForm().scores(["Let me see. If x * 2 ="], [("2",)], [False], verifier) == [0.0]


def test_the_verifier_compares_what_another_finder_found() -> None:
    with Verifier(workers=1) as verifier:
        scores = AnswerForm("tag", "math").scores(
            ["<answer>1/2</answer>", r"\boxed{1/2}"], [("0.5",), ("0.5",)], None, verifier
        )
    assert scores == [1.0, 0.0]


def test_any_of_several_right_answers_is_right() -> None:
    key = AnswerKey({"a": ("up", "above"), "b": "down"}, form=AnswerForm("first-line", "words"))
    assert marks(key, ["a", "a", "a", "b"], ["Above.", "up", "down", "down"], None, NO_VERIFIER) == [1, 1, 0, 1]
    mathematics = AnswerKey({"a": ("2", "-2")})
    with Verifier(workers=1) as verifier:
        assert marks(mathematics, ["a", "a", "a"], [r"\boxed{-2}", r"\boxed{2}", r"\boxed{3}"], None, verifier) == [
            1,
            1,
            0,
        ]


def test_votes_are_united_by_the_normal_form_and_right_ones_agree() -> None:
    form = AnswerForm("first-line", "words")
    responses = ["Cold.", "the cold", " COLD\nQuestion", "", "hot"]
    votes = form.united([form.votes(responses)], NO_VERIFIER)[0]
    assert votes == ["cold", "cold", "cold", None, "hot"]
    assert AnswerForm("last-number", "number").votes(["7.0", "= 14/2", "none"]) == ["7", "7", None]


def test_own_functions_find_and_compare() -> None:
    form = AnswerForm(lambda text: text[:1] or None, lambda one, right: 0.5 * (one in right))
    assert form.scores(["ab", "", "z"], [("abc",)] * 3, None, NO_VERIFIER) == [0.5, 0.0, 0.0]
    assert form.votes(["ab", "", "a"]) == ["a", None, "a"]


@pytest.mark.parametrize("given", [2, -0.1, float("nan"), None, "much", "0.5 of it"])
def test_a_comparison_or_score_outside_its_range_is_told_in_one_line(given: object) -> None:
    form = AnswerForm("whole", lambda one, right: given)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError) as error:
        form.scores(["a"], [("b",)], None, NO_VERIFIER)
    assert (error.value.field, "number in [0, 1]" in str(error.value)) == ("task.compare", True)
    with pytest.raises(InputError) as error:
        marks(AnswerKey({"a": "1"}, score=lambda response, answer: given), ["a"], ["x"], None, NO_VERIFIER)  # type: ignore[arg-type,return-value]
    assert error.value.field == "task.score"
    with pytest.raises(InputError):
        marks(AnswerKey({"a": "1"}, mark=lambda ids, texts, ended: [given]), ["a"], ["x"], None, NO_VERIFIER)  # type: ignore[list-item]


def fails(*given: object) -> float:
    """What a user's function may do."""
    return [1.0, 0.5][7]


def test_a_function_that_fails_is_told_in_one_line_with_its_place() -> None:
    normal = lambda one, right: 1.0  # noqa: E731
    normal.normal = fails  # type: ignore[attr-defined]
    calls = {
        "task.find": lambda: AnswerForm(fails).found(["x"]),  # type: ignore[arg-type]
        "task.compare": lambda: AnswerForm("whole", fails).scores(["a"], [("b",)], None, NO_VERIFIER),
        "task.compare ": lambda: AnswerForm("whole", normal).votes(["a"]),
        "task.score": lambda: marks(AnswerKey({"a": "1"}, score=fails), ["a"], ["x"], None, NO_VERIFIER),
        "task.mark": lambda: marks(AnswerKey({"a": "1"}, mark=fails), ["a"], ["x"], None, NO_VERIFIER),  # type: ignore[arg-type]
    }
    for field, call in calls.items():
        with pytest.raises(InputError) as error:
            call()
        assert error.value.field == field.strip()
        assert re.search(r"IndexError at test_forms\.py:\d+: list index out of range", str(error.value))
        assert "\n" not in str(error.value)


def test_a_finder_that_returns_no_text_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"task\.find"):
        AnswerForm(lambda text: 7).found(["x"])  # type: ignore[arg-type,return-value]


def test_one_score_a_response_is_needed_of_a_source_that_marks() -> None:
    with pytest.raises(InputError, match=r"task\.mark"):
        marks(AnswerKey({"a": "1"}, mark=lambda ids, texts, ended: []), ["a"], ["x"], None, NO_VERIFIER)


@pytest.mark.parametrize(
    ("settings_", "field"),
    [({"find": "line"}, "task.find"), ({"compare": "taste"}, "task.compare"), ({"threshold": 0}, "task.threshold"),
     ({"threshold": 1.5}, "task.threshold"), ({"threshold": True}, "task.threshold")],
)  # fmt: skip
def test_a_task_that_names_what_there_is_not_is_refused_when_it_is_made(
    settings_: dict[str, object], field: str
) -> None:
    with pytest.raises(InputError) as error:
        problems([("a", "b")], **settings_)  # type: ignore[arg-type]
    assert error.value.field == field


def test_a_list_that_is_judged_otherwise_is_another_list() -> None:
    pairs = [("2+2=?", 4)]
    plain = hold(problems(pairs, name="mine"))
    assert (
        plain == hold(problems(pairs, name="mine", find="boxed", compare="math", threshold=1)) == "list:mine-4654b2d7"
    )
    others = {"find": "whole", "compare": "number", "threshold": 0.5}
    named = [hold(problems(pairs, name="mine", **{name: one})) for name, one in others.items()]  # type: ignore[arg-type]
    assert len({plain, *named}) == 4


def first_word(response: str) -> str | None:
    """A finder of one's own."""
    return next(iter(response.split()), None)


class Own:
    """A source of one's own with a form of its own."""

    form = AnswerForm("first-line", "words")

    def prompts(self) -> PromptSet:
        return PromptSet("own", (Prompt("a", "up?"),), self.form)

    def answers(self) -> AnswerKey:
        return AnswerKey({"a": "down"}, form=self.form)


def own(split: str, limit: int | None = None) -> Own:
    """A task of one's own."""
    return Own()


def test_the_form_of_a_users_source_reaches_votes_and_marks() -> None:
    source = load_source(f"{__name__}:own", "train")
    assert form_of(source) == source.prompts().form == source.answers().form == Own.form


def test_a_users_task_finder_and_comparison_are_parts_of_a_run() -> None:
    task = problems([("up?", "down")], find=first_word, compare="words")
    origins = task_origins(hold(task))
    assert origins["comparison words"] is None
    ours = origins[f"finder {__name__}:first_word"]
    assert ours is not None
    assert ours["file"] == __file__
    assert task_origins(f"{__name__}:own")[f"task {__name__}:own"] == ours
    assert task_origins("antonyms") == {"task antonyms": None, "finder first-line": None, "comparison words": None}


def test_lists_of_problems_take_several_answers_and_a_form() -> None:
    task = problems([("up?", ["down", "below"]), ("2+2?", 4)], find="first-line", compare="words", threshold=0.5)
    said = judgement_of(task)
    assert said is not None
    assert (said.form, said.threshold) == (AnswerForm("first-line", "words"), 0.5)
    assert list(task("train").answers().values()) == [("down", "below"), "4"]


def test_built_in_word_tasks_carry_their_form_to_prompts_and_answers() -> None:
    source = load_source("antonyms", "validation", 5)
    assert source.prompts().form == source.answers().form == AnswerForm("first-line", "words")
    key = source.answers()
    first = next(iter(key))
    assert marks(key, [first], [f" {key.every(first)[0].upper()}.\n"], None, NO_VERIFIER) == [1.0]


def test_every_built_in_name_is_there_and_says_what_it_is() -> None:
    assert list(FINDERS) == ["boxed", "last-number", "tag", "first-line", "whole"]
    assert list(COMPARISONS) == ["math", "words", "number", "exact"]
    for name, other in itertools.product(FINDERS, COMPARISONS):
        assert AnswerForm(name, other).names() == {"find": name, "compare": other}


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(PLAIN, min_size=1, max_size=6), form=st.sampled_from(["tag", "first-line", "whole", "last-number"])
)
def test_a_response_that_equals_a_right_answer_of_its_own_form_votes_and_is_right(texts: list[str], form: str) -> None:
    own = AnswerForm(form, "exact")
    for text, found, voted in zip(texts, own.found(texts), own.votes(texts), strict=True):
        if found is None or not found.strip():
            assert own.scores([text], [("anything",)], None, NO_VERIFIER) == [0.0]
        else:
            assert own.scores([text], [(found,)], None, NO_VERIFIER) == [1.0]
            assert voted == " ".join(found.split())
