"""Texts for negatives: what writes them, and what turns them into vectors."""
