"""Texts as vectors, each in a stated space; the default needs neither torch nor a model process."""
