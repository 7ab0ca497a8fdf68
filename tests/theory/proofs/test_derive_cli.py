"""`sharpen theory derive`: text, LaTeX, HTML and JSON, exit status, errors, documentation."""

from __future__ import annotations

import html
import html.parser
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sympy as sp
import typer

from sharpen.cli.theory import derive as theory_derive
from sharpen.objective import InputError
from sharpen.theory.proofs import catalogue, documents
from sharpen.theory.proofs.catalogue import MODULES, select, theorem
from sharpen.theory.proofs.printers import to_latex, to_line
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import METHODS, Derivation, Result, Theorem

DOCS = Path(__file__).parents[3] / "docs" / "theory-derive.md"
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    theory_derive.register(group)
    group.command("other")(lambda: None)  # with one command typer would take away its name
    return group


@pytest.fixture(scope="module")
def everything(derived: Callable[..., Result]) -> list[Result]:
    """All results, which other tests check too."""
    return [derived(theorem(name), 0) for name in MODULES]


def run(app: typer.Typer, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    status = app(["derive", *arguments], standalone_mode=False)
    out, err = capsys.readouterr()
    assert err == ""
    return out, status or 0


def run_json(app: typer.Typer, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], int]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    out, status = run(app, [*arguments, "--json"], capsys)
    return json.loads(out, parse_constant=refuse), status


def broken(name: str, **claims: Any) -> Theorem:
    """Return a result of the theory with a false claim in the place of a true one."""
    true = theorem(name)

    def prove(d: Derivation) -> None:
        true.prove(d, **claims)

    return Theorem(true.id, true.title, prove)


