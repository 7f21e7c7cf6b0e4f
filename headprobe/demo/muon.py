"""Muon: steepest descent with every matrix update made orthogonal.

Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the update is scaled as in
Liu et al. 2025 (arXiv:2502.16982), so that one learning rate means the same as AdamW's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.775, 2.0315)
ROUNDS = 5


def orthogonalise(updates: Tensor) -> Tensor:
    """Nearly orthogonal matrices like `updates` [N, A, B], A <= B, by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = updates.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.to(updates.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; like shapes go in one batch."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        """matrices: parameters of two axes."""
        super().__init__(
            list(matrices), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        del closure
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, bool]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    tall = matrix.shape[0] > matrix.shape[1]
                    alike[min(matrix.shape), max(matrix.shape)].append((matrix, tall))
            for (_, longest), members in alike.items():
                rate = group["lr"] * 0.2 * math.sqrt(longest)
                updates = [self._momentum(matrix, group["momentum"]) for matrix, _ in members]
                wide = [
                    update.mT if tall else update
                    for update, (_, tall) in zip(updates, members, strict=True)
                ]
                results = orthogonalise(torch.stack(wide))
                for (matrix, tall), result in zip(members, results, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(result.mT if tall else result, alpha=-rate)

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)
