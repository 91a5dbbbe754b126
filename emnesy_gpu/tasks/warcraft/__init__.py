"""Warcraft maps: terrain learned from cheapest paths."""
