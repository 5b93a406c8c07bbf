"""Measurements of speed, each against something that can be checked: rows of what was timed."""
