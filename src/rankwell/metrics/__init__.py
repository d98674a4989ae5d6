"""Ranking metrics: pure functions with the losses' call."""
