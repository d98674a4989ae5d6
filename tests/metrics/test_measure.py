import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.metrics import METRICS, Measure, evaluate_measures, metric, ndcg, precision, preset
from rankwell.metrics.registry import Metric

SCORES, LABELS = torch.tensor([[0.1, 0.9, 0.9]]), torch.tensor([[2.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ndcg@20", "ndcg@20"),
        ("nDCG@10", "ndcg@10"),
        ("NDCG", "ndcg"),
        (" ndcg @5", "ndcg@5"),
        ("ndcg(gain=linear)@20", "ndcg(gain=linear)@20"),
        ("ndcg(gain=exponential)@20", "ndcg@20"),
        ("P(rel=2)@10", "precision(rel=2)@10"),
        ("P(rel=1)@10", "precision@10"),
        ("p( rel = 0.5 )@10", "precision(rel=0.5)@10"),
        ("AP", "ap"),
        ("MAP@100", "ap@100"),
        ("RR@10", "mrr@10"),
        ("MRR", "mrr"),
        ("R@20", "recall@20"),
        ("Recall@20", "recall@20"),
        ("Success@10", "hit_rate@10"),
        ("Hit@10", "hit_rate@10"),
        ("HR@10", "hit_rate@10"),
        ("AUC", "auc"),
        ("ERR@20", "err@20"),
        ("RBP(p=0.8)", "rbp"),
        ("rbp(p=0.5)@10", "rbp(p=0.5)@10"),
        ("f1@5", "f1@5"),
        ("SetF", "f1"),
        ("set_P(rel=2)", "precision(rel=2)"),
        ("R_precision", "r_precision"),
        ("Rprec(rel=2)", "r_precision(rel=2)"),
        ("Bpref", "bpref"),
        ("pAUC(max_fpr=0.2,scale=mcclish)", "pauc(max_fpr=0.2,scale=mcclish)"),
        ("Kendall_tau", "kendall_tau"),
        ("spearmanr", "spearman"),
        ("ndcg_cut_10", "ndcg@10"),
        ("NDCG_cut_10", "ndcg@10"),
        ("ndcg_cut_10(gain=linear)", "ndcg(gain=linear)@10"),
        ("map_cut_10", "ap@10"),
        ("P_10", "precision@10"),
        ("recall_10", "recall@10"),
        ("success_5", "hit_rate@5"),
        ("OPA", "opa"),
        ("map(total=reachable)@10", "ap(total=reachable)@10"),
        ("RR(rel=2,ties=order)@10", "mrr(rel=2,ties=order)@10"),
        ("RR(ties=order, rel=2)@10", "mrr(rel=2,ties=order)@10"),
    ],
)
def test_parse(text: str, canonical: str) -> None:
    measure = Measure.parse(text)
    assert str(measure) == canonical
    assert Measure.parse(canonical) == measure
    assert hash(Measure.parse(canonical)) == hash(measure)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndcg@0", "the cut-off behind @ must be a whole number of at least 1: got '0'."),
        ("ndcg@x", "measure 'ndcg@x': the cut-off behind @ must be a whole number of at least 1: got 'x'."),
        ("ndcg@", "got ''."),
        ("ndcg@-3", "got '-3'."),
        ("ndcg@1.5", "got '1.5'."),
        ("ndcg(gan=linear)@5", "ndcg has no parameter 'gan'. Did you mean 'gain'?"),
        ("ndcg(rel=2)", "ndcg has no parameter 'rel'."),
        ("ndcg(gain=cubic)", "ndcg: gain must be 'exponential', 'linear': got 'cubic'."),
        ("P(rel=high)@5", "precision: rel must be float: got 'high'."),
        ("P(rel=nan)@5", "precision: rel must be float: got 'nan'."),
        ("P(rel=0)@3", "precision: rel must be above 0, the label of what is not relevant: got 0."),
        ("recall(rel=-1)@3", "got -1."),
        ("rbp(p=1.5)", "rbp: p must be between 0 and 1: got 1.5."),
        ("pauc(max_fpr=0)", "pauc: max_fpr must be above 0 and at most 1: got 0.0."),
        ("err(max_label=-1)@5", "err: max_label must be above 0: got -1.0."),
        ("ap(total=k)@5", "ap: total must be 'relevant', 'reachable': got 'k'."),
        ("bpref@10", "bpref has a depth of its own: it takes no cut-off, got bpref@10."),
        ("P(rel)@5", "parameters are written name=value: got 'rel'."),
        ("P()@5", "parameters are written name=value: got ''."),
        ("P(rel=2", "a measure is written name, name@k or name(parameter=value)@k: got 'P(rel=2'."),
        ("ndcg@5@10", "a measure is written"),
        ("", "a measure is written"),
        ("auc@10", "auc needs the whole list: it takes no cut-off, got auc@10."),
        ("P_0", "must be a whole number of at least 1: got '0'."),
        ("GiniIndex", "gini is of recommended items: say how many are recommended to each user, as gini@20."),
        ("gini(ties=order)@3", "gini has no parameter 'ties'."),
        ("novelty(column=year)@3", "novelty has no parameter 'column'."),
        ("calibration(colum=genres)@3", "calibration has no parameter 'colum'. Did you mean 'column'?"),
    ],
)
def test_bad_syntax_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Measure.parse(text)
    assert message in str(raised.value)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown metric 'ndgc'. Did you mean 'ndcg'\?"):
        Measure.parse("ndgc@10")
    with pytest.raises(UnknownName, match=r"unknown preset 'treck'. Did you mean 'trec'\?"):
        Measure.parse("ndcg", preset="treck")


