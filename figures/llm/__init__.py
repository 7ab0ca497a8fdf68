"""Figures of language-model runs beside the other backends."""
