"""The texts of the built-in templates."""

from importlib.resources import files

_FOLDER = files("sharpen.llm.tasks") / "prompts"
boxed_cot = (_FOLDER / "boxed-cot.txt").read_text(encoding="utf-8")
plain = (_FOLDER / "plain.txt").read_text(encoding="utf-8")
