"""Ranking metrics: pure functions of scores and labels, higher is better, one value a list.

:class:`Metric` documents the call they share, each function its own card; metrics of recommended items have that of
:class:`RecommendedMetric`. :class:`Measure` is a configured metric as a
value (``ndcg@10``), and :func:`evaluate_measures` computes several on one ranking.
"""

from rankwell.metrics.at_relevant import ap_at_r
from rankwell.metrics.binary import ap, hit_rate, mrr, precision, recall
from rankwell.metrics.cascade import err, rbp
from rankwell.metrics.correlation import kendall_tau, opa, spearman
from rankwell.metrics.exposure import coverage, gini, novelty, popularity_lift
from rankwell.metrics.gain import Gain, dcg, ndcg
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.measure import Measure, evaluate_measures
from rankwell.metrics.order import auc
from rankwell.metrics.partial_auc import pauc
from rankwell.metrics.preference import bpref
from rankwell.metrics.presets import PRESETS, preset
from rankwell.metrics.recommended import RecommendedMetric
from rankwell.metrics.registry import METRICS, Metric, metric
from rankwell.metrics.sets import f1, r_precision
from rankwell.metrics.variety import calibration, diversity, serendipity

__all__ = [
    "METRICS",
    "PRESETS",
    "Gain",
    "IdealLabels",
    "Measure",
    "Metric",
    "RecommendedMetric",
    "ap",
    "ap_at_r",
    "auc",
    "bpref",
    "calibration",
    "coverage",
    "dcg",
    "diversity",
    "err",
    "evaluate_measures",
    "f1",
    "gini",
    "hit_rate",
    "kendall_tau",
    "metric",
    "mrr",
    "ndcg",
    "novelty",
    "opa",
    "pauc",
    "popularity_lift",
    "precision",
    "preset",
    "r_precision",
    "rbp",
    "recall",
    "serendipity",
    "spearman",
]
