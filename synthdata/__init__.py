"""The tasks: generators, vocabularies, streams, packing. NumPy only; knows nothing of models, sweeps or results."""