@given(st.floats(min_value=1e-12, max_value=1e12), st.integers(min_value=1, max_value=10**9))
def test_any_threshold_and_cut_off_read_back(rel: float, k: int) -> None:
    measure = Measure("ap", k, (("rel", rel),))
    assert Measure.parse(str(measure)) == measure


def test_construction_is_checked_and_canonical() -> None:
    assert Measure("MAP", 5, (("rel", 2),)) == Measure.parse("ap(rel=2)@5")
    assert Measure("ndcg", parameters=(("gain", "exponential"),)) == Measure("ndcg")
    assert Measure("ndcg", np.int64(5)) == Measure("ndcg", 5) and str(Measure("ndcg", np.int64(5))) == "ndcg@5"
    for k in (0, 2.0, True, np.bool_(True), "3"):
        with pytest.raises(ConfigError, match="ndcg: the cut-off k must be a whole number of at least 1, or None: got"):
            Measure("ndcg", k)


def test_presets_fill_in_what_the_text_does_not_say() -> None:
    given = {"ties": "order", "empty": "zero"}
    settings = Measure.parse("ndcg@10", preset="trec").settings
    assert settings == {**given, "gain": "linear", "discount": "shifted"}
    assert Measure.parse("P@10", preset="trec").settings == {**given, "rel": 1.0, "depth": "k"}
    assert Measure.parse("ndcg(ties=expected)", preset="trec").settings["ties"] == "expected"
    assert preset("lightgcn")["empty"] == "skip"


def test_a_measure_is_its_metric() -> None:
    assert Measure.parse("ndcg@2")(SCORES, LABELS) == ndcg(SCORES, LABELS, k=2)
    assert Measure.parse("P(rel=2)@2")(SCORES, LABELS) == precision(SCORES, LABELS, k=2, rel=2)
    assert Measure.parse("P@1")(SCORES, LABELS, ties="order") == precision(SCORES, LABELS, k=1, ties="order")
    call: Metric = ndcg
    assert call(SCORES, LABELS).ndim == 0


def test_measures_share_a_ranking_under_either_tie_policy() -> None:
    texts = ["P@1", "P(ties=order)@1", "ndcg", "ndcg(empty=one)", "auc"]
    scores, labels = torch.cat([SCORES, SCORES]), torch.cat([LABELS, 0 * LABELS])
    values = evaluate_measures(texts, scores, labels)
    assert list(values) == ["precision@1", "precision(ties=order)@1", "ndcg", "ndcg(empty=one)", "auc"]
    assert values["precision@1"].tolist() == [0.5, 0]
    assert values["precision(ties=order)@1"].tolist() == [1, 0]
    assert values["ndcg(empty=one)"][1] == 1 and values["ndcg"][1] == 0
    assert evaluate_measures(["ndcg"], scores, labels, reduction="mean")["ndcg"] == ndcg(scores, labels)


