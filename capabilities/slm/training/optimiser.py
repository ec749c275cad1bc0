"""Muon for the matrices of the blocks, AdamW for the rest.

Muon orthogonalises each matrix's momentum by five Newton-Schulz iterations (Jordan et al. 2024).
At this size it needs about half the steps of AdamW. Matrices of one shape are orthogonalised
together: on a GPU the many small products would otherwise cost more than the model itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: quintic, steepest at zero


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices to `[..., rows, columns]`, roughly.

    Singular values end in 0.7 to 1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    rows: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = rows.shape[-2] > rows.shape[-1]
    if tall:
        rows = rows.mT
    for _ in range(iterations):
        gram = rows @ rows.mT
        rows = a * rows + (b * gram + c * gram @ gram) @ rows
    return rows.mT if tall else rows


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
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                self._step_alike(group, shape, parameters)

    def _step_alike(
        self, group: dict[str, float], shape: torch.Size, parameters: list[Tensor]
    ) -> None:
        momentum, rate = group["momentum"], group["lr"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        averages = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, averages, momentum)
        stacked = torch.stack(list(nesterov))
        # The iterations bear bfloat16 well: a GPU does them several times as fast in it, a CPU with
        # avx512_bf16 twice.
        updates = list(orthogonalise(stacked.bfloat16()).to(stacked.dtype).unbind())
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        torch._foreach_mul_(parameters, 1 - rate * group["decay"])
        torch._foreach_add_(parameters, updates, alpha=-rate * scale)


def build_optimisers(
    model: nn.Module, matrix_rate: float, other_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon over the blocks' matrices, AdamW over embedding, norms and the exits' maps."""
    named = dict(model.named_parameters())
    matrices = [p for n, p in named.items() if p.dim() == 2 and n.startswith("blocks")]
    chosen = {id(p) for p in matrices}
    others = [p for p in named.values() if id(p) not in chosen]
    fused = bool(others) and others[0].is_cuda
    adamw = torch.optim.AdamW(
        others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fused
    )
    return [Muon(matrices, matrix_rate), adamw]
