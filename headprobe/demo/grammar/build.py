"""All bundled probe sets from one seed: the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator

from headprobe.demo.grammar.conllu import document, entity_numbers
from headprobe.demo.grammar.natural import natural_file
from headprobe.demo.grammar.pairs import pair_files
from headprobe.demo.grammar.plans import Passage, Writer, all_plans

SEED = 20_261
PASSAGES = {"story": 126, "news": 126, "dialogue": 126}


def write_passages(seed: int = SEED) -> Iterator[Passage]:
    """The generated passages, domain by domain, plans in turn."""
    writer = Writer(seed)
    plans = all_plans()
    for domain, count in PASSAGES.items():
        own = [plan for plan in plans if plan.domain == domain]
        for number in range(count):
            yield writer.write(own[number % len(own)], f"{domain}-{number + 1:04d}")


def all_files(seed: int = SEED) -> dict[str, str]:
    """Path below configs/ to content: every bundled probe and pair file."""
    files = {f"probes/{domain}.conllu": "" for domain in PASSAGES}
    for passage in write_passages(seed):
        numbers = entity_numbers(passage.sentences)
        pronouns = [f"{e} {passage.entities[key][1]}" for key, e in numbers.items()]
        comments = {
            "meta::genre": passage.domain,
            "template": passage.template,
            "pronouns": ", ".join(pronouns),
        }
        etypes = {key: etype for key, (etype, _) in passage.entities.items()}
        text = document(passage.id, comments, passage.sentences, etypes)
        files[f"probes/{passage.domain}.conllu"] += text
    files["probes/natural.conllu"] = natural_file()
    files |= {f"pairs/{name}": text for name, text in pair_files(seed).items()}
    return files
