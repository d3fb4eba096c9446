"""One file a format: how its rows are known by their columns, and how one becomes a sample."""
