"""Carries cells to a cluster: what is sent in which jobs, the code that runs there, and where it all stands."""
