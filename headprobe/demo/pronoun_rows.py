"""Two self-supervised objectives for pronoun rows, beside the next token.

Predicting only the next word asks little of a pronoun's row: after "he", a verb will do.
*Look ahead*: predict the names and content words of the next 64 tokens, which takes knowing who
"he" is. *Recall*: tell the last earlier word of the same person but another form ("his" for "he",
"me" for "I") and the token before it, which takes finding that word. Neither uses annotation,
only the closed list of pronouns below; both matrices are thrown away after training.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

PERSONS = (
    ("i", "me", "my", "mine", "myself"),
    ("you", "your", "yours", "yourself", "yourselves"),
    ("he", "him", "his", "himself"),
    ("she", "her", "hers", "herself"),
    ("it", "its", "itself"),
    ("we", "us", "our", "ours", "ourselves"),
    ("they", "them", "their", "theirs", "themselves"),
)
RELATIVES = ("who", "whom", "whose")
WINDOW = 64
COMMON = 200
NAME_WEIGHT = 3.0


class PronounRows(nn.Module):
    """Losses of looking ahead and of recalling, over the pronouns of a batch."""

    person: Tensor
    form: Tensor
    weight: Tensor

    def __init__(self, tokenizer: Tokenizer, counts: Tensor, width: int) -> None:
        """counts: [V] how often each piece occurs in the training text."""
        super().__init__()
        person_of = {word: number for number, words in enumerate(PERSONS) for word in words}
        person_of |= dict.fromkeys(RELATIVES, len(PERSONS))
        form_of = {word: number for number, word in enumerate(person_of)}
        vocabulary = tokenizer.get_vocab()
        common = set(counts.argsort(descending=True)[:COMMON].tolist())
        person, form = (torch.full((len(counts),), -1) for _ in range(2))
        weight = torch.zeros(len(counts))
        for piece, number in vocabulary.items():
            word = piece.lstrip("Ġ")
            person[number] = person_of.get(word.lower(), -1)
            form[number] = form_of.get(word.lower(), -1)
            if person[number] >= 0 or len(word) < 3 or word == piece or not word.isalpha():
                continue
            lower = vocabulary.get("Ġ" + word.lower())
            if word[0].isupper() and (lower is None or counts[lower] < counts[number]):
                weight[number] = NAME_WEIGHT
            elif number not in common:
                weight[number] = 1.0
        self.register_buffer("person", person, persistent=False)
        self.register_buffer("form", form, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.ahead = nn.Linear(width, width, bias=False)
        self.recall = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, tokens: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of looking ahead and of recalling, in nats.

        hidden [B, T, C], tokens [B, T] (negative is padding), embedding [V, C].
        """
        known = tokens.clamp(min=0)
        person = self.person[known]
        rows, at = torch.where(person >= 0)
        chosen = hidden[rows, at]
        ahead = self._look_ahead(chosen, known, rows, at, embedding)
        return ahead, self._recall(chosen, known, person, rows, at, embedding)

    def _look_ahead(
        self, chosen: Tensor, known: Tensor, rows: Tensor, at: Tensor, embedding: Tensor
    ) -> Tensor:
        padded = functional.pad(known, (0, WINDOW + 2))
        steps = torch.arange(2, WINDOW + 2, device=at.device)
        targets = padded[rows[:, None], at[:, None] + steps]
        weight = self.weight[targets]
        scores = functional.linear(self.ahead(chosen), embedding).float().log_softmax(-1)
        losses = -(scores.gather(1, targets) * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return losses.sum() / max(1, len(rows))

    def _recall(
        self,
        chosen: Tensor,
        known: Tensor,
        person: Tensor,
        rows: Tensor,
        at: Tensor,
        embedding: Tensor,
    ) -> Tensor:
        form = self.form[known]
        places = torch.arange(known.shape[1], device=at.device)
        same_person = person[rows] == person[rows, at][:, None]
        other_form = form[rows] != form[rows, at][:, None]
        earlier = same_person & other_form & (places < at[:, None])
        last = torch.where(earlier, places, 0).amax(1)
        found = last > 1
        count = int(found.sum())
        if count == 0:
            return chosen.sum() * 0.0
        scores = functional.linear(self.recall(chosen[found]), embedding).float()
        row, place = rows[found], last[found]
        word = functional.cross_entropy(scores, known[row, place])
        before = functional.cross_entropy(scores, known[row, place - 1])
        return 0.5 * (word + before)
