"""The door of samplers: every registered one keeps the protocol, and so does a user's, from a module of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path as Folder

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from sharpen.cli.main import main
from sharpen.llm.configs.idle import refuse_idle
from sharpen.llm.configs.sampling import SampleConfig, effects
from sharpen.llm.samplers import SAMPLERS, Extend, Key, Likeliest, Next, Path, run
from sharpen.llm.samplers.registry import settings_of
from sharpen.llm.sampling import method
from sharpen.objective import InputError

OWN = '''
from sharpen.llm.sampling import Extend, Sample


def shortest(prompt, longest, key, *, alpha, draws=2):
    """The shortest of several responses at temperature 1/alpha."""
    asked = [Extend(prompt, longest, 1 / alpha, seed) for seed in key.seeds(0, count=draws)]
    paths = yield asked
    return Sample(min(paths, key=len), generated=sum(map(len, paths)), proposals=draws, accepted=1, moved=1)


def needs(prompt, longest, key, *, model, width):
    assert model.eos_ids
    (path,) = yield [Extend(prompt, width, 1.0, key.seeds(0)[0])]
    return Sample(path, generated=len(path))


def everything(prompt, longest, key, **settings):
    (path,) = yield [Extend(prompt, settings["width"], 1.0, key.seeds(0)[0])]
    return Sample(path)


def returns_text(prompt, longest, key):
    yield [Extend(prompt, longest, 1.0, 0)]
    return "text"


def returns_nothing_drawn(prompt, longest, key):
    yield [Extend(prompt, longest, 1.0, 0)]
    return Sample()


def yields_text(prompt, longest, key):
    yield ["text"]


def no_generator(prompt, longest, key):
    return Sample()


def too_few(prompt):
    yield []


number = 3
'''
LAW = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])  # next token by the last; 2 ends


class Chain:
    """A Markov chain whose token 2 ends a response."""

    eos_ids = frozenset({2})

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        return [self._draw(request) for request in requests]

    def _draw(self, request: Extend) -> Path:
        rng, path = np.random.default_rng(request.seed), Path()
        while len(path) < request.limit and not path.ended:
            law = LAW[(request.prefix + path.tokens)[-1]]
            tempered = law ** (1 / request.temperature)
            tempered = tempered / tempered.sum()
            token = int(rng.choice(3, p=tempered))
            path = path + Path((token,), (math.log(law[token]),), (math.log(tempered[token]),), token == 2)
        return path

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        order = [np.argsort(-LAW[request.prefix[-1]])[: request.top] for request in requests]
        return [Likeliest(top, np.log(LAW[one.prefix[-1]][top])) for top, one in zip(order, requests, strict=True)]


@pytest.fixture
def own(tmp_path: Folder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of a user's, which lies in the working folder."""
    name = f"own_samplers_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def drawn(config: SampleConfig, chains: Sequence[int], longest: int = 6) -> list[Path]:
    model = Chain()
    return [
        one.path for one in run([method(config, (0,), longest, Key(0, 0, chain), model) for chain in chains], model)
    ]


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_registered_sampler_keeps_the_protocol(name: str) -> None:
    config = SampleConfig.model_validate({"method": name, "n": 3, "steps": 2, "block": 3, "rollouts": 2})
    paths = drawn(config, range(20))
    for path in paths:
        assert 1 <= len(path) <= 6
        assert path.ended == (path.tokens[-1] == 2)
        before = (0, *path.tokens[:-1])
        expected = [math.log(LAW[last, token]) for last, token in zip(before, path.tokens, strict=True)]
        assert path.base == pytest.approx(expected)
    assert drawn(config, [7]) == [paths[7]]  # alone as among others
    assert len({path.tokens for path in paths}) > 1 or name == "best-of-n"


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_registered_sampler_takes_settings_of_the_run_only_and_those_have_an_effect(name: str) -> None:
    takes, table = settings_of(name), effects()
    assert set(takes) <= SampleConfig.model_fields.keys() & table.keys()
    config = SampleConfig.model_validate({"method": name})
    refuse_idle(config, takes, table)
    for other in table.keys() - takes.keys():
        with pytest.raises(InputError, match=f"{other}: got .*only with the method .*no effect"):
            refuse_idle(config, [other], table)


