"""Every number that trec_eval publishes for its own inputs and that is one of our measures, to all printed digits."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import Measure, evaluate_measures
from rankwell.types import Ragged

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "trec-eval"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="trec_eval's inputs and outputs are not in ../shared/data")


class Case(NamedTuple):
    """Arguments of one run of trec_eval, and how many of its printed numbers are ours."""

    expected: str
    qrels: str
    run: str
    numbers: int
    complete: bool = False
    depth: int | None = None
    rel: int = 1


CASES = [
    Case("out.test", "qrels.test", "results.test", 17),
    Case("out.comment.test", "qrels.comment.test", "results.comment.test", 17),
    Case("out.test.a", "qrels.test", "results.test", 52),
    Case("out.test.aq", "qrels.test", "results.test", 4 * 52 - 3),
    Case("out.test.aqc", "qrels.test", "results.trunc", 4 * 52 - 3, complete=True),
    Case("out.test.aqcM", "qrels.test", "results.trunc", 4 * 52 - 3, complete=True, depth=100),
    Case("out.test.aql", "qrels.rel_level", "results.test", 4 * 52 - 3, rel=2),
]

# What trec_eval calls our measures; set_P and set_recall are those without a cut-off.
NAMES = {
    "map": "ap",
    "recip_rank": "mrr",
    "P": "precision",
    "recall": "recall",
    "ndcg": "ndcg",
    "ndcg_cut": "ndcg",
    "map_cut": "ap",
    "success": "hit_rate",
    "set_P": "precision",
    "set_recall": "recall",
    "set_F": "f1",
    "Rprec": "r_precision",
    "bpref": "bpref",
    "rbp": "rbp",
}


class Evaluation(NamedTuple):
    """Lists in trec_eval's order of ties, and all judgements."""

    queries: list[str]
    scores: Tensor
    labels: Tensor
    offsets: Tensor
    ideal: Ragged


def rows(name: str) -> Iterator[list[str]]:
    with (DATA / name).open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                yield line.split()


def evaluation(case: Case) -> Evaluation:
    qrels: dict[str, dict[str, float]] = defaultdict(dict)
    for query, _, document, label, *_ in rows(case.qrels):
        qrels[query][document] = float(label)
    run: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for query, _, document, _, score, *_ in rows(case.run):
        run[query].append((torch.tensor(float(score), dtype=torch.float32).item(), document))
    queries = [query for query in qrels if case.complete or query in run]
    # Document ids descending first, the order in which a stable sort by score leaves ties; -M cuts after sorting.
    lists = [
        sorted(sorted(run[q], key=lambda r: r[1], reverse=True), key=lambda r: -r[0])[: case.depth] for q in queries
    ]
    lists = [sorted(ranked, key=lambda r: r[1], reverse=True) for ranked in lists]
    judged = [list(qrels[query].values()) for query in queries]
    return Evaluation(
        queries,
        torch.tensor([score for ranked in lists for score, _ in ranked], dtype=torch.float64),
        torch.tensor(
            # What is not in the qrels is not judged.
            [qrels[q].get(document, -1.0) for q, ranked in zip(queries, lists, strict=True) for _, document in ranked]
        ),
        offsets_from_sizes(torch.tensor([len(ranked) for ranked in lists])),
        Ragged(
            offsets_from_sizes(torch.tensor([len(j) for j in judged])), torch.tensor([y for j in judged for y in j])
        ),
    )


def measure_of(name: str, rel: int) -> Measure | None:
    match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
    assert match is not None
    if match[1] not in NAMES:
        return None
    metric = NAMES[match[1]]
    own = "" if metric == "ndcg" else f"(rel={rel})"
    return Measure.parse(f"{metric}{own}" + (f"@{match[2]}" if match[2] else ""), preset="trec")


def counts(found: Evaluation, rel: int) -> dict[str, Tensor]:
    """The numbers that trec_eval prints about its inputs."""
    hit = (found.labels >= rel).long()
    judged = (found.ideal.values >= rel).long()
    return {
        "num_ret": found.offsets.diff(),
        "num_rel": torch.segment_reduce(judged.double(), "sum", offsets=found.ideal.offsets).long(),
        "num_rel_ret": torch.segment_reduce(hit.double(), "sum", offsets=found.offsets, initial=0).long(),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.expected)
def test_published_outputs(case: Case) -> None:
    found = evaluation(case)
    printed = [(name, query, value) for name, query, value, *_ in rows(case.expected)]
    measures = {name: measure_of(name, case.rel) for name, *_ in printed}
    values = evaluate_measures(
        [m for m in measures.values() if m is not None],
        found.scores,
        found.labels,
        offsets=found.offsets,
        ideal=found.ideal,
    )
    totals = counts(found, case.rel)
    compared = 0
    wrong = []
    for name, query, value in printed:
        measure = measures[name]
        if measure is not None:
            per_list = values[str(measure)]
            ours = f"{per_list.mean() if query == 'all' else per_list[found.queries.index(query)]:.4f}"
        elif name == "num_q":
            ours = str(len(found.queries))
        elif name in totals:
            ours = str(int(totals[name].sum() if query == "all" else totals[name][found.queries.index(query)]))
        else:
            continue
        compared += 1
        if ours != value:
            wrong.append((name, query, value, ours))
    assert not wrong
    assert compared == case.numbers
