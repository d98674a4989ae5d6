"""Hard negatives for retrieval: of embeddings (:func:`mine`), and of texts (``rankwell mine``)."""

from rankwell.mining.negatives import Mined, Rescore, mine, mine_blocks
from rankwell.mining.settings import MiningSettings
from rankwell.mining.vectors import Vectors

__all__ = ["Mined", "MiningSettings", "Rescore", "Vectors", "mine", "mine_blocks"]
