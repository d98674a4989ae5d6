"""Evaluation: the best items of every query out of the catalogue, or the order of its documents, and what that is worth."""

from rankwell.evaluation.among import Among
from rankwell.evaluation.examples import embed, evaluate_examples, neighbours
from rankwell.evaluation.full import Evaluation, evaluate
from rankwell.evaluation.judged import evaluate_lists, score_lists
from rankwell.evaluation.labelled import evaluate_labels, score_labels
from rankwell.evaluation.newcomers import NewUsers, VectorRanker
from rankwell.evaluation.recommended import Background, measure_recommended
from rankwell.evaluation.top import TopItems, top_items

__all__ = [
    "Among",
    "Background",
    "Evaluation",
    "NewUsers",
    "TopItems",
    "VectorRanker",
    "embed",
    "evaluate",
    "evaluate_examples",
    "evaluate_labels",
    "evaluate_lists",
    "measure_recommended",
    "neighbours",
    "score_labels",
    "score_lists",
    "top_items",
]
