"""What the claims rest on: each benchmark prints one JSON object of measured figures."""
