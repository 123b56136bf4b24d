"""Padding that reaches the outputs although a mask is given."""

import torch
from doctor.ailments.fault import Fault, under
from doctor.ailments.made import classes
from torch import nn

from modelspace.data import Data, Split


class Masked(nn.Module):
    """Attention over positions, then their mean; ``mask`` is true where a position counts."""

    heeds = pools = True

    def __init__(self):
        super().__init__()
        # No two linear maps in a row, and no bias of the keys, which a softmax takes away: healthy in all else.
        self.embed = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.query, self.key, self.value = (nn.Linear(8, 8, bias=bias) for bias in (True, False, True))
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x, mask=None):
        x = self.embed(x)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
        if mask is not None and self.heeds:
            scores = scores.masked_fill(~mask[:, None, :], float("-inf"))
        x = x + scores.softmax(-1) @ self.value(x)
        if mask is not None and self.pools:
            return self.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return self.head(x.mean(1))


class Deaf(Masked):
    """The argument is there, and nobody reads it."""

    heeds = pools = False


class Averaged(Masked):
    """The attention leaves padding out, the mean does not."""

    pools = False


class Tagger(nn.Module):
    """``key_padding_mask`` is true where a position is padding, as PyTorch's attention has it."""

    passes_on = True

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, ids, key_padding_mask=None):
        x = self.embedding(ids)
        mask = key_padding_mask if self.passes_on else None
        x = x + self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]
        return self.head(x).transpose(1, 2)


class DeafTagger(Tagger):
    passes_on = False


class Reader(nn.Module):
    """Takes a tokenizer's words; ``attention_mask`` is 1 where a token counts."""

    heeds = True

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask=None):
        hidden = (attention_mask == 0) if self.heeds and attention_mask is not None else None
        return self.head(self.layer(self.embedding(input_ids), src_key_padding_mask=hidden)[:, 0])


class DeafReader(Reader):
    heeds = False


def words():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(20, (24, 6), generator=generator)
    mask = (torch.arange(6) < torch.randint(2, 7, (24, 1), generator=generator)).long()
    labels = classes(3)(24, generator)
    cuts = (slice(0, 16), slice(16, 20), slice(20, None))
    splits = (Split({"input_ids": ids[c], "attention_mask": mask[c]}, labels[c]) for c in cuts)
    return Data("words", *splits)


FAULTS = under(
    "ignored-mask",
    # The score of a sentence changes with the batch that it is padded for.
    Fault("mask that nobody reads", Deaf, Masked, (7, 4)),
    # Masked in the attention, and padding counts in the mean.
    Fault("mean over padding", Averaged, Masked, (7, 4)),
    Fault("key_padding_mask not passed on", DeafTagger, Tagger, (7,), tokens=20),
)
