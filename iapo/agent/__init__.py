"""A policy that answers questions about images: what it called, what it saw, what it answered."""
