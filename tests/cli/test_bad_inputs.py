"""Bad files and texts for every command: exit status 2, one line that names flag and value, nothing left behind.

Numbers out of range are tested beside the commands that take them.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import sparse

from sharpen.cli.main import main

LETTERS = "abcdefghij"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(LETTERS)
)


class Case(NamedTuple):
    """A command line in which FILE stands for a file of this name and content, and what its message names."""

    arguments: list[str]
    named: str
    name: str = "x.yaml"
    content: bytes | None = b""


SETTINGS: dict[str, bytes] = {
    "bomb": BOMB.encode(),
    "deep": b"[" * 100_000,
    "deep mapping": b"{a: " * 10_000,
    "digits": b"alpha: " + b"9" * 5000,
    "list": b"[1, 2]",
    "number": b"5",
    "nothing": b"",
    "text": b"alpha 2",
    "unclosed": b"{alpha: [",
    "twice": b"alpha: 1\nalpha: 2",
    "tag": b"alpha: !!python/object/apply:os.getpid []",
    "utf-16": "alpha: 2".encode("utf-16"),
    "not utf-8": b"alpha: \xff",
    "NUL": b"alpha: \x00",
    "nan": b"alpha: .nan",
    "loop": b"&a {alpha: *a}",
    "unknown": b"{no_such_field: 1}",
    "unknown and huge": b"{? " + b"x" * 900 + b" : " + b"1" * 900 + b"}",
    "boolean": b"{alpha: true, steps: true, claims: true}",
    "long": b"a: " + b"x" * (5 * 2**20),
}
OBJECTIVE = [
    ["theory", name]
    for name in (
        "fixed-points",
        "phase",
        "optimum",
        "coverage",
        "sensitivity",
        "frontier",
        "response",
        "self-sharpening",
    )
]
CARRIERS: dict[str, tuple[list[str], str]] = {
    **{" ".join(command): ([*command, "--objective", "FILE"], "") for command in OBJECTIVE if command[1] != "frontier"},
    "toy phase": (["toy", "phase", "--objective", "FILE"], ""),
    "toy simulate": (["toy", "simulate", "--config", "FILE"], ""),
    "toy sweep": (["toy", "sweep", "--config", "FILE"], ""),
    "toy watch": (["toy", "watch", "--config", "FILE"], ""),
    "llm train objective": (["llm", "train", "--dry-run", "--objective", "FILE"], ""),
    "llm train": (["llm", "train", "--dry-run", "--config", "FILE"], ""),
    "llm train for real": (["llm", "train", "--config", "FILE"], ""),
    "paper list": (["paper", "list", "--grid", "FILE"], "grid"),
    "paper status": (["paper", "status", "--grid", "FILE"], "grid"),
    "paper run": (["paper", "run", "--grid", "FILE"], "grid"),
    "paper report": (["paper", "report", "--grid", "FILE"], "grid"),
    "paper verify": (["paper", "verify", "--grid", "FILE"], "grid"),
}
ROWS: dict[str, tuple[str, bytes, str]] = {
    "line without an end": ("x.jsonl", b'{"problem": "' + b"x" * (17 * 2**20), "x.jsonl:1"),
    "broken line": ("x.jsonl", b'{"problem": "1"}\n{"problem": ', "x.jsonl:2"),
    "deep line": ("x.jsonl", b'{"problem": "1"}\n' + b"[" * 10_000, "x.jsonl:2"),
    "list line": ("x.jsonl", b"[1]", "x.jsonl:1"),
    "digits": ("x.jsonl", b'{"problem": "1", "answer": ' + b"9" * 5000 + b"}", "x.jsonl:1"),
    "key twice": ("x.jsonl", b'{"problem": "1", "problem": "2"}', "x.jsonl:1"),
    "surrogate": ("x.jsonl", b'{"problem": "a\\ud800"}', "x.jsonl:1"),
    "surrogate in a list": ("x.json", b'[{"problem": "a\\udfff"}]', "x.json"),
    "NUL": ("x.jsonl", b'{"problem": "1"}\n\x00', "x.jsonl:2"),
    "latin-1": ("x.jsonl", '{"problem": "é"}'.encode("latin-1"), "x.jsonl:1"),
    "utf-16": ("x.jsonl", '{"problem": "1"}'.encode("utf-16"), "x.jsonl:1"),
    "no rows": ("x.jsonl", b"\n\n", "x.jsonl"),
    "no problem": ("x.jsonl", b'{"title": "1"}', "x.jsonl"),
    "a number": ("x.json", b"5", "x.json"),
    "deep": ("x.json", b"[" * 100_000, "x.json"),
    "unclosed": ("x.json", b'[{"problem": "1"}', "x.json"),
    "empty json": ("x.json", b"", "x.json"),
    "empty csv": ("x.csv", b"", "x.csv"),
    "csv without a problem": ("x.csv", b"a,b\n1,2\n", "x.csv"),
    "open quotes": ("x.csv", b'problem\n"1', "x.csv"),
    "latin-1 csv": ("x.csv", "problem\né\n".encode("latin-1"), "x.csv:2"),
    "no parquet": ("x.parquet", b"PAR1 garbage", "x.parquet"),
    "empty parquet": ("x.parquet", b"", "x.parquet"),
    "another suffix": ("x.txt", b"problem", "x.txt"),
}
ASKING = {
    "data": ["llm", "data", "--train", "FILE", "--test", "embedded"],
    "eval": ["llm", "eval", "--data", "FILE", "--out", "out"],
    "sample": ["llm", "sample", "--data", "FILE", "--out", "out"],
    "train": ["llm", "train", "--data", "FILE", "--out", "out"],
}


def saved(write: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    write(stream, value)
    return stream.getvalue()


NUMBERS: dict[str, tuple[str, bytes]] = {
    "json text": ("x.json", b'"a"'),
    "json mapping": ("x.json", b'{"a": 1}'),
    "json booleans": ("x.json", b"[true, false]"),
    "json deep": ("x.json", b"[" * 100_000),
    "json digits": ("x.json", b"[" + b"9" * 5000 + b"]"),
    "json texts": ("x.json", b'["0.5", "0.5"]'),
    "json nested": ("x.json", b"[[0.5, 0.5]]"),
    "json nothing": ("x.json", b""),
    "csv words": ("x.csv", b"a,b,c"),
    "csv nothing": ("x.csv", b""),
    "csv bytes": ("x.csv", b"0.5,\xff"),
    "csv NUL": ("x.csv", b"0.5,0.5\x00"),
    "csv nan": ("x.csv", b"nan,0.5"),
    "npy nothing": ("x.npy", b""),
    "npy garbage": ("x.npy", b"\x93NUMPY\x01\x00garbage"),
    "npy pickle": ("x.npy", saved(np.save, np.array([{}], dtype=object))),
    "npy texts": ("x.npy", saved(np.save, np.array(["a", "b"]))),
    "npy booleans": ("x.npy", saved(np.save, np.array([True, False]))),
    "npy complex": ("x.npy", saved(np.save, np.array([0.5j, 0.5]))),
    "npy nan": ("x.npy", saved(np.save, np.array([np.nan, 0.5]))),
}
BEYOND = sparse.csr_array((np.array([0.5]), np.array([0]), np.array([0, 1])), shape=(1, 1))
BEYOND.indices[0] = 10**6
MATRICES: dict[str, tuple[str, bytes]] = {
    "json text": ("x.json", b'"a"'),
    "json ragged": ("x.json", b"[[0.5], [0.1, 0.2]]"),
    "json deep": ("x.json", b"[" * 100_000),
    "json list": ("x.json", b"[0.5, 0.4]"),
    "csv words": ("x.csv", b"a,b\nc,d"),
    "csv nothing": ("x.csv", b""),
    "csv ragged": ("x.csv", b"1\n1,2"),
    "npy one axis": ("x.npy", saved(np.save, np.array([0.5, 0.4]))),
    "npy three axes": ("x.npy", saved(np.save, np.zeros((2, 2, 2)))),
    "npy texts": ("x.npy", saved(np.save, np.array([["a"]]))),
    "npy nan": ("x.npy", saved(np.save, np.array([[np.nan]]))),
    "npz garbage": ("x.npz", b"PK garbage"),
    "npz nothing": ("x.npz", b""),
    "npz of another kind": ("x.npz", saved(np.savez, np.zeros(3))),
    "npz that points beyond itself": ("x.npz", saved(sparse.save_npz, BEYOND)),
    "another suffix": ("x.txt", b"0.5"),
}
TEMPLATES = {
    "no place": b"solve it",
    "two places": b"{problem} {problem}",
    "not utf-8": b"{problem} \xff",
    "nothing": b"",
}
TEXTS: dict[str, list[str]] = {
    "recipe": ["llm", "train", "--recipe", "nope"],
    "model": ["llm", "train", "--model", "no such model"],
    "model with a NUL": ["llm", "eval", "--model", "a\0b"],
    "model of 5,000 characters": ["llm", "eval", "--model", "m" * 5000],
    "data of 5,000 characters": ["llm", "eval", "--data", "d" * 5000],
    "out of 5,000 characters": ["llm", "eval", "--out", "o" * 5000],
    "data": ["llm", "sample", "--data", "no such data"],
    "split": ["llm", "eval", "--split", "nope"],
    "split of a train": ["llm", "train", "--split", "nope"],
    "template": ["llm", "sample", "--template", "nope"],
    "template that is a folder": ["llm", "sample", "--template", "."],
    "checkpoint": ["llm", "eval", "--checkpoint", "last"],
    "method": ["llm", "sample", "--method", "nope"],
    "score": ["llm", "sample", "--method", "best-of-n", "--score", "nope"],
    "engine": ["llm", "eval", "--engine", "nope"],
    "device": ["llm", "sample", "--device", "nope"],
    "dtype": ["llm", "eval", "--dtype", "nope"],
    "learner": ["llm", "train", "--learner", "nope"],
    "kl": ["llm", "train", "--preset", "tempered", "--kl", "nope"],
    "reward": ["llm", "train", "--reward", "nope"],
    "reward_target": ["llm", "train", "--reward", "length"],
    "aggregation": ["llm", "train", "--aggregation", "nope"],
    "importance": ["llm", "train", "--importance", "nope"],
    "shard": ["llm", "train", "--shard", "nope"],
    "max_length": ["llm", "eval", "--max-length", "0"],
    "max_length of a sample": ["llm", "sample", "--max-length", "0"],
    "problems": ["llm", "eval", "--problems", "0"],
    "seed": ["llm", "eval", "--seed", str(2**64)],
    "seed of a sample": ["llm", "sample", "--seed", "-1"],
    "seed of a train": ["llm", "train", "--seed", str(2**31)],
    "seed of a pretrain": ["llm", "pretrain", "--out", "out", "--seed", str(2**64)],
    "steps": ["llm", "train", "--steps", "9" * 5000],
    "learning_rate": ["llm", "train", "--learning-rate", "nan"],
    "set": ["llm", "train", "--set", "steps"],
    "set bomb": ["llm", "train", "--set", "steps=" + BOMB],
    "set deep": ["llm", "train", "--set", "steps=" + "[" * 10_000],
    "set digits": ["llm", "train", "--set", "steps=" + "9" * 5000],
    "set boolean": ["llm", "train", "--set", "steps=true"],
    "set of no setting": ["llm", "train", "--set", "nope=1"],
    "set inside a number": ["llm", "train", "--set", "steps.x=1"],
    "set inside an objective": ["llm", "train", "--set", "objective.alpha=-1"],
    "preset": ["llm", "train", "--preset", "nope"],
    "preset of the theory": ["theory", "optimum", "--preset", "nope"],
    "compare": ["llm", "eval", "--compare", "nowhere"],
    "beside": ["llm", "sample", "--beside", "nowhere"],
    "export": ["llm", "export", "--model", "nowhere", "--out", "out"],
    "export dtype": ["llm", "export", "--model", "embedded", "--out", "out", "--dtype", "nope"],
    "scale": ["paper", "list", "--scale", "nope"],
    "budget": ["paper", "run", "--budget", "soon"],
    "budget of nothing": ["paper", "run", "--budget", "0s"],
    "budget of many digits": ["paper", "run", "--budget", "9" * 400 + "h"],
    "run": ["paper", "run", "--run", "../../evil"],
    "experiment": ["paper", "run", "--experiment", "nope"],
    "verified run": ["paper", "verify", "--run", "nope"],
    "ray": ["paper", "run", "--ray", "nowhere"],
    "ray of a sweep": ["toy", "sweep", "--ray", "nowhere:0"],
    "toy of figures": ["figures", "backends", "--toy", "nowhere", "--llm", "nowhere"],
    "derive": ["theory", "derive", "nope"],
    "ngram": ["theory", "sequences", "--ngram", "nowhere.txt"],
    "plot": ["theory", "fixed-points", "--plot", "x.nope"],
}


def cases() -> Iterator[Any]:
    for (what, (arguments, named)), (kind, content) in itertools.product(CARRIERS.items(), SETTINGS.items()):
        if not (kind == "nothing" and what == "toy watch"):
            yield pytest.param(Case(arguments, named, "x.yaml", content), id=f"{what}: {kind}")
    for (what, arguments), (kind, (name, content, named)) in itertools.product(ASKING.items(), ROWS.items()):
        yield pytest.param(Case(arguments, named, name, content), id=f"{what}: {kind}")
    for flag, (kind, (name, content)) in itertools.product(("base", "reward", "length"), NUMBERS.items()):
        yield pytest.param(Case(["theory", "optimum", f"--{flag}", "FILE"], flag, name, content), id=f"{flag}: {kind}")
    for kind, (name, content) in MATRICES.items():
        arguments = ["theory", "sequences", "--transition", "FILE"]
        yield pytest.param(Case(arguments, "transition", name, content), id=f"transition: {kind}")
        arguments = ["toy", "sweep", "--policy", "machine", "--transition", "FILE"]
        yield pytest.param(Case(arguments, "transition", name, content), id=f"toy transition: {kind}")
    for kind in ("json deep", "json text", "json nothing", "json digits"):
        arguments = ["theory", "coverage", "--mix", "FILE"]
        yield pytest.param(Case(arguments, "mix", *NUMBERS[kind]), id=f"mix: {kind}")
    for kind, content in TEMPLATES.items():
        arguments = ["llm", "sample", "--template", "FILE", "--out", "out"]
        yield pytest.param(Case(arguments, "template", "x.txt", content), id=f"template: {kind}")
    for what, arguments in TEXTS.items():
        yield pytest.param(Case(arguments, "", "x", None), id=f"text: {what}")


CASES = list(cases())


def isolated(arguments: list[str], folder: Path) -> list[str]:
    """The same command, with results and work of the paper's runs in a folder of the test's."""
    if arguments[0] != "paper":
        return arguments
    return [*arguments, "--results", str(folder / "results"), "--work", str(folder / "unfinished")]


def test_there_are_many() -> None:
    assert len(CASES) > 500


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_left(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work, given = tmp_path / "work", tmp_path / "given"
    work.mkdir()
    given.mkdir()
    file = given / case.name
    if case.content is not None:
        file.write_bytes(case.content)
    monkeypatch.chdir(work)
    with pytest.raises(SystemExit) as exited:
        main([str(file) if argument == "FILE" else argument for argument in isolated(case.arguments, tmp_path)])
    printed = capsys.readouterr()
    assert exited.value.code == 2, printed
    line = printed.err.splitlines()[-1]
    assert line.startswith("error: "), printed
    assert "Traceback" not in printed.err
    assert len(line) < 2100
    assert case.named in line, line
    assert "got" in line or "Invalid value" in line, line
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert [path.name for path in given.iterdir()] == [case.name] * (case.content is not None)


def test_results_of_the_paper_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"", b"[]", b"{", b"[" * 100_000, b'{"id": 1}', b"\xff", json.dumps({"a": "9" * 50}).encode()):
        (tmp_path / "theory-regimes.json").write_bytes(content)
        for command in (["status"], ["list"], ["run", "--dry-run"], ["report", "--out", str(tmp_path / "page.html")]):
            with pytest.raises(SystemExit) as exited:
                main(["paper", *command, "--scale", "embedded", "--results", str(tmp_path)])
            printed = capsys.readouterr()
            assert exited.value.code == 2, printed
            assert printed.err.startswith("error: results: got")
            assert "theory-regimes.json" in printed.err
            assert printed.err.count("\n") == 1
