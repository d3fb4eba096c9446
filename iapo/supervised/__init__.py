"""Supervised training on transcripts, as a cold start before reinforcement learning."""
