"""Studies of runs that are there: the case study, training curves, ablations."""
