"""A transformer of a few thousand numbers in a folder, as sentence-transformers reads it; nothing is downloaded."""

import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_transformer(folder, words, *, hidden=16, layers=1, length=32, seed=0):
    """A BERT without a head, with random weights, whose tokens are these words and marks."""
    words = dict.fromkeys(words)
    made = tokenizers.Tokenizer(
        models.WordLevel({word: place for place, word in enumerate((*MARKS, *words))}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    tokeniser = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": mark for name, mark in zip(names, MARKS, strict=True)},
    )
    shape = transformers.BertConfig(
        vocab_size=len(MARKS) + len(words),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=length,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.BertModel(shape).save_pretrained(folder)
    tokeniser.save_pretrained(folder)
    return str(folder)
