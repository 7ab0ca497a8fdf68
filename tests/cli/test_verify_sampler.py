"""``sharpen llm verify-sampler`` on the embedded model, which may say two tokens and its end."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.llm.samplers import SAMPLERS

SMALL = ("--tokens", "2", "--longest", "2", "--tv", "0.2")
OWN = '''
from sharpen.llm.sampling import Extend, Sample


def twice(prompt, longest, key, *, alpha, pick=0):
    """One of two draws: the model itself at pick 0, the likelier one at pick 1."""
    paths = yield [Extend(prompt, longest, 1.0, seed) for seed in key.seeds(0, count=2)]
    return Sample(max(paths, key=lambda path: sum(path.base)) if pick else paths[0])
'''


def verify(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["llm", "verify-sampler", *arguments])
    return stop.value.code if isinstance(stop.value.code, int) else 0


def test_an_exact_sampler_is_said_to_be_and_what_was_asked_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--method", "plain", "--alpha", "1", *SMALL, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema_of("llm verify-sampler"))
    assert (found["exact"], found["responses"], len(found["tokens"])) == (True, 7, 3)
    assert found["power"] >= 0.99
    assert found["p_value"] >= found["false_alarm"] == 1e-3
    assert found["total_variation"] <= found["largest_variation"]
    assert verify("--method", "plain", "--alpha", "1", *SMALL) == 0
    printed = capsys.readouterr().out
    assert f"no deviation in {found['draws']:,} draws" in printed
    assert all(len(line) <= 80 for line in printed.splitlines()[2:-1])


def test_one_that_is_not_is_refused_with_what_is_most_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--method", "low-temperature", "--alpha", "4", "--longest", "4", "--tv", "0.2") == 1
    printed = capsys.readouterr().out
    assert "not exact" in printed
    assert "most off" in printed


def test_a_users_sampler_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_twice.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    named = ("--method", "own_twice:twice", "--alpha", "1", *SMALL)
    assert verify(*named) == 0
    assert verify(*named, "--set", "pick=1") == 1
    assert verify(*named, "--set", "picks=1") == 2
    assert "options.picks: got 1, allowed: what own_twice:twice takes: pick" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--method", "powr"), f"method: got 'powr', allowed: {', '.join(SAMPLERS.names())}, or module:object"),
        (("--tv", "0"), "tv: got 0.0, "),
        (("--tv", "2", "--draws", "100"), "tv: got 2.0, "),
        (("--power", "1", "--draws", "100"), "power: got 1.0, "),
        (("--power", "0.0001", "--draws", "100"), "power: got 0.0001, allowed: more than the false alarm"),
        (("--false-alarm", "-1", "--draws", "100"), "false_alarm: got -1.0, "),
        (("--draws", "0"), "draws: got 0, "),
        (("--tokens", "9", "--longest", "9"), "longest: got 9, allowed: fewer tokens or a shorter response: "),
        (("--problem", "100000"), "problem: got 100000, allowed: 1 to "),
        (("--set", "model=embedded"), "set: got 'model', allowed: a setting of the method: alpha, block, steps"),
        (("--set", "n=3"), "n: got 3, allowed: only with the method best-of-n"),
        (("--set", "steps"), "set: got 'steps', allowed: NAME=VALUE"),
        (("--draws", "3"), "draws: got 3, allowed: more: fewer than two classes"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(*arguments) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
