"""Handwritten formulas: digits and operators learned from the values of formulas."""
