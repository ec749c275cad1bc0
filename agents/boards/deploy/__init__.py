"""A mesh on many machines from one file: ``gossamer deploy inventory.toml``."""
