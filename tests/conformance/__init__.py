"""What the test suites of the protocols need of a server; see docs/mcp.md and docs/a2a.md."""
