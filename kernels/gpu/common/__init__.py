"""Holds what several ops share: semirings, random numbers, status codes, launch options."""
