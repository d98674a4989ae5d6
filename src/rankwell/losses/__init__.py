"""Ranking losses: pure functions of scores and labels, one file a family."""
