"""One question, from a plan of named steps to one answer."""
