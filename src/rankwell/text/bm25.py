"""BM25: what words alone say of a query and a document, by the library bm25s. Needs ``rankwell[text]``."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import InputError, require

__all__ = ["BM25", "words"]

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case; names of code fall into their parts.

    >>> words("def readFile(is_open): # Opens it.")
    ['def', 'read', 'file', 'is', 'open', 'opens', 'it']
    """
    return _WORD.findall(_HUMP.sub(" ", text).lower())


class BM25:
    r"""An index of documents, and their scores for queries.

    .. math:: s(q, d) = \sum_{t \in q} \ln\left(1 + \frac{n - n_t + 1/2}{n_t + 1/2}\right)
        \frac{f_{td}}{f_{td} + k_1 (1 - b + b\, |d| / \overline{|d|})}

    with :math:`n_t` the documents that hold the word t, :math:`f_{td}` how often, and :math:`|d|` the document's words. A word
    that the query repeats counts each time. No stop words, no stemming. Memory O(words), time of a query that of the documents
    which share its words.

    Args:
        documents: texts; at least one must have a word.
        k1: how soon a word that is repeated in a document stops to count for more.
        b: how much long documents are held down, from 0 to 1.

    Raises:
        InputError: if ``k1`` is below 0, ``b`` is not in [0, 1], or no document has a word.

    >>> BM25(["a red pot", "a blue pot", "a lamp"]).scores("pots, red pot").argsort(descending=True).tolist()
    [0, 1, 2]

    Source: :cite:`robertson2009`, in Lucene's form: the factor :math:`k_1 + 1` is left out and the weight of a word stays above
    0; equation number unchecked.
    """

    def __init__(self, documents: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        if not (k1 >= 0 and 0 <= b <= 1):
            raise InputError(f"k1 must be at least 0 and b from 0 to 1: got k1 {k1} and b {b}.")
        library = require("bm25s", "text")
        tokens = [words(text) for text in documents]
        if not any(tokens):
            raise InputError(f"at least one of the {len(tokens)} documents must have a word: none has.")
        self.num_documents = len(tokens)
        self._index = library.BM25(k1=k1, b=b, method="lucene")
        self._index.index(tokens, show_progress=False)

    def scores(self, query: str) -> Float[Tensor, " n"]:
        """The score of every document."""
        asked = words(query)
        if not asked:
            return torch.zeros(self.num_documents)
        return torch.from_numpy(self._index.get_scores(asked)).float()
