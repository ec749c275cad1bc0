"""Understanding a question: what it is about, how hard it is, whether a draft will do."""
