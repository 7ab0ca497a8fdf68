"""``sharpen theory``."""
