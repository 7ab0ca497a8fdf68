"""Rewards behind the label firewall."""
