"""``sharpen cite``: BibTeX of the paper, and of the model, data and learner that a run used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpen.cli.shared.terminal import say

ALWAYS = ("sharpen", "sharpening2026")
# Keys of citations.bib by what a configuration calls a thing; () where it is this package's own.
MODELS = {
    "smollm2": ("allal2025smollm2",),
    "qwen2.5-3b": ("qwen2024qwen25",),
    "llama-3.2-3b": ("llama2024herd",),
    "qwen3-4b": ("qwen2025qwen3",),
    "embedded": (),
}
DATA = {
    "math": ("hendrycks2021math",),
    "math500": ("hendrycks2021math", "lightman2023verify"),
    "gsm8k": ("cobbe2021gsm8k",),
    "deepscaler": ("luo2025deepscaler",),
    "gym": ("stojanovski2025gym",),
    "embedded": (),
    "dial": (),
    "words": (),
}
LEARNERS = {
    "rloo": ("kool2019rloo", "ahmadian2024rloo"),
    "reinforce": ("williams1992reinforce",),
    "grpo": ("shao2024grpo",),
    "ppo": ("schulman2017ppo",),
    "dapo": ("yu2025dapo",),
    "unlikeliness": ("he2025unlikely",),
    "tb": ("malkin2022tb", "zhu2025flowrl"),
    "tb-batch": ("malkin2022tb", "richter2020vargrad"),
    "best-of-n": ("huang2024sharpening",),
    "dr-grpo": ("liu2025drgrpo",),
    "gspo": ("zheng2025gspo",),
    "cispo": ("minimax2025m1",),
    "pass-k": ("chen2025passk",),
    "nsr": ("zhu2025nsr",),
    "w-reinforce": ("zhu2025nsr",),
    "f-divergence": ("go2023fdpg",),
    "adaptive-entropy": ("he2025skywork",),
    **dict.fromkeys(("natural", "mirror", "softmax", "natural-flow", "softmax-flow", "off-policy"), ()),
}
NESTED = 20  # runs that start from runs


def cite(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a training, evaluation, sampling or toy run.", show_default=False),
    ] = None,
) -> None:
    """Print the BibTeX entries of sharpen and its paper, and of the model, data and learner of a run.

    What has no entry here is named in a comment, a learner with the source that its file names.
    """
    known = entries()
    wanted, unknown = list(ALWAYS), []
    for kind, name in [] if run is None else used(run):
        found = {"model": MODELS, "data": DATA, "learner": LEARNERS}[kind].get(_key(kind, name))
        if found is None:
            said = described(name) if kind == "learner" else None
            unknown.append(f"% {kind} {name}: {said or 'no entry here; cite it as its authors ask'}")
        else:
            wanted += [key for key in found if key not in wanted]
    say("\n\n".join(known[key] for key in wanted))
    if unknown:
        say()
    for line in dict.fromkeys(unknown):
        say(line)
    if run is None:
        say("sharpen cite RUN_FOLDER adds the model, data and learner of a run", file=sys.stderr)


def entries() -> dict[str, str]:
    """Return the BibTeX entries by key."""
    from sharpen.objective.version import VERSION

    text = (
        (resources("sharpen.cli") / "citations.bib").read_text(encoding="utf-8").replace("{VERSION}", f"{{{VERSION}}}")
    )
    return {re.match(r"@\w+\{([^,]+),", entry)[1]: entry for entry in text.strip().split("\n\n")}  # type: ignore[index]


def described(learner: str) -> str | None:
    """Return the first line of what a built-in learner's file says, which names its source; None for another."""
    import ast

    for package in ("sharpen.llm.learners", "sharpen.toy.learners"):
        for file in Path(str(resources(package))).rglob(learner.replace("-", "_") + ".py"):
            text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
            if text is not None:
                return text.splitlines()[0]
    return None


def used(run: Path) -> Iterator[tuple[str, str]]:
    """Yield what a run used, as ``("model" | "data" | "learner", name)``; also what the run used that it began from.

    Raises:
        InputError: the folder holds no readable configuration.
    """
    from sharpen.objective import InputError
    from sharpen.objective.storage import runfolder

    for _ in range(NESTED):
        config = _config(run)
        asked = [config.get("data"), *(_at(config.get("evaluation")).get(name) for name in ("data", "selection_data"))]
        yield from (("data", str(name)) for name in asked if name is not None)
        learners = config.get("learners") or [_at(config.get("learner")).get("kind")]
        yield from (("learner", str(_at(one).get("name", one))) for one in learners if one is not None)
        model = config.get("model")
        if model is None:
            return
        origin = next(
            (p for p in (Path(str(model)), *Path(str(model)).parents) if (p / runfolder.CONFIG).is_file()), None
        )
        if origin is None or origin.resolve() == run.resolve():
            yield "model", str(model)
            return
        run = origin
    raise InputError("run", str(run), f"a run that began from no more than {NESTED} others, one after the other")


def _config(run: Path) -> Mapping[str, Any]:
    import yaml

    from sharpen.objective import InputError
    from sharpen.objective.storage import runfolder

    try:
        found = yaml.safe_load((run / runfolder.CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise InputError("run", str(run), f"a run folder, with its {runfolder.CONFIG}")
    return found


def _at(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _key(kind: str, name: str) -> str:
    """Return a name as the tables have it: a location as the name that is registered for it."""
    if kind == "data":
        from sharpen.llm.tasks.registry import WORD_TASKS

        return "words" if name in WORD_TASKS else name.split(":")[0]
    if kind == "model":
        if name.startswith("dial"):
            return "embedded"
        from sharpen.llm.models.registry import REGISTRY, artifact_path

        if name == str(artifact_path()):
            return "embedded"
        return next((own.name for own in REGISTRY.values() if own.location == name), name)
    return name
