"""The mesh as tools and resources of the Model Context Protocol; needs the mcp extra."""
