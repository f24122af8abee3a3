"""Instructions as one cross-attention token: the pooled, projected CLIP text embedding."""

# B batch, L tokens, D projection width

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

CONTEXT = 77  # tokens, as in CLIP
CLIP_MERGES = 48_894  # of the file's 262,144: with 512 bytes and two marks 49,408 words
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_tokenizer(merges: Sequence[tuple[str, ...]] = ()) -> CLIPTokenizer:
    """A CLIP tokenizer over bytes; without merges (a token a byte) it serves small models."""
    letters = sorted(ByteLevel.alphabet())
    pairs = ["".join(merge) for merge in merges]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *pairs, START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges))  # pyright: ignore[reportArgumentType]


def clip_tokenizer(path: str | Path) -> CLIPTokenizer:
    """CLIP's own tokenizer from its merges file, `bpe_simple_vocab_16e6.txt.gz` of open_clip."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)  # version
        merges = [tuple(next(lines).split()) for _ in range(CLIP_MERGES)]
    return byte_tokenizer(merges)


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (B, 77), padded with zeros as in CLIP.

    Zero is also "!": were it the tokenizer's padding token, an instruction could not shout.
    """
    ids = tokenizer(list(texts), max_length=CONTEXT, truncation=True)["input_ids"]
    rows = [row + [0] * (CONTEXT - len(row)) for row in ids]
    return torch.tensor(rows, dtype=torch.int64, device="cpu")


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes the tokenizer's files, the same whether or not it has been used."""
    tokenize(tokenizer, [""])  # the file holds the settings of the last call
    tokenizer.save_pretrained(folder)


def text_tower(
    arguments: Mapping[str, Any], tokenizer: CLIPTokenizer
) -> CLIPTextModelWithProjection:
    """CLIP's text encoder, frozen; `arguments` of transformers' CLIPTextConfig."""
    vocabulary = tokenizer.get_vocab()
    config = CLIPTextConfig(
        **arguments, pad_token_id=0, bos_token_id=vocabulary[START], eos_token_id=vocabulary[END]
    )
    return CLIPTextModelWithProjection(config).requires_grad_(False)


@torch.no_grad()
def encode_text(
    tokenizer: CLIPTokenizer, encoder: CLIPTextModelWithProjection, texts: Sequence[str]
) -> Tensor:
    """Embeddings (B, 1, D) of the instructions: end-token state, projected, not normalised."""
    ids_BL = tokenize(tokenizer, texts).to(encoder.device)
    return encoder(input_ids=ids_BL).text_embeds[:, None]
