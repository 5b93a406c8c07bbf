"""Cells: compose a configuration, expand a grid, hash, cost, claim, run one, run all on this machine."""
