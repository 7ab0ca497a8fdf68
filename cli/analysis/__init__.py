"""``sharpen llm outcomes``, ``forecast`` and ``audit``: what sharpening would do to a model, and what training did."""
