"""All bundled probe sets from one seed: the same bytes every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from string import ascii_lowercase

from headprobe.demo.grammar.conllu import document, entity_numbers
from headprobe.demo.grammar.natural import natural_file
from headprobe.demo.grammar.pairs import pair_files
from headprobe.demo.grammar.plans import Passage, Plan, Writer, all_plans
from headprobe.demo.grammar.semantic import semantic_files
from headprobe.runs.instances import fold_of

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


def template_names(plans: Sequence[Plan]) -> dict[str, str]:
    """Each plan's name with the letter that spreads the plans evenly over the document folds."""
    names: dict[str, str] = {}
    used: Counter[int] = Counter()
    for plan in plans:
        options = [f"{plan.name}-{letter}" for letter in ascii_lowercase]
        names[plan.name] = min(options, key=lambda name: used[fold_of(name)])
        used[fold_of(names[plan.name])] += 1
    return names


def all_files(seed: int = SEED) -> dict[str, str]:
    """Path below configs/ to content: every bundled probe and pair file."""
    files = {f"probes/{domain}.conllu": "" for domain in PASSAGES}
    templates = template_names(all_plans())
    for passage in write_passages(seed):
        numbers = entity_numbers(passage.sentences)
        pronouns = [f"{e} {passage.entities[key][1]}" for key, e in numbers.items()]
        comments = {
            "meta::genre": passage.domain,
            "template": templates[passage.template],
            "pronouns": ", ".join(pronouns),
        }
        etypes = {key: etype for key, (etype, _) in passage.entities.items()}
        text = document(passage.id, comments, passage.sentences, etypes)
        files[f"probes/{passage.domain}.conllu"] += text
    files["probes/natural.conllu"] = natural_file()
    files |= {f"probes/{name}": text for name, text in semantic_files(seed).items()}
    files |= {f"pairs/{name}": text for name, text in pair_files(seed).items()}
    return files
