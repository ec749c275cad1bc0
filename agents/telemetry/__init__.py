"""What an agent can tell of its own work: counts, spans, traces, a live feed, log lines."""
