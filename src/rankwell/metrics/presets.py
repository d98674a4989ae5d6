"""Conventions of other tools, under which measures give those tools' values.

``trec``
    trec_eval and pytrec_eval. Ties are ordered beforehand (by document id descending), gains are labels, a topic without
    relevant documents is 0 and counts, ap divides by all relevant documents and precision by k. rbp persists with 0.9, and
    a label gains its share of the topic's highest.
``letor``
    The scripts of LETOR 3.0 and 4.0. Ties in the order of the file, exponential gains, positions 1 and 2 both without
    discount, a query without relevant documents is 0 and counts. The scripts leave NDCG at k as 0 where a list is shorter
    than k; ours is that of the whole list.
``sklearn``
    scikit-learn's ``dcg_score``, ``ndcg_score``, ``average_precision_score``, ``roc_auc_score``. Linear gains, ties averaged;
    average precision has one threshold a tie group; a partial AUC has McClish's scale; nothing relevant is 0. (A ROC curve
    of one class is an error or NaN there.)
``lightgbm``
    LightGBM's ``ndcg`` and ``map``. Ties in input order, exponential gains (its default ``label_gain``), a query without
    relevant rows counts as 1, average precision divides by min(k, relevant).
``recbole``
    RecBole's full ranking: the order that its top-k hands over, users with test items only, average precision divides by
    min(k, relevant), precision by k, recall by all test items, NDCG's best list has min(k, relevant) items.
``implicit``
    implicit's ``ranking_metrics_at_k``: as RecBole, but precision divides by min(k, liked) too. Its precision is that of all
    users' recommendations together: the mean of ours with weights min(k, liked). Its AUC at K, where what is not among
    the first K counts as tied, is ``auc(top=K)``.
``lightgcn``
    LightGCN's code: the order that its top-k hands over, binary gains, users with test items only.
"""

from collections.abc import Mapping
from types import MappingProxyType

from rankwell.errors import UnknownName

__all__ = ["PRESETS", "preset"]

PRESETS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "trec": MappingProxyType({"ties": "order", "gain": "linear", "empty": "zero", "p": "0.9", "grades": "share"}),
        "letor": MappingProxyType({"ties": "order", "gain": "exponential", "discount": "original", "empty": "zero"}),
        "sklearn": MappingProxyType(
            {"ties": "expected", "gain": "linear", "at": "thresholds", "scale": "mcclish", "empty": "zero"}
        ),
        "lightgbm": MappingProxyType({"ties": "order", "gain": "exponential", "total": "reachable", "empty": "one"}),
        "recbole": MappingProxyType({"ties": "order", "gain": "linear", "total": "reachable", "empty": "skip"}),
        "implicit": MappingProxyType(
            {"ties": "order", "gain": "linear", "total": "reachable", "depth": "reachable", "empty": "skip"}
        ),
        "lightgcn": MappingProxyType({"ties": "order", "gain": "linear", "empty": "skip"}),
    }
)
"""Parameters and conventions by tool; a metric takes those that it has."""


def preset(name: str) -> Mapping[str, str]:
    """The conventions of another tool, for ``Measure.parse(text, preset=name)``.

    >>> dict(preset("letor"))
    {'ties': 'order', 'gain': 'exponential', 'discount': 'original', 'empty': 'zero'}
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
