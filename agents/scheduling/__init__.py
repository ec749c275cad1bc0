"""Which of several willing nodes gets the work."""
