"""HTTP for programs: OpenAI's API in front of a mesh, in a small process beside its agent."""
