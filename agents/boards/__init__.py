"""What it takes to run on a board."""
