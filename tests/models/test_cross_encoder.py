import pytest
import torch

from rankwell.errors import ConfigError, InputError
from rankwell.models import CrossEncoder
from rankwell.training.paired_texts import PairedTexts, score_pairs

WORDS = ("cat", "dog", "purrs", "barks", "what")
QUERIES = ["what purrs", "what barks", "cat"]
DOCUMENTS = ["cat", "dog", "cat dog cat", "barks barks"]


@pytest.fixture(scope="module")
def folder(write_transformer, tmp_path_factory):
    return write_transformer(tmp_path_factory.mktemp("tiny"), WORDS)


@pytest.fixture
def model(folder):
    made = CrossEncoder(encoder=folder, max_length=12)
    made.initialise(seed=3)
    return made.eval()


def test_a_score_is_the_heads_of_the_transformers_first_place(model):
    transformer = model.encoder.model
    tokens = model.encoder.tokenizer(QUERIES[:2], DOCUMENTS[:2], return_tensors="pt", padding=True)
    with torch.no_grad():
        first = transformer.bert(**tokens).pooler_output
        expected = first @ transformer.classifier.weight[0] + transformer.classifier.bias[0]
        torch.testing.assert_close(model(QUERIES[:2], DOCUMENTS[:2]), expected)


def test_both_texts_and_their_order_count(model):
    with torch.no_grad():
        there, back, other = model(["cat", "dog", "cat"], ["dog", "cat", "barks"]).tolist()
    assert len({there, back, other}) == 3


def test_padding_changes_nothing(model):
    with torch.no_grad():
        alone = torch.cat([model([query], [document]) for query, document in zip(QUERIES, DOCUMENTS, strict=False)])
        torch.testing.assert_close(model(QUERIES, DOCUMENTS[:3]), alone, atol=1e-6, rtol=1e-5)


def test_long_pairs_are_cut_at_max_length(model):
    with torch.no_grad():
        long, longer = (model(["cat"], ["dog " * times]) for times in (20, 30))
    assert long.item() == longer.item() and model.encoder.preprocess([("cat", "dog " * 40)])["input_ids"].shape[1] == 12


def test_a_new_head_is_drawn_by_the_seed_and_the_rest_is_what_came(folder):
    model = CrossEncoder(encoder=folder, max_length=12)
    heads, bodies = [], []
    for seed in (0, 1, 0):
        model.initialise(seed=seed)
        heads.append(model.encoder.model.classifier.weight.clone())
        bodies.append(model.encoder.model.bert.embeddings.word_embeddings.weight.clone())
    assert heads[0].equal(heads[2]) and not heads[0].equal(heads[1]) and bodies[0].equal(bodies[1])


def test_weights_restore_it(model, folder):
    other = CrossEncoder(encoder=folder, max_length=12).eval()
    with torch.no_grad():
        before = other(QUERIES, DOCUMENTS[:3])
        other.load_state_dict(model.state_dict())
        assert not before.equal(model(QUERIES, DOCUMENTS[:3]))
        assert other(QUERIES, DOCUMENTS[:3]).equal(model(QUERIES, DOCUMENTS[:3]))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"encoder": "no/such/folder"}, "must be a folder or in the hub's cache"),
        ({"max_length": 4}, "max_length must be at least 5"),
        ({"max_length": 2}, "max_length must be at least 3"),
        ({"max_length": 64}, "at most the model's 32"),
    ],
)
def test_what_cannot_be_is_refused(folder, own, said):
    with pytest.raises(ConfigError, match=said):
        CrossEncoder(**{"encoder": folder, "max_length": 12, **own})


def test_pairs_must_be_pairs(model):
    for queries, documents in ((["cat"], []), ([], [])):
        with pytest.raises(InputError, match="must be pairs"):
            model(queries, documents)


def test_scores_of_many_come_in_their_order(model):
    queries, documents = [*QUERIES, "what"], DOCUMENTS
    with torch.no_grad():
        expected = model(queries, documents)
    torch.testing.assert_close(score_pairs(model, queries, documents, block=2), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pool", [torch.tensor([1, 3]), torch.tensor([[1, 3], [2, 2], [0, 3]])], ids=["pool", "rows"])
def test_contrast_scores_are_those_of_pairs(model, pool):
    paired = PairedTexts(model, QUERIES, DOCUMENTS)
    queries, positives = torch.tensor([0, 1, 2]), torch.tensor([0, 3, 1])
    with torch.no_grad():
        pos, neg = paired.contrast_scores(queries, positives, pool)
        rows = pool.expand(3, -1)
        for row, query in enumerate(QUERIES):
            texts = [DOCUMENTS[code] for code in [positives[row].item(), *rows[row].tolist()]]
            expected = model([query] * 3, texts)
            torch.testing.assert_close(torch.cat([pos[row, None], neg[row]]), expected, atol=1e-6, rtol=1e-5)


def gradient(model, micro_batch, seed):
    """Of a loss in which all scores depend on each other, with dropout."""
    model.train()
    paired = PairedTexts(model, QUERIES, DOCUMENTS, micro_batch=micro_batch)
    drawn = torch.Generator().manual_seed(seed)
    codes = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    model.zero_grad()
    (50 * paired.pair_scores(*codes.T, generator=drawn)).softmax(0).square().sum().backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def test_cached_gradients_are_the_plain_ones(folder):
    model = CrossEncoder(encoder=folder, max_length=12, dropout="none")
    plain = gradient(model, 0, 1)
    torch.testing.assert_close(gradient(model, 5, 1), plain, atol=1e-6, rtol=1e-4)
    assert plain.abs().max() > 0.001


def test_dropout_is_keyed_by_the_step(folder):
    model = CrossEncoder(encoder=folder, max_length=12)
    first, again, other = (gradient(model, 5, seed) for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


def test_a_negative_micro_batch_is_refused(model):
    with pytest.raises(ConfigError, match="micro_batch must be at least 0"):
        PairedTexts(model, QUERIES, DOCUMENTS, micro_batch=-1)
