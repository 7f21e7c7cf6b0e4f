"""The example of a relation of one's own, as the documentation shows it."""

from collections import Counter

from headprobe.probes.conllu import read_conllu
from headprobe.probes.file import ProbeFile
from headprobe.probes.yaml import read_probe_set
from headprobe.resources import DOCS, configs_folder
from headprobe.roles.rules import load_rules
from headprobe.vocabulary import Relation

EXAMPLES = configs_folder() / "examples"
PAGE = DOCS / "probes.md"
NEGATION = Relation("user", "negation", "cue", "sentence")


def test_the_bundled_example_is_enough_to_earn_its_role(notes):
    path = EXAMPLES / "negation.yaml"
    links = [
        link
        for document in read_probe_set(ProbeFile(path, path.name), notes.append)
        for link in document.declared
    ]
    assert {link.relation for link in links} == {NEGATION}
    distances = Counter(link.query - link.targets[-1] for link in links)
    rules = load_rules(EXAMPLES / "negation-rules.yaml")
    assert len(links) >= rules.min_n
    assert max(distances.values()) / len(links) < 0.55
    assert rules.roles["negation"].family == "user"


def test_the_documentation_shows_the_same_link_in_conllu(write, notes):
    text = PAGE.read_text("utf-8")
    start = text.index("# global.Link")
    (document,) = read_conllu(write(text[start : text.index("```", start)]), notes.append)
    (link,) = document.declared
    words = [word.form for word in document.sentences[0].words]
    assert link.relation == NEGATION
    assert (words[link.query], [words[target] for target in link.targets]) == ("see", ["not"])
