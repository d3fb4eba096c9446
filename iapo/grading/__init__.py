"""Is an answer right? Rules, and a model as judge."""
