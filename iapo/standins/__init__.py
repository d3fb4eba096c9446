"""Stand-ins: checkpoint folders that are the published ones' in all but the weights, which are random."""
