"""Who decides: understanding, planning, choosing a peer, checking the answer."""
