"""The table of rewards in docs/rewards.md is the registry's."""

from __future__ import annotations

import re
from pathlib import Path

from sharpen.llm.rewards.registry import GIVEN, REWARDS, settings_of

PAGE = Path(__file__).parents[3] / "docs" / "rewards.md"


def test_the_table_names_every_reward_its_settings_and_whether_it_needs_answers() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (.*?) ?\| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: (answers == "yes", set(re.findall(r"`(\w+)`", settings))) for name, answers, settings in rows}
    parts = {name: REWARDS.get(name) for name in REWARDS}
    assert told == {
        name: (part.needs_answers, set(settings_of(part)) - set(GIVEN))  # type: ignore[attr-defined]
        for name, part in parts.items()
    }
