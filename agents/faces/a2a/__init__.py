"""The mesh as an agent of the Agent2Agent protocol; needs the a2a extra."""
