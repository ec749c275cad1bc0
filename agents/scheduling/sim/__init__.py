"""Scheduling under virtual time: a load, a mesh that serves it, and what it could have done."""
