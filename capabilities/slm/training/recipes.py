"""What each embedded model is made of: its data, its shape, its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.training import air_quality, arithmetic, general, traffic, vitals
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


def _specialist(steps: int, layers: int = 4) -> TrainingConfig:
    """For a short scratchpad over a short question: many small steps."""
    return TrainingConfig(
        steps=steps,
        batch_tokens=2048,
        cooldown_share=0.6,
        model=ModelConfig(width=128, layers=layers),
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="arithmetic",
            description="Adds and subtracts up to four digits, multiplies two by two digits.",
            sample=arithmetic.sample,
            held_out=arithmetic.held_out_example,
            training=TrainingConfig(
                steps=7300, cooldown_share=0.65, model=ModelConfig(width=128, layers=4)
            ),
        ),
        Recipe(
            name="air_quality",
            description="Judges the air by the US EPA's index from concentrations of pollutants.",
            sample=air_quality.sample,
            held_out=air_quality.held_out_example,
            training=_specialist(steps=2600),
        ),
        Recipe(
            name="vitals",
            description="Ranks the urgency of vital signs by NEWS2; it diagnoses nothing.",
            sample=vitals.sample,
            held_out=vitals.held_out_example,
            training=_specialist(steps=2600),
        ),
        Recipe(
            name="traffic",
            description="Judges traffic by the HCM's level of service from speed and volume.",
            sample=traffic.sample,
            held_out=traffic.held_out_example,
            training=_specialist(steps=2600),
        ),
        Recipe(
            name="general",
            description="Chats about the Gossamer mesh; hands calculations to the expert.",
            sample=general.sample,
            held_out=general.held_out_example,
            training=TrainingConfig(
                steps=5500,
                batch_tokens=3072,
                matrix_rate=0.015,
                cooldown_share=0.7,
                evaluate_every=250,
                model=ModelConfig(width=160, layers=4, heads=5, kv_heads=5, feed_forward=448),
            ),
        ),
    )
}
