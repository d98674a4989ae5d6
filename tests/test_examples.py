"""Every example runs, and does what it is an example of."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test():
    names = {
        "clicks",
        "code_search",
        "cold_start",
        "imbalance",
        "irgan",
        "labels",
        "learning_to_rank",
        "metric_learning",
        "next_item",
        "own_loop",
        "recommenders",
        "rerank",
        "semantic_search",
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names


def test_own_loop_learns():
    figures = load("own_loop").main()
    assert figures["after"] > 0.9 > figures["before"]


def test_recommenders_know_more_than_what_is_popular():
    figures = load("recommenders").main()
    floor = figures.pop("popularity")
    assert figures.pop("NeuMF, cross-entropy") > floor
    assert min(figures.values()) > floor + 0.03


def test_students_search_where_their_teacher_can_only_order_what_was_found():
    figures = load("rerank").main()
    assert figures["ranked again"] > figures["BM25"] + 0.15
    assert min(figures["student, KL"], figures["student, margin-MSE"]) > figures["ranked again"] + 0.04


def test_learning_to_rank_finds_what_no_feature_shows():
    figures = load("learning_to_rank").main()
    assert min(figures[name] for name in ("LambdaMART", "softmax", "LambdaRank")) > figures["best feature"] + 0.1


def test_labels_are_ordered_by_one_loss_and_chosen_by_the_other():
    figures = load("labels").main()
    order, choice = ({name: of[key] for name, of in figures.items()} for key in ("ndcg@10", "F1"))
    assert order["popularity"] + 0.2 < order["soft Dice"] < order["cross-entropy"] < order["ideal"]
    assert choice["popularity"] + 0.2 < choice["cross-entropy"] < choice["soft Dice"] - 0.02


def test_next_item_needs_the_order_of_events():
    figures = load("next_item").main()
    assert figures["item mean, BPR"] + 0.1 < figures["SASRec, BPR"] < figures["SASRec, cross-entropy"]
    assert figures["SASRec, cross-entropy"] > 0.6


def test_metric_learning_finds_new_classes():
    figures = load("metric_learning").main()
    assert min(value for name, value in figures.items() if name != "raw") > figures["raw"] + 0.2


def test_weights_help_where_the_test_counts_every_item_alike_and_cost_where_it_does_not():
    figures = load("imbalance").main()
    for way in ("weighted rows", "popular negatives"):
        assert figures["balanced"][way] > figures["balanced"]["plain"] + 0.02
        assert figures["random"][way] < figures["random"]["plain"] - 0.02


def test_no_game_falls_below_the_start_of_its_generator():
    curves = load("irgan").main()
    assert len({tuple(curve[:4]) for curve in curves.values()}) == 1  # the same supervised start, bit for bit
    assert all(min(curve) == curve[0] and min(curve[4:]) > curve[3] - 0.01 for curve in curves.values())


def test_inverse_propensities_beat_naive_clicks():
    figures = load("clicks").main()
    assert min(figures["propensities known"], figures["propensities estimated"]) > figures["naive clicks"] + 0.02
    assert figures["judgements"] > figures["naive clicks"] and figures["naive clicks"] > figures["production"] - 0.05


def test_new_items_are_ranked_by_what_was_learnt_of_features():
    figures = load("cold_start").main()
    assert max(figures["popularity"], figures["ids alone"]) < 0.25
    assert min(figures["ids dropped half of the time"], figures["ids and features"]) > 0.35


def test_code_search_finds_functions_of_other_names():
    figures = load("code_search").main()
    assert figures["BM25"] < 0.3 and min(figures["InfoNCE"], figures["Soft-InfoNCE"]) > 0.9


def test_semantic_search_finds_what_words_do_not_tell():
    figures = load("semantic_search").main()
    assert figures["trained"] > max(figures["BM25"], figures["before training"]) + 0.5
