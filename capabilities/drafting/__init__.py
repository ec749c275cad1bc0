"""Drafts of a small node that a bigger model checks: the bigger one's answer, in fewer passes."""
