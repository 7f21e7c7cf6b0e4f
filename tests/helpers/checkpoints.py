"""Checkpoints on disk for tests: tiny random models with a tokenizer trained on the spot."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.helpers.tiny import VOCABULARY, tiny_model

SHARED = Path(__file__).resolve().parents[3] / "shared"

TEXT = """
The old dog saw a cat. It ran after the cat, but the cat was too quick for it. "Come back!" cried
the girl, and she called her dog again. Because the dog was tired, it lay down under the big tree.
Tom gave Anna a red ball (the one that he liked), and she thanked him. Did they play? They did!
"""


def toy_tokenizer(*, adds_start: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose longer words split into pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if adds_start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def save_checkpoint(
    folder: Path, model: PreTrainedModel | str = "llama-gqa", *, adds_start: bool = True
) -> Path:
    """A folder that ``from_pretrained`` loads; ``model`` may name an architecture of ``tiny``."""
    built = tiny_model(model) if isinstance(model, str) else model
    built.save_pretrained(folder)
    toy_tokenizer(adds_start=adds_start).save_pretrained(folder)
    return folder
