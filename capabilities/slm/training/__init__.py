"""How the embedded models are made: tokenizer, data, model, training, export. Needs torch."""
