import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.losses import LOSSES, sampled_softmax_loss, soft_info_nce_loss
from rankwell.text.bm25 import BM25, words
from rankwell.text.likeness import encoder_likeness, word_likeness
from rankwell.types import Contrast, Ragged

QUERIES = ["sort a list", "sort a table", "open a file"]
DOCUMENTS = ["def sorted_list(x)", "t.sort()", "with openFile(f)", "list of files"]
POSITIVES = Ragged(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2]))


def bm25(query, document, documents, k1=1.5, b=0.75):
    """The formula of the docstring, word by word."""
    own, all_words = words(document), [words(text) for text in documents]
    mean = sum(map(len, all_words)) / len(documents)
    total = 0.0
    for word in words(query):
        has = sum(word in each for each in all_words)
        weight = math.log(1 + (len(documents) - has + 0.5) / (has + 0.5))
        times = own.count(word)
        total += weight * times / (times + k1 * (1 - b + b * len(own) / mean))
    return total


@pytest.mark.parametrize("query", ["sort a list", "list list file", "nothing known here", ""])
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.0)])
def test_scores_are_those_of_the_formula(query, k1, b):
    expected = torch.tensor([bm25(query, text, DOCUMENTS, k1, b) for text in DOCUMENTS])
    torch.testing.assert_close(BM25(DOCUMENTS, k1=k1, b=b).scores(query), expected, atol=1e-6, rtol=1e-5)


def test_names_of_code_fall_into_words():
    assert words("getHTTPHeader2(my_var, größe)") == ["get", "httpheader2", "my", "var", "größe"]


@pytest.mark.parametrize(
    ("documents", "how", "said"),
    [([], {}, "at least one"), (["…", ""], {}, "must have a word"), (["a"], {"b": 2.0}, "b from 0 to 1")],
    ids=["none", "no word", "b"],
)
def test_what_cannot_be_indexed_is_refused(documents, how, said):
    with pytest.raises(InputError, match=said):
        BM25(documents, **how)


def test_between_query_and_document():
    like = word_likeness(QUERIES, DOCUMENTS, POSITIVES, between="query_document")
    got = like.among(torch.tensor([0, 2]), torch.tensor([0, 2]), torch.tensor([3, 1]))
    expected = torch.tensor([[bm25(QUERIES[query], DOCUMENTS[code], DOCUMENTS) for code in (3, 1)] for query in (0, 2)])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_between_queries_a_negative_stands_for_the_query_that_it_answers():
    like = word_likeness(QUERIES, DOCUMENTS, POSITIVES)
    got = like.among(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([[1, 2], [0, 3]]))
    expected = [
        [bm25(QUERIES[0], QUERIES[other], QUERIES) for other in (1, 2)],
        [bm25(QUERIES[1], QUERIES[0], QUERIES), 0],
    ]
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_between_documents_the_positive_asks():
    like = word_likeness(QUERIES, DOCUMENTS, POSITIVES, between="documents")
    got = like.among(torch.tensor([0]), torch.tensor([0]), torch.tensor([3, 2]))
    expected = torch.tensor([[bm25(DOCUMENTS[0], DOCUMENTS[code], DOCUMENTS) for code in (3, 2)]])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("between", ["query_document", "queries", "documents"])
def test_products_of_vectors(between):
    queries, documents = torch.randn(3, 5), torch.randn(4, 5)
    like = encoder_likeness(queries, documents, POSITIVES, between=between)
    asked, right = torch.tensor([2, 0]), torch.tensor([2, 0])
    left = documents[right] if between == "documents" else queries[asked]
    pool = torch.tensor([1, 0])
    told = queries[[1, 0]] if between == "queries" else documents[pool]
    expected = left @ told.T
    torch.testing.assert_close(like.among(asked, right, pool), expected)
    torch.testing.assert_close(like.among(asked, right, pool.expand(2, -1)), expected)


def test_vectors_must_have_one_size():
    with pytest.raises(InputError, match="vectors of one size"):
        encoder_likeness(torch.ones(3, 2), torch.ones(4, 3), POSITIVES)


def seen(ids):
    pos, neg = torch.zeros(2), torch.zeros(2, 2)
    return Contrast(torch.tensor([0, 1]), torch.tensor([0, 1]), ids, None, None, pos, neg, None, None, epoch=0, step=0)


def test_a_step_is_filled_and_the_weights_are_the_losses():
    """Three queries with two like words: the negative of the like query weighs less, the other more."""
    like = word_likeness(QUERIES, DOCUMENTS, POSITIVES)
    step = seen(torch.tensor([[1, 2], [0, 2]]))
    similar = like(step)
    assert LOSSES["soft_info_nce"].inputs["similarities"].required and bool((similar[:, 0] > similar[:, 1]).all())
    value = soft_info_nce_loss(step.pos, step.neg, similarities=similar, alpha=0.5, reduction="none")
    share = similar.softmax(1)
    weights = (1 - 0.5 * share) / (1 - 0.5 / 2)
    torch.testing.assert_close(value, (1 + weights.sum(1)).log())
    plain = soft_info_nce_loss(step.pos, step.neg, similarities=similar, alpha=0.0)
    torch.testing.assert_close(plain, sampled_softmax_loss(step.pos, step.neg))


def test_negatives_that_are_no_documents_have_no_similarity():
    with pytest.raises(InputError, match="Leave the generator out"):
        word_likeness(QUERIES, DOCUMENTS, POSITIVES)(seen(None))
