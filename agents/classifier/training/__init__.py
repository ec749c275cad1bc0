"""Trains the relevance classifier from committed questions, seeded."""
