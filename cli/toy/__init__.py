"""``sharpen toy``."""
