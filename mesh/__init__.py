"""The network: who is there, what they offer, how to reach them.

``mesh.core`` decides and does no I/O, ``mesh.net`` carries its decisions over ZeroMQ, and
``mesh.sim`` runs the same decisions under virtual time. The mesh knows nothing of models.
"""
