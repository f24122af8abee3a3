"""Instructions as one cross-attention token: the pooled, projected CLIP text embedding."""

# B batch, L tokens, D projection width

import gzip
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from vp_agent.errors import AgentFolderError, require
from vp_agent.strict_json import read_strictly

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


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Reads what `save_tokenizer` wrote: words, merges and the padding mark, nothing else.

    transformers makes the rest of a CLIP tokenizer itself, and its own reader trusts the files.

    Raises:
        AgentFolderError: a file is missing or makes no CLIP tokenizer.
    """
    path = folder / "tokenizer.json"
    settings = read_strictly(folder / "tokenizer_config.json")
    try:
        file = read_strictly(path)
        vocabulary, merges = _words(file.get("model"))
        pad = settings.get("pad_token", END)
        pad = pad["content"] if isinstance(pad, dict) else pad
        marks = [each["content"] for each in file.get("added_tokens", [])]
        if not set(marks) <= {START, END, pad} or vocabulary.get(pad) is None:
            raise ValueError(f"its marks are {marks} and padding {pad!r}")
        return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad)  # pyright: ignore[reportArgumentType]
    except AgentFolderError:
        raise
    except Exception as error:  # of the shapes that JSON can have, or of tokenizers' own checks
        raise AgentFolderError(
            f"{path} is no CLIP tokenizer ({error}); get the folder again"
        ) from error


def _words(model: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE, or a `ValueError`."""
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise ValueError("it has no BPE model")
    words = model["vocab"]
    ids = sorted(words.values())
    # Not `ids == [0, 1, ...]`: True equals 1.
    if any(type(x) is not int for x in ids) or ids[:1] != [0]:
        raise ValueError("its words have no numbers from 0 on")
    if any(b - a != 1 for a, b in pairwise(ids)):
        raise ValueError("the numbers of its words have gaps or repeat")
    letters = ByteLevel.alphabet()
    lacking = {START, END, *letters, *(f"{x}</w>" for x in letters)} - words.keys()
    if lacking:
        raise ValueError(f"it lacks {len(lacking)} words, such as {min(lacking)!r}")
    pairs = (x.split(" ") if isinstance(x, str) else x for x in model["merges"])
    merges = [(str(a), str(b)) for a, b in pairs]
    for a, b in merges:
        if not {a, b, a + b} <= words.keys():
            raise ValueError(f"it merges {a!r} and {b!r}, which are no words, or make none")
    return words, merges


def text_tower(
    arguments: Mapping[str, Any], tokenizer: CLIPTokenizer
) -> CLIPTextModelWithProjection:
    """CLIP's text encoder, frozen; `arguments` of transformers' CLIPTextConfig."""
    vocabulary = tokenizer.get_vocab()
    size = arguments.get("vocab_size", len(vocabulary))
    require(
        len(vocabulary) <= size,
        f"text_encoder.vocab_size is {size}, but the tokenizer has {len(vocabulary)} words",
    )
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
