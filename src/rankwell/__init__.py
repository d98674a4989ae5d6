"""Rankwell: learning to rank by loss."""
