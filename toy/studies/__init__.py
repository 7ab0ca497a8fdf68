"""Studies made of simulations: targets, findings, phase diagrams."""
