"""A policy on test sets: traces, grades, measures with intervals."""