def test_candidates_have_no_number_once_there_is_a_budget() -> None:
    with pytest.raises(InputError, match=r"n: got 16, allowed: only with the method best-of-n without budget"):
        refuse_idle(SampleConfig(method="best-of-n", budget=9), ["n"], effects())


def test_a_users_sampler_gets_its_options_and_the_settings_that_it_names(own: str) -> None:
    def lengths(**changes: object) -> list[int]:
        config = SampleConfig.model_validate({"method": f"{own}:shortest", "alpha": 1.0, **changes})
        return [len(path) for path in drawn(config, range(30))]

    one, few, many = (lengths(options={"draws": draws}) for draws in (1, 2, 8))
    assert lengths() == few  # its own default
    assert all(a >= b >= c for a, b, c in zip(one, few, many, strict=True))
    assert sum(one) > sum(few) > sum(many)
    assert lengths(alpha=3.0) != few
    whole = SampleConfig.model_validate({"method": f"{own}:everything", "options": {"width": 1}})
    assert [len(path) for path in drawn(whole, range(3))] == [1, 1, 1]


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("shortest", {"drawn": 2}, r"options\.drawn: got 2, allowed: what own_.*:shortest takes: draws$"),
        ("shortest", {"alpha": 2}, r"options\.alpha: got 2, allowed: not as an option: alpha is a setting of its own"),
        ("needs", {}, r"options\.width: got None, allowed: a value, which own_.*:needs needs"),
        ("returns_text", {"a": 1}, r"options\.a: got 1, allowed: what own_.*:returns_text takes: no option"),
        ("too_few", {}, r"allowed: a sampler: too many positional arguments"),
        ("number", {}, r"allowed: a sampler: a function \(prompt, longest, key, settings by keyword\)"),
        ("missing", {}, r"allowed: an object that can be imported \(AttributeError"),
    ],
)
def test_what_a_users_sampler_cannot_be_given(own: str, part: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SampleConfig.model_validate({"method": f"{own}:{part}", "options": options})
    (error,) = refused.value.errors()
    assert error["type"] == "value_error"
    with pytest.raises(ValueError, match=message):
        raise ValueError(error["msg"])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("returns_text", "returns a Sample, not str"),
        ("returns_nothing_drawn", r"1 to 6 tokens with log p of each \(0 tokens, 0 of log p\)"),
        ("yields_text", "yields lists of Extend and Next"),
        ("no_generator", "yields requests; it returned Sample"),
    ],
)
def test_a_users_sampler_that_is_none_is_told_of(own: str, part: str, message: str) -> None:
    with pytest.raises(InputError, match=f"method: got 'own_.*:{part}', allowed: .*{message}"):
        drawn(SampleConfig(method=f"{own}:{part}"), [0, 1])


def test_an_unknown_name_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["llm", "sample", "--method", "powr"])
    assert stop.value.code == 2
    listed = ", ".join(SAMPLERS.names())
    assert f"method: got 'powr', allowed: {listed}, or module:object (close: power)" in capsys.readouterr().err


def test_the_command_draws_by_a_users_sampler(own: str, tmp_path: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--problems", "2", "--samples", "2", "--max-length", "48", "--engine", "transformers"]

    def sample(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["llm", "sample", *arguments, *shared])
        assert isinstance(stop.value.code, int)
        return stop.value.code

    out, chosen = tmp_path / "out", ("--method", f"{own}:shortest", "--alpha", "2")
    assert sample(*chosen, "--option", "draws=3", "--out", str(out)) == 0
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [line["proposals"] for line in lines] == [[3, 3], [3, 3]]
    for line in lines:
        assert all(3 * least <= spent for least, spent in zip(line["lengths"], line["generated"], strict=True))
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert (written["method"], written["options"]) == (f"{own}:shortest", {"draws": 3})
    capsys.readouterr()
    assert sample(*chosen, "--option", "draws") == 2
    assert "option: got 'draws', allowed: NAME=VALUE, for example n=4" in capsys.readouterr().err
    assert sample("--method", f"{own}:returns_text", "--alpha", "2") == 2
    assert "alpha: got 2.0, allowed: only with the method" in capsys.readouterr().err
