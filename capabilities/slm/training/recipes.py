"""What each embedded model is made of: its data, its shape, its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.training import air_quality, arithmetic, general, traffic, union, vitals
from capabilities.slm.training.harness import TrainingConfig
from capabilities.slm.training.model import ModelConfig

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from capabilities.slm.training.chat import Example


@dataclass(frozen=True)
class Recipe:
    """`sample` draws training examples, `held_out` examples that `sample` never draws.

    `tasks` are what the model is trained to do, written into its file. `parts` are models that it
    begins as, side by side. `gpu_minutes` is its share
    of `train all` on one data-centre GPU, in batches of `gpu_batch_tokens`.
    """

    name: str
    description: str
    sample: Callable[[random.Random], Example]
    held_out: Callable[[random.Random], Example]
    training: TrainingConfig
    tasks: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    gpu_minutes: float = 0.7
    gpu_batch_tokens: int = 12_288


def _specialist(steps: int, layers: int = 4) -> TrainingConfig:
    """For a short scratchpad over a short question: many small steps."""
    return TrainingConfig(
        steps=steps,
        batch_tokens=3072,
        cooldown_share=0.8,
        model=ModelConfig(width=128, layers=layers),
    )


# `train all` goes by this order: what a fresh machine needs first comes first.
ORDER = ("arithmetic", "general", "air_quality", "vitals", "traffic", "judges", "large")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="arithmetic",
            description="Calculates with + - * / in one or several steps; solves word problems.",
            sample=arithmetic.sample,
            held_out=arithmetic.held_out_any,
            training=TrainingConfig(
                steps=16_000,
                cooldown_share=0.6,
                evaluate_every=400,
                exit_weight=0.15,  # a calculation must be right before it is early
                model=ModelConfig(width=128, layers=4, context=768, exits=(2, 3)),
            ),
            tasks=arithmetic.TASKS,
            gpu_minutes=3.5,
            gpu_batch_tokens=16_384,
        ),
        Recipe(
            name="air_quality",
            description="Judges the air by the US EPA's index from concentrations of pollutants.",
            sample=air_quality.sample,
            held_out=air_quality.held_out_example,
            training=_specialist(steps=5000),
            tasks=("air_quality",),
        ),
        Recipe(
            name="vitals",
            description="Ranks the urgency of vital signs by NEWS2; it diagnoses nothing.",
            sample=vitals.sample,
            held_out=vitals.held_out_example,
            training=_specialist(steps=5000),
            tasks=("vitals",),
        ),
        Recipe(
            name="traffic",
            description="Judges traffic by the HCM's level of service from speed and volume.",
            sample=traffic.sample,
            held_out=traffic.held_out_example,
            training=_specialist(steps=5000),
            tasks=("traffic",),
        ),
        Recipe(
            name="general",
            description="Talks about the Gossamer mesh; plans, reads, rewords and joins.",
            sample=general.sample,
            held_out=general.held_out_any,
            training=TrainingConfig(
                steps=20_000,
                batch_tokens=4096,
                matrix_rate=0.015,
                cooldown_share=0.6,
                evaluate_every=500,
                model=ModelConfig(
                    width=160,
                    layers=6,
                    heads=5,
                    kv_heads=5,
                    feed_forward=448,
                    context=1024,
                    exits=(2, 4),
                ),
            ),
            tasks=general.TASKS,
            gpu_minutes=5.0,
            gpu_batch_tokens=24_576,
        ),
        Recipe(
            name="judges",
            description="Air, vital signs and traffic in one: a part that large is grown from.",
            sample=union.judged,
            held_out=union.held_out_judged,
            training=_specialist(steps=12_000),
            tasks=union.JUDGES,
            gpu_minutes=1.2,
        ),
        Recipe(
            name="large",
            description="All domains of the family in one model: the stand-in for a cloud model.",
            sample=union.sample,
            held_out=union.held_out_example,
            training=TrainingConfig(
                steps=12_000,
                batch_tokens=3072,
                # A fifth of what a model that begins from nothing wants: three times as much undid
                # what the parts know faster than they learned to live together.
                matrix_rate=0.002,
                other_rate=1e-3,
                warmup_steps=30,
                cooldown_share=0.6,
                evaluate_every=400,
                # general, arithmetic and judges fit into it side by side (joining.py); two thirds
                # of its neurons in the last two blocks are none of theirs.
                model=ModelConfig(
                    width=416,
                    layers=6,
                    heads=13,
                    kv_heads=13,
                    feed_forward=1280,
                    context=1024,
                ),
            ),
            tasks=(
                *arithmetic.TASKS,
                "air_quality",
                "vitals",
                "traffic",
                *general.TASKS,
            ),
            parts=("general", "arithmetic", "judges"),
            gpu_minutes=14.0,  # as many tokens of each domain as its specialist reads, and more
            gpu_batch_tokens=49_152,
        ),
    )
}
