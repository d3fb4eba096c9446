"""Whose attributions students are compared with: live teachers and stored ones."""
