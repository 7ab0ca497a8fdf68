"""`sharpen cite`: what it prints is BibTeX, has each part of a run, and says what it does not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sharpen.cli import cite
from sharpen.cli.main import main


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["cite", *arguments])
    assert stop.value.code == 0
    return capsys.readouterr().out


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\S+),$", text, re.MULTILINE)


def folder(place: Path, **config: object) -> Path:
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    return place


def test_every_entry_is_bibtex_with_a_title_and_a_year() -> None:
    known = cite.entries()
    for key, entry in known.items():
        assert re.fullmatch(r"@\w+\{" + re.escape(key) + r",\n(  \w+ = \{.*\},?\n)+\}", entry)
        assert entry.count("{") == entry.count("}")
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\}", entry, re.MULTILINE))
        assert fields.keys() >= {"title", "year"}
        assert "eprint" not in fields or re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"])
        # arXiv's numbers begin with the month in which a paper came.
        assert "eprint" not in fields or fields["year"][2:] == fields["eprint"][:2]
    named = {key for table in (cite.MODELS, cite.DATA, cite.LEARNERS) for found in table.values() for key in found}
    assert named | set(cite.ALWAYS) == known.keys()


def test_every_part_that_has_a_name_is_known() -> None:
    from sharpen.llm.configs.grid import grid
    from sharpen.llm.learners.parts.registry import LEARNERS
    from sharpen.llm.models.registry import BUILT_IN, REGISTRY
    from sharpen.llm.tasks.sources import WORD_TASKS
    from sharpen.toy.learners.registry import LEARNERS as TOY

    for name in (*LEARNERS.names(), *TOY.names()):
        assert name in cite.LEARNERS or cite.described(name), name
    for name in (*REGISTRY, *BUILT_IN, *(source.location for source in REGISTRY.values())):
        assert cite._key("model", name) in cite.MODELS
    assert all(cite._key("data", name) in cite.DATA for name in WORD_TASKS)
    assert grid()["models"].keys() <= {*cite.MODELS, *BUILT_IN}


def test_a_run_s_model_data_and_learner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(
        tmp_path / "run",
        model="smollm2",
        data="gym:chain_sum",
        learner={"kind": "grpo"},
        evaluation={"data": "my_task:Task", "selection_data": None},
    )
    out = printed([str(run)], capsys)
    assert keys(out) == ["sharpen", "sharpening2026", "stojanovski2025gym", "shao2024grpo", "allal2025smollm2"]
    assert "% data my_task:Task: no entry here" in out
    other = folder(tmp_path / "other", data="embedded", learner={"kind": "power-distillation"})
    assert "% learner power-distillation: Power self-distillation (Tomihari & Sato" in printed([str(other)], capsys)


def test_what_a_run_began_from_is_cited_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "run", model="qwen3-4b", data="deepscaler", learner={"kind": "rloo"})
    later = folder(tmp_path / "later", model=str(run / "checkpoints" / "last"), data="math500")
    out = printed([str(later)], capsys)
    assert {"qwen2025qwen3", "luo2025deepscaler", "kool2019rloo", "lightman2023verify"} <= {*keys(out)}
    assert len(keys(out)) == len({*keys(out)})


def test_a_toy_run_and_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "toy", learners=["natural", "tb"], steps=3)
    assert keys(printed([str(run)], capsys)) == ["sharpen", "sharpening2026", "malkin2022tb", "zhu2025flowrl"]
    assert keys(printed([], capsys)) == ["sharpen", "sharpening2026"]


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "a", model=str(tmp_path / "b"))
    folder(tmp_path / "b", model=str(tmp_path / "a"))
    for place in (tmp_path / "nothing", tmp_path, tmp_path / "a"):
        with pytest.raises(SystemExit) as stop:
            main(["cite", str(place)])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: run: got ")
