"""Checkpoints built by hand, whose heads are known: what the self-test scans."""
