"""What each embedded model is made of: its data, its shape, its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.training import arithmetic
from capabilities.slm.training.harness import TrainingConfig
from capabilities.slm.training.model import ModelConfig

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from capabilities.slm.training.chat import Example


@dataclass(frozen=True)
class Recipe:
    """`sample` draws training examples, `held_out` examples that `sample` never draws."""

    name: str
    description: str
    sample: Callable[[random.Random], Example]
    held_out: Callable[[random.Random], Example]
    training: TrainingConfig


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="arithmetic",
            description="Adds and subtracts up to four digits, multiplies two by two digits.",
            sample=arithmetic.sample,
            held_out=arithmetic.held_out_example,
            training=TrainingConfig(
                steps=3000, model=ModelConfig(width=128, layers=4)
            ),
        ),
    )
}
