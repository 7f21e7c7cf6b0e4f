"""Tests of headprobe. They download nothing.

The Hub's client reads its environment on import, and tries an unreachable Hub for 12 seconds per
file. This package is imported before any module of headprobe, also by ``python -m tests.golden``.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
