"""``sharpen llm``."""
