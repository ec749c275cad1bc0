"""How the shipped embedder is made: distilled from a sentence transformer, once, by script."""
