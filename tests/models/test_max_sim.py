import pytest
import torch

from rankwell.errors import InputError
from rankwell.models import MaxSim


@pytest.fixture
def model():
    made = MaxSim(dim=8, buckets=512)
    made.initialise(seed=0)
    return made


def by_hand(model, query, document):
    """Word by word."""
    table = torch.nn.functional.normalize(model.words.table.detach(), dim=1)
    asked, told = (model.words.tokens([text], "query").lists.values.tolist() for text in (query, document))
    return 10 * sum(max(float(table[i] @ table[j]) for j in told) for i in asked) / len(asked)


def test_scores_are_means_of_the_best_matches(model):
    pairs = [("red pot", "a blue pot"), ("lamp", "red"), ("old red lamp", "lamp lamp old chair")]
    scores = model(*zip(*pairs, strict=True)).tolist()
    assert scores == pytest.approx([by_hand(model, *pair) for pair in pairs], abs=1e-5)


def test_words_that_the_document_has_count_most(model):
    scores = model(["red pot"] * 3, ["pot red x", "pot x", "x"]).tolist()
    assert scores[0] == pytest.approx(10) and scores == sorted(scores, reverse=True)


def test_a_text_without_a_word_has_a_score(model):
    assert bool(model(["", "red"], ["red", "…"]).isfinite().all())


def test_pairs_must_be_pairs(model):
    for queries, documents in ((["red"], []), ([], [])):
        with pytest.raises(InputError, match="must be pairs"):
            model(queries, documents)


def test_all_its_state_is_kept(model):
    other = MaxSim(dim=8, buckets=512)
    other.initialise(seed=1)
    with torch.no_grad():
        model.scale.fill_(3)
    other.load_state_dict(model.state_dict())
    assert other(["red"], ["blue"]).equal(model(["red"], ["blue"]))