def test_a_metric_from_outside_needs_no_body() -> None:
    def first_label(
        scores, labels, *, where=None, weights=None, offsets=None, reduction="mean", k=None, ties="expected",
        ideal=None, empty="skip", times: int = 1, loud: bool = False,
    ):  # fmt: skip
        """Label of the first item."""
        return times * labels[..., 0]

    metric()(first_label)
    try:
        measure = Measure.parse("first_label(times=2,loud=true)@3")
        assert str(measure) == "first_label(loud=true,times=2)@3"
        assert Measure.parse(str(measure)) == measure
        values = evaluate_measures([measure, "mrr"], SCORES, LABELS)
        assert values[str(measure)].tolist() == [4.0]
        with pytest.raises(ConfigError, match=r"times must be int: got '2.5'"):
            Measure.parse("first_label(times=2.5)")
    finally:
        del METRICS._entries["first_label"]


def test_lists_that_do_not_count_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first list counts, the second has no positive, the third no item; also for a metric from outside."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric()
    def outside(
        scores,
        labels,
        *,
        where=None,
        weights=None,
        offsets=None,
        reduction="mean",
        k=None,
        ties="expected",
        ideal=None,
        empty="skip",
    ):
        return precision(scores, labels, where=where, reduction=reduction, k=k, ties=ties, empty=empty)

    scores, labels = torch.tensor([[2.0, 1.0]] * 3), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    where = torch.tensor([[True, True], [True, True], [False, False]])
    names = ["precision@1", "outside@1", "precision(empty=zero)@1", "outside(empty=one)@1"]
    found = evaluate_measures(names, scores, labels, where=where, uncounted=-7.0)
    assert [found[name].tolist() for name in names] == [[1, -7, -7], [1, -7, -7], [1, 0, -7], [1, 1, -7]]
    assert evaluate_measures(names[:1], scores, labels, where=where)["precision@1"].tolist() == [1, 0, 0]


CUT = [name for name in METRICS.names() if METRICS[name].kind == "list"]


@pytest.mark.parametrize("name", CUT)
def test_unlisted_items_of_a_tie_are_counted_only(name: str) -> None:
    """Lists cut inside a tie: two, five and no irrelevant items of the last score are left out."""
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0, 1.0, 1.0], [1.0] * 6, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    labels = torch.tensor([[0.0, 0, 2, 0, 0, 1], [1, 0, 0, 2, 0, 0], [0, 1, 0, 0, 0, 1]])
    unlisted = torch.tensor([2, 5, 0])
    more = torch.arange(5) < unlisted[:, None]
    whole = torch.cat([scores, torch.ones(3, 5)], 1), torch.nn.functional.pad(labels, (0, 5))
    where = torch.cat([torch.ones(3, 6, dtype=torch.bool), more], 1)
    for measure in (f"{name}@1", f"{name}@4", f"{name}(ties=order)@4"):
        got = evaluate_measures([measure], scores, labels, unlisted=unlisted)
        right = evaluate_measures([measure], *whole, where=where)
        for key, values in right.items():
            torch.testing.assert_close(got[key], values)


def test_unlisted_items_for_a_metric_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric()
    def outside(
        scores, labels, *, where=None, weights=None, offsets=None, reduction="mean", k=None, ties="expected",
        ideal=None, empty="skip",
    ):  # fmt: skip
        return precision(scores, labels, where=where, reduction=reduction, k=k, ties=ties, empty=empty)

    scores, labels = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = evaluate_measures(["outside@2"], scores, labels, unlisted=torch.tensor([2, 0]))
    assert found["outside@2"].tolist() == [0.125, 0.5]


@pytest.mark.parametrize("name", ["ndcg", "auc"])
def test_unlisted_items_need_a_cut_off(name: str) -> None:
    with pytest.raises(InputError, match="unlisted goes with dense lists and measures with a cut-off"):
        evaluate_measures([name], SCORES, LABELS, unlisted=torch.tensor([1]))
