"""Muon for the matrices of the blocks, AdamW for the rest.

Muon orthogonalises each matrix's momentum by five Newton-Schulz iterations (Jordan et al. 2024).
At this size it needs about half the steps of AdamW, and the iterations cost a few per cent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: quintic, steepest at zero


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to `matrix`, roughly: singular values in 0.7 to 1.2."""
    a, b, c = _NEWTON_SCHULZ
    rows: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = rows.shape[0] > rows.shape[1]
    if tall:
        rows = rows.T
    for _ in range(iterations):
        gram = rows @ rows.T
        rows = a * rows + (b * gram + c * gram @ gram) @ rows
    return rows.T if tall else rows


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose update is orthogonalised; for two-dimensional parameters."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        rate: float,
        momentum: float = 0.95,
        decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - momentum)
                update = orthogonalise(parameter.grad.lerp(average, momentum))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - rate * group["decay"]).add_(update, alpha=-rate * scale)


def build_optimisers(
    model: nn.Module, matrix_rate: float, other_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon over the blocks' matrices, AdamW over embedding and norms."""
    named = dict(model.named_parameters())
    matrices = [p for n, p in named.items() if p.dim() == 2 and n.startswith("blocks")]
    chosen = {id(p) for p in matrices}
    others = [p for p in named.values() if id(p) not in chosen]
    adamw = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [Muon(matrices, matrix_rate), adamw]
