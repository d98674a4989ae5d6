"""Full-catalogue evaluation: the best items of every query, and what they are worth."""

from rankwell.evaluation.full import Evaluation, evaluate
from rankwell.evaluation.top import TopItems, top_items

__all__ = ["Evaluation", "TopItems", "evaluate", "top_items"]
