"""Answers from a paid model outside the mesh: any OpenAI-compatible endpoint, several in order."""
