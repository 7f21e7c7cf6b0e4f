"""Repeated random tokens: what is asked of heads that copy (METHOD section 5).

Each sequence is a run of different random tokens, said twice. In the rows of the repetition the
*duplicate* is the same token's earlier copy, and the *induction* target the token after it.
"""

LAGS = tuple(range(12, 36))
"""Tokens of the run that each sequence says twice, so the distance from a row to its copy (one less
to the token after it); all different, so that no distance by itself explains many hits."""
