"""The questions, one folder each (`grid.yaml`, `tuning.yaml`, `figure.py`), and the command line."""
