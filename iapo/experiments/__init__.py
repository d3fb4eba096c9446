"""What makes runs: the demo, comparisons, ablations, and the processes they run in."""
