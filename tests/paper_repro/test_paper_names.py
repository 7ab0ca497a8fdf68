"""Names of a grid and of results become paths and HTML: neither leads out of its folder or into the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sharpen.objective import InputError
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.plan import expand
from sharpen.paper_repro.grids.store import Store

EVIL = ("../../../evil", "/tmp/evil", "a/b", "a\nb", "..", ".hidden", "", "-x", "a" * 300, "é/../x")
BASE: dict[str, Any] = {
    "id": "sampled",
    "kind": "sample",
    "claims": ["c"],
    "title": "t",
    "methods": {"plain": {"method": "plain"}},
    "evaluate": [{"data": "embedded", "split": "test", "problems": 2, "samples": 2}],
}


def load(folder: Path, **changes: Any) -> list[Any]:
    file = folder / "grid.yaml"
    rates = {"train": 1e-3, "sample": 1e-3, "start": 1.0}
    experiments = [{**BASE, **changes}]
    file.write_text(yaml.safe_dump({"claims": {"c": "a claim"}, "rates": rates, "experiments": experiments}))
    return expand(load_grid(file), "embedded")


@pytest.mark.parametrize("name", EVIL)
def test_no_name_of_a_grid_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    assert [run.id for run in load(tmp_path)] == ["plain-s0"]
    asked = {**BASE["evaluate"][0], "split": name}
    for changes in ({"id": name}, {"methods": {name: {"method": "plain"}}}, {"evaluate": [asked]}):
        with pytest.raises(InputError, match="grid") as refused:
            load(tmp_path, **changes)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [name for name in EVIL if "/" in name or name == ".."])
def test_the_store_writes_into_its_folders_only(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "results", tmp_path / "work")
    if name != "..":  # "...json" is a file like any other
        with pytest.raises(InputError, match="the name of a file"):
            store.file(name)
    assert store.file("plain-s0").parent == tmp_path / "results"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"alpha": True}}, "sampled, plain.*alpha"),
        ({"settings": {"nope": 1}}, "sampled, plain.*nope"),
        ({"methods": {"plain": {"method": "nope"}}}, "sampled, plain.*method"),
        ({"seeds": [2**64]}, "seeds"),
        ({"seeds": [1, 1]}, "seeds.*each once"),
        ({"kind": "train", "methods": {}, "settings": {"learner": 5}, "objectives": [{"alpha": 2}]}, "learner"),
        ({"kind": "train", "methods": {}, "settings": {"steps": True}, "objectives": [{"alpha": 2}]}, "steps"),
        ({"kind": "train", "methods": {}, "settings": {"optimizer": 5}, "objectives": [{"alpha": 2}]}, "optimizer"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_experiment(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        load(tmp_path, **changes)
    assert "\n" not in str(refused.value)
