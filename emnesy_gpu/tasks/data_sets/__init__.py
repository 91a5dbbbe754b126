"""Readers of public data sets that no command trains on: handwritten formulas, and road scenes with requirements."""
