"""What agents publish to each other: versioned feeds, and what a peer makes of them."""
