"""If a fact is changed after training, do the compositions that use it follow? A causal test of storing it once."""
