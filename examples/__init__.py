"""Scenarios that run as a whole: real agents, a real broker, and what happens told in words."""
