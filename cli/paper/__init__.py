"""``sharpen paper``."""
