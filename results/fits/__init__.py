"""Fits over sweeps: capacity law, thresholds, time to a level, parameter multiplier, gap closed.

Every fit takes one number per replicate and point, is made replicate by replicate, and then gets Student's t over the
replicates, so that its interval assumes only that replicates are independent. Nothing is extrapolated: where a curve
does not cross inside its range, the replicate says so with a `Bracket`, and the interval is open at that end.
`planted.py` simulates how often each interval holds the truth.
"""
