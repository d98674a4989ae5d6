"""Evaluation: the best items of every query out of the catalogue, or the order of its documents, and what that is worth."""

from rankwell.evaluation.full import Evaluation, evaluate
from rankwell.evaluation.judged import evaluate_lists, score_lists
from rankwell.evaluation.top import TopItems, top_items

__all__ = ["Evaluation", "TopItems", "evaluate", "evaluate_lists", "score_lists", "top_items"]
