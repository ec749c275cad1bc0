"""A city of small agents, asked by a visitor's device that knows nothing of it."""
