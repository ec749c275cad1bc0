"""What a node measures, offered as data."""
