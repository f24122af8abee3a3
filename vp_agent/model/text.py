"""Instructions as one cross-attention token: the pooled, projected CLIP text embedding."""

# B batch, L tokens, D projection width

from collections.abc import Sequence

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

CONTEXT = 77  # tokens, as in CLIP
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer without merges (a token a byte), for small models without a download."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token=letters[0])


@torch.no_grad()
def encode_text(
    tokenizer: CLIPTokenizer, encoder: CLIPTextModelWithProjection, texts: Sequence[str]
) -> Tensor:
    """Embeddings (B, 1, D) of the instructions: end-token state, projected, not normalised."""
    tokens = tokenizer(
        list(texts), padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    ids_BL = tokens["input_ids"].to(encoder.device)
    return encoder(input_ids=ids_BL).text_embeds[:, None]
