"""The results: tables and their store, statistics, fits, verdicts, plotting style; published and reference numbers.

Knows no other room: a cell arrives here as rows and leaves as frames. Nothing here imports torch.
"""
