"""The questions, one folder each, and the command line.

A question is a folder with `grid.yaml` (hypotheses, arms, scales), where it was tuned `tuning.yaml`, and `figure.py`,
which has two functions: `tables(evidence)`, made of what `sheets.py` offers, and `panels(evidence)`, the `Dots` and
`Curves` of `panels.py` filled with the arms that `series.py` reads from the evidence. Verdicts, figure files, page and
index follow from these by themselves.
"""
