"""Texts for negatives: what writes them, what turns them into vectors, and the table of these. Needs ``rankwell[text]``."""

from rankwell.text.descriptions import DescribeSettings, describe
from rankwell.text.encoder import SentenceEncoder, TextEncoder, load_encoder
from rankwell.text.finetuning import FinetuneSettings, finetune
from rankwell.text.items import Items, read_attributes
from rankwell.text.offline import OfflineWriter
from rankwell.text.prompts import Template, load_template
from rankwell.text.service import Budget, Patience, ServiceWriter
from rankwell.text.table import Table
from rankwell.text.writer import Prompt, TextGenerator

__all__ = [
    "Budget",
    "DescribeSettings",
    "FinetuneSettings",
    "Items",
    "OfflineWriter",
    "Patience",
    "Prompt",
    "SentenceEncoder",
    "ServiceWriter",
    "Table",
    "Template",
    "TextEncoder",
    "TextGenerator",
    "describe",
    "finetune",
    "load_encoder",
    "load_template",
    "read_attributes",
]
