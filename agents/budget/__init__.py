"""What may be spent on the cloud: hard limits, kept on disk, shared out over the mesh by leases.

    reserve the worst case ─▶ sent ─▶ settle what it cost
            │ never sent             │ never settled
            ▼                        ▼
         returned                  lost: it stays spent in full

:mod:`agents.budget.limits` and :mod:`agents.budget.lease` decide; :mod:`agents.budget.store`
keeps the book in SQLite, :mod:`agents.budget.purse` hands it to the event loop.
"""
