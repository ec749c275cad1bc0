"""Public standards as plain rules: what the embedded specialists learn, and what checks them."""
