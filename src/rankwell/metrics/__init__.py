"""Ranking metrics: pure functions of scores and labels, higher is better, one value a list.

:class:`Metric` documents the call they share, each function its own card. :class:`Measure` is a configured metric as a
value (``ndcg@10``), and :func:`evaluate_measures` computes several on one ranking.
"""

from rankwell.metrics.binary import ap, hit_rate, mrr, precision, recall
from rankwell.metrics.gain import Gain, dcg, ndcg
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.measure import Measure, evaluate_measures, preset
from rankwell.metrics.order import auc
from rankwell.metrics.registry import METRICS, Metric, metric

__all__ = [
    "METRICS",
    "Gain",
    "IdealLabels",
    "Measure",
    "Metric",
    "ap",
    "auc",
    "dcg",
    "evaluate_measures",
    "hit_rate",
    "metric",
    "mrr",
    "ndcg",
    "precision",
    "preset",
    "recall",
]
