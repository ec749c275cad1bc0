"""What a node can do: each capability plugs in by name and knows nothing of who asks."""
