"""pytrec_eval, ir_measures (with gdeval) and ranx on the same runs."""

import random
from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import Measure, evaluate_measures
from rankwell.types import Ragged

pytestmark = pytest.mark.filterwarnings("ignore")


class Runs(NamedTuple):
    """Judgements and runs in the form of these tools."""

    qrels: Mapping[str, Mapping[str, int]]
    run: Mapping[str, Mapping[str, float]]


def runs(*, graded: bool = True) -> Runs:
    """Lists that hold unjudged documents and miss relevant ones; the topic 107 has nothing relevant. No ties."""
    draw = random.Random(0)
    qrels, run = {}, {}
    for topic in range(100, 120):
        size = draw.randint(5, 60)
        labels = [draw.choice([0, 0, 0, 1, 2, 3] if graded else [0, 0, 1]) for _ in range(size)]
        labels = [0] * size if topic == 107 else [1, *labels[1:]]
        qrels[str(topic)] = {f"d{i:03}": y for i, y in enumerate(labels)}
        found = draw.sample(range(size + 20), size)
        run[str(topic)] = {f"d{i:03}": draw.random() for i in found}
    return Runs(qrels, run)


def ours(case: Runs, measures: Mapping[str, str], preset: str | None = "trec") -> dict[str, list[float]]:
    """Values by the tool's name, one a topic."""
    ranked = [(case.qrels[topic], scored) for topic, scored in case.run.items()]
    scores = torch.tensor([s for _, scored in ranked for s in scored.values()], dtype=torch.float64)
    labels = torch.tensor([float(qrels.get(d, -1)) for qrels, scored in ranked for d in scored], dtype=torch.float64)
    sizes: list[Tensor] = [torch.tensor([len(row[part]) for row in ranked]) for part in (0, 1)]
    judged = torch.tensor([float(y) for qrels, _ in ranked for y in qrels.values()])
    chosen = {name: Measure.parse(text, preset=preset) for name, text in measures.items()}
    ideal = Ragged(offsets_from_sizes(sizes[0]), judged)
    found = evaluate_measures(chosen.values(), scores, labels, offsets=offsets_from_sizes(sizes[1]), ideal=ideal)
    return {name: found[str(measure)].tolist() for name, measure in chosen.items()}


def test_pytrec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed (extra parity)")
    case = runs()
    measures = {
        "map": "ap",
        "map_cut_10": "ap@10",
        "ndcg": "ndcg",
        "ndcg_cut_10": "ndcg@10",
        "recip_rank": "mrr",
        "P_10": "P@10",
        "recall_10": "R@10",
        "success_5": "success@5",
        "Rprec": "Rprec",
        "bpref": "bpref",
        "set_P": "set_P",
        "set_F": "set_F",
    }
    asked = {
        "map",
        "map_cut",
        "ndcg",
        "ndcg_cut",
        "recip_rank",
        "P",
        "recall",
        "success",
        "Rprec",
        "bpref",
        "set_P",
        "set_F",
    }
    theirs = pytrec_eval.RelevanceEvaluator(case.qrels, asked).evaluate(case.run)
    for name, values in ours(case, measures).items():
        assert values == pytest.approx([theirs[topic][name] for topic in case.run], abs=1e-12), name


def test_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed (extra parity)")
    case = runs()
    names = [
        "nDCG@10",
        "AP",
        "AP(rel=2)@10",
        "RR",
        "RR(rel=2)@5",
        "P@5",
        "P(rel=2)@5",
        "R@10",
        "Rprec",
        "Bpref",
        "Success@3",
    ]
    names += ["SetF", "SetP", "SetR(rel=2)"]
    asked = {ir_measures.parse_measure(name): name for name in names}
    theirs = {name: dict.fromkeys(case.run, 0.0) for name in names}
    for value in ir_measures.iter_calc(list(asked), case.qrels, case.run):
        theirs[asked[value.measure]][value.query_id] = value.value
    # Our parser reads its spelling.
    for name, values in ours(case, {name: name for name in names}).items():
        assert values == pytest.approx(list(theirs[name].values()), abs=1e-12), name


def test_gdeval() -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed (extra parity)")
    case = runs()
    asked = {ir_measures.ERR @ 10: "err@10", ir_measures.nDCG(dcg="exp-log2") @ 10: "ndcg@10"}
    theirs = {text: dict.fromkeys(case.run, 0.0) for text in asked.values()}
    for value in ir_measures.iter_calc(list(asked), case.qrels, case.run):
        theirs[asked[value.measure]][value.query_id] = value.value
    # Five digits are printed.
    for text, values in ours(case, {text: text for text in asked.values()}, preset=None).items():
        assert values == pytest.approx(list(theirs[text].values()), abs=6e-6), text


def test_ranx() -> None:
    ranx = pytest.importorskip("ranx", reason="ranx is not installed (extra parity)")
    measures = {
        "map": "ap",
        "map@10": "ap@10",
        "mrr": "mrr",
        "precision@10": "precision@10",
        "recall@10": "recall@10",
        "r-precision": "r_precision",
        "hit_rate@5": "hit_rate@5",
        "f1@10": "f1@10",
        "rbp.80": "rbp(p=0.8)",
        "ndcg@10": "ndcg@10",
        "ndcg_burges@10": "ndcg(gain=exponential)@10",
    }
    case = runs(graded=False)
    theirs = ranx.evaluate(ranx.Qrels(case.qrels), ranx.Run(case.run), list(measures), return_mean=False)
    for name, values in ours(case, measures).items():
        assert values == pytest.approx(theirs[name].tolist(), abs=1e-9), name
