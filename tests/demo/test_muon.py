from __future__ import annotations

import pytest
import torch
from torch import nn

from headprobe.demo.muon import Muon


def test_an_update_has_nearly_equal_singular_values_at_the_scale_of_adam() -> None:
    torch.manual_seed(0)
    for shape in ((24, 16), (16, 24)):
        matrix = nn.Parameter(torch.zeros(shape))
        matrix.grad = torch.randn(shape)
        Muon([matrix], lr=0.1, weight_decay=0.0).step()
        singular = torch.linalg.svdvals(matrix.detach())
        assert singular.max() / singular.min() < 3.0
        assert matrix.detach().std().item() == pytest.approx(0.1 * 0.2, rel=0.3)
