"""Reads a piece of a text for somebody who asks about the whole, without a model."""
