"""What a node knows: documents and answers with their vectors, sources and limits."""
