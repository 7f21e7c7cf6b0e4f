"""Checkpoints whose heads are constructed and therefore known, for the self-test to scan."""
