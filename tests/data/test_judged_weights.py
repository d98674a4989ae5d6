"""Weights of judged documents: where they come from, and that they go with their documents."""

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data.batching import ListBatches
from rankwell.data.judged import JudgedLists, joined
from rankwell.data.judged_files import read_judged
from rankwell.errors import ConfigError, DataError
from rankwell.losses import softmax_loss
from rankwell.models import MODELS, BestFeature, MLPRanker
from rankwell.tasks import task_of
from rankwell.tasks.list_data import JudgedData, read
from rankwell.training import ListObjective

CSV = "query,label,weight,a,b\nx,1,2,0,1\nx,0,1,1,0\ny,1,0.5,1,1\n"


def lists(weights=(2.0, 1.0, 0.5)):
    given = None if weights is None else np.array(weights, dtype=np.float32)
    features = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.float32)
    labels = np.array([1, 0, 1], dtype=np.float32)
    return JudgedLists(features, labels, np.array([0, 2, 3]), pl.Series(["x", "y"]), ("a", "b"), given)


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_column_of_a_table(file):
    made = read_judged([file("a.csv", CSV)], weight="weight")
    assert made.weights.tolist() == [2, 1, 0.5] and made.names == ("a", "b")
    assert read_judged([file("a.csv", CSV)], ignore=["weight"]).weights is None
    assert read_judged([file("b.csv", CSV)], weight="gone", ignore=["weight"]).weights is None


def test_the_file_beside_svmlight(file):
    path = file("a.txt", "1 qid:1 0:1\n0 qid:1 0:2\n1 qid:2 0:3\n")
    assert read_judged([path]).weights is None
    file("a.txt.weight", "2\n1\n0.5\n")
    assert read_judged([path]).weights.tolist() == [2, 1, 0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2\n1\n", r"a weight for each of the 3 documents .* got 2"),
        ("2\nx\n1\n", r"a\.txt\.weight, line 2: a weight must be a finite number, at least 0: got 'x'"),
        ("2\n1\n-1\n", r"line 3: a weight must be a finite number"),
        ("2\ninf\n1\n", r"line 2: a weight must be a finite number"),
    ],
    ids=["few", "text", "negative", "infinite"],
)
def test_faults_of_the_file(file, text, said):
    path = file("a.txt", "1 qid:1 0:1\n0 qid:1 0:2\n1 qid:2 0:3\n")
    file("a.txt.weight", text)
    with pytest.raises(DataError, match=said):
        read_judged([path])


def test_faults_of_a_column(file):
    with pytest.raises(DataError, match=r"a\.csv, line 3: weights must be at least 0: got -1"):
        read_judged([file("a.csv", CSV.replace("x,0,1", "x,0,-1"))], weight="weight")
    with pytest.raises(ConfigError, match="there is no 'gone'"):
        read(JudgedData(path=str(file("a.csv", CSV)), weight="gone", ignore="weight", valid_fraction=0), 0)
    with pytest.raises(DataError, match="weights must be one a document, 3"):
        lists((1.0, 2.0))
    with pytest.raises(DataError, match="weights must be at least 0: document 2 has -1"):
        lists((1.0, -1.0, 1.0))


def test_columns_called_by_numbers_go_by_number(file):
    table = read_judged([file("a.csv", CSV.replace("a,b", "0,1"))], weight="weight")
    text = read_judged([file("b.txt", "1 qid:7 1:4\n")])
    assert table.names == () and joined([table, text], ["a", "b"]).features[-1].tolist() == [0, 4]
    assert read_judged([file("a.csv", CSV.replace("a,b", "1,0"))], weight="weight").names == ("1", "0")


def test_weights_go_with_their_documents():
    made = lists()
    assert made.take(np.array([1, 0])).weights.tolist() == [0.5, 2, 1]
    assert joined([made, lists(None)], ["a", "b"]).weights.tolist() == [2, 1, 0.5, 1, 1, 1]
    assert joined([lists(None), lists(None)], ["a", "b"]).weights is None
    assert lists().fingerprint() != lists(None).fingerprint() != lists((1.0, 1.0, 1.0)).fingerprint()
    for batch in ListBatches(*made.tensors(), 1, seed=0, weights=made.weight_tensor()).of_epoch(0):
        assert batch.weights.tolist() == ([2, 1] if len(batch.labels) == 2 else [0.5])


def test_they_reach_the_loss():
    made = lists()
    model = MLPRanker(2, widths=())
    model.initialise(*made.tensors(), seed=0)
    (batch,) = ListBatches(*made.tensors(), 2, seed=0, weights=made.weight_tensor()).of_epoch(0)
    (play,) = ListObjective(model, softmax_loss, 0).plays(batch, epoch=0, step=0)
    of = softmax_loss(model(batch.features, batch.offsets), batch.labels, weights=batch.weights, offsets=batch.offsets)
    assert play.value.equal(of) and not play.value.equal(
        softmax_loss(model(batch.features, batch.offsets), batch.labels, offsets=batch.offsets)
    )


def test_what_is_fitted_at_once_takes_them():
    """By weights alone the second feature ranks better: NDCG weighs gains."""
    features = np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32)
    labels = np.array([1, 1, 0], dtype=np.float32)
    for weights, best in (((5.0, 1.0, 1.0), 0), ((1.0, 5.0, 1.0), 1)):
        made = JudgedLists(
            features, labels, np.array([0, 3]), pl.Series(["q"]), (), np.array(weights, dtype=np.float32)
        )
        model = BestFeature(2)
        task_of("ltr").initialise(model, made, seed=0)
        assert int(model.place) == best
    pytest.importorskip("lightgbm")
    features, labels = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), torch.arange(200.0) % 2
    offsets = torch.arange(0, 201, 10)
    texts = []
    for weights in (None, torch.ones(200), 1 + torch.arange(200.0)):
        trees = MODELS["lambdamart"].function(3, trees=2, min_documents=5)
        trees.initialise(features, labels, offsets, seed=0, weights=weights)
        texts.append(trees(features, offsets))
    assert torch.allclose(texts[0], texts[1]) and not torch.allclose(texts[0], texts[2])


def test_measures_say_that_they_do_not_use_them(file):
    rows = "".join(f"q{n // 2},{n % 2},1,{n},0\n" for n in range(20))
    data = read(JudgedData(path=str(file("a.csv", "query,label,weight,a,b\n" + rows)), weight="weight"), 0)
    assert "measures do not use the weights of test documents" in data.notes
    assert data.fit.weights is not None