def test_json_has_the_documented_fields(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    report, status = run_json(app, ["t7", "T4"], capsys)
    assert status == 0
    assert list(report) == ["results", "seed"]
    assert [result["id"] for result in report["results"]] == ["T4", "T7"]
    documented = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    found = report["results"][0]
    assert documented == [*found, *found["steps"][0]]
    for result in report["results"]:
        assert result["holds"] is True
        assert result["method"] in METHODS
        assert 0 <= result["error"] < 1e-9
        for step in result["steps"]:
            assert step["holds"]
            assert step["error"] <= step["tolerance"]


def test_the_same_seed_gives_the_same_report(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a result whose error is the number drawn: rounding errors may be equal, draws are not."""

    def prove(d: Derivation) -> None:
        d.confirm(say("A draw."), sp.Symbol("x"), [d.rng.uniform()], 1.0, say("once"))
        d.state("A number {} is drawn.", sp.Symbol("x"))

    monkeypatch.setattr(catalogue, "theorem", lambda name: Theorem(name, "a draw", prove))
    first, again, other = (run_json(app, ["T4", "--seed", seed], capsys)[0] for seed in ("3", "3", "4"))
    assert first == again
    assert first["results"][0]["holds"]
    assert abs(first["results"][0]["error"] - other["results"][0]["error"]) > 1e-6


@pytest.mark.parametrize("flags", [["--json"], ["--latex"], ["--full"], []])
def test_exit_status_is_one_if_a_result_does_not_hold(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setattr(catalogue, "theorem", lambda name: broken(name, sign=-1) if name == "T4" else theorem(name))
    out, status = run(app, ["T4", "T9", *flags], capsys)
    assert status == 1
    if flags == ["--json"]:
        assert [result["holds"] for result in json.loads(out)["results"]] == [False, True]
    else:
        assert "FAILS" in out
    if flags in (["--full"], []):
        assert "1 of 2 hold" in out
        assert "Its mixed second derivative is the covariance" in out  # which step it was


def test_a_failing_result_fails_in_the_shell(tmp_path: Path) -> None:
    """The exit status of the process, with T4's sign turned in the installed program."""
    script = tmp_path / "turned.py"
    script.write_text(
        "from dataclasses import replace\n"
        "from sharpen.theory.proofs.theorems import response\n"
        "true = response.T4\n"
        "response.T4 = replace(true, prove=lambda d: true.prove(d, sign=-1))\n"
        "from sharpen.cli.main import main\n"
        "main(['theory', 'derive', 'T4'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "0 of 1 hold" in done.stdout


def test_a_nan_is_a_failure_and_null_in_json() -> None:
    def prove(d: Derivation) -> None:
        d.confirm(say("A number that is none."), sp.Symbol("x"), [float("nan")], 1.0, say("once"))
        d.confirm(say("No number at all."), sp.Symbol("x"), [], 1.0, say("not once"))

    found = Theorem("T1", "none", prove).derive()
    assert [step.holds for step in found.steps if step.confirms] == [False, False]
    assert documents.as_json([found])[0]["error"] is None
    json.dumps(documents.as_json([found]), allow_nan=False)


def test_nothing_proved_is_not_proved() -> None:
    assert not Theorem("T1", "empty", lambda d: None).derive().holds
    assert not Theorem("T1", "stated only", lambda d: d.state("It is so.")).derive().holds

    def prove(d: Derivation) -> None:
        d.check(say("No case."), sp.Symbol("x"), [], say("none"))
        d.state("It is so.")

    found = Theorem("T1", "none", prove).derive()
    assert [step.holds for step in found.steps] == [False]


def test_text_fits_eighty_columns(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, everything: list[Result]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(theory_derive, "_derive_all", lambda names, seed: everything)
    out, status = run(app, ["--full"], capsys)
    assert status == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert "26 of 26 hold" in out
    for result in everything:
        assert f"{result.id}  {result.title}\n" in out
        assert all(f"{place}. " in out for place in range(1, len(result.steps) + 1))


def test_all_hold_by_the_documented_methods(everything: list[Result]) -> None:
    assert [result.id for result in everything] == list(MODULES)
    rows = re.findall(r"^\| (T\d+) \| ([^|]*) \| (\w+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(result.id, result.title, result.method) for result in everything]
    assert all(result.holds for result in everything)


def test_every_result_has_a_proof_and_an_independent_confirmation(everything: list[Result]) -> None:
    for result in everything:
        assert any(not step.confirms for step in result.steps), result.id
        assert any(step.confirms and step.tolerance > 0 for step in result.steps), result.id


class Page(html.parser.HTMLParser):
    """What a page refers to, its text, and whether its tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.count: dict[str, int] = {}
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_but_a_browser(
    app: typer.Typer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    everything: list[Result],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(theory_derive, "_derive_all", lambda names, seed: everything)
    target = tmp_path / "new" / "theory.html"
    out, status = run(app, ["--html", str(target)], capsys)
    assert (status, out.strip().splitlines()[-1]) == (0, f"wrote {target}")
    page = Page()
    page.feed(target.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.ids == set(MODULES)
    assert page.links == [f"#{name}" for name in MODULES]  # and no script, image or style sheet
    assert not {"script", "img", "link", "iframe"} & set(page.count)
    steps = sum(len(result.steps) for result in everything)
    given = sum(len(step.assuming) for result in everything for step in result.steps)
    texts = [text for result in everything for text in (result.statement, *(step.text for step in result.steps))]
    inline = sum(not isinstance(piece, str) for text in texts for piece in text.pieces())
    where = sum(len(step.where) for result in everything for step in result.steps)
    assert page.count["math"] == inline + where + steps + given
    assert page.count["li"] == steps
    assert "\\" not in "".join(page.text)  # nothing left in LaTeX


def test_mathml_of_a_formula_is_what_it_says() -> None:
    x = sp.Symbol("x")
    found = documents.to_mathml(to_latex(sp.Eq(sp.Derivative(x**2, x), 2 * x, evaluate=False)))
    assert html.unescape(re.sub(r"<[^>]*>", "", found)) == "ddxx2=2x"
    assert "<mfrac><mrow><mi>d</mi></mrow><mrow><mi>d</mi>" in found
    assert "<msup><mi>x</mi><mrow><mn>2</mn></mrow></msup>" in found


def test_the_latex_document_is_whole_and_balanced(everything: list[Result]) -> None:
    text = documents.as_latex(everything)
    assert text.startswith(r"\documentclass")
    assert text.endswith("\\end{document}\n")
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    opened = re.findall(r"\\begin\{(\w+\*?)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+\*?)\}", text))
    assert text.count(r"\item ") == sum(len(result.steps) for result in everything)
    assert text.isascii()


def test_printed_formulas_mean_what_sympy_holds() -> None:
    """Text that SymPy reads back is the expression again."""
    a, b = sp.symbols("a b", positive=True)
    for expression in (a**2 / (1 + b), sp.exp(-a) * sp.log(b), sp.sqrt(a) - sp.Rational(1, 3) * b):
        again: Any = sp.sympify(to_line(expression).replace("^", "**"), locals={"a": a, "b": b})  # pyright: ignore[reportCallIssue]
        assert sp.simplify(again - expression) == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["T0"], "theorem"),
        (["T99"], "theorem"),
        (["1"], "theorem"),
        (["--seed", "-1"], "seed"),
        (["--latex", "--json"], "latex"),
        (["--latex", "--full"], "latex"),
        (["--full", "--json"], "full"),
        (["--html", "."], "html"),
        (["--html", "/dev/null/page.html"], "html"),
    ],
)
def test_bad_input_names_the_field(app: typer.Typer, arguments: list[str], field: str) -> None:
    with pytest.raises(InputError) as error:
        app(["derive", *arguments], standalone_mode=False)
    assert error.value.field == field


def test_results_are_selected_in_order() -> None:
    assert select(["t14", "T2", "T14"]) == ["T2", "T14"]
    assert select() == [f"T{i}" for i in range(1, 27)]


def test_the_documented_example_is_what_the_command_prints(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, apart from the size of rounding errors, which depends on the machine."""
    monkeypatch.setenv("COLUMNS", "80")
    blocks = re.findall(r"```console\n\$ sharpen theory derive(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert blocks
    for flags, shown in blocks:
        out, status = run(app, flags.split(), capsys)
        assert status == 0
        assert _without_errors(out) == _without_errors(shown)


def _without_errors(text: str) -> str:
    lines = " ".join(text.split())
    return re.sub(r"\b(0|\d\.\de[-+]\d\d)(?=[,\s]|$)", "E", lines)
