"""Who served whom how many tokens, signed by both sides: for information, nothing is owed."""
