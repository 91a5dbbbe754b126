"""Reproduction of the published tables: methods x sizes x seeds, each in a process of its own, and figures."""
