"""Parts of speech and lemmas for the words of the notation.

Closed classes are listed here; the open classes follow from the relation, and a verb must be
known (`verbs` in lexicon.yaml, irregular forms below), so that a typo cannot pass unseen.
"""

from __future__ import annotations

from functools import cache

from headprobe.demo.grammar.lexicon import load_lexicon
from headprobe.demo.grammar.wordlists import words
from headprobe.errors import HeadprobeError

BY_RELATION = {
    "det": "DET", "det:predet": "DET", "case": "ADP", "aux": "AUX", "aux:pass": "AUX",
    "cop": "AUX", "mark": "SCONJ", "cc": "CCONJ", "amod": "ADJ", "advmod": "ADV",
    "nummod": "NUM", "punct": "PUNCT", "expl": "PRON", "discourse": "INTJ", "fixed": "ADP",
    "compound:prt": "ADP", "flat": "PROPN", "vocative": "PROPN", "nmod:desc": "PROPN",
}  # fmt: skip
PRONOUNS = words(
    "i me you he him she her it we us they them himself herself itself themselves myself "
    "yourself who whom which my your his its our their whose what somebody mine yours hers theirs "
    "someone everyone nobody nothing something everything everybody anyone ourselves anything"
)
PLURALS = {
    "children": "child", "men": "man", "women": "woman", "people": "person", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "sheep": "sheep", "buses": "bus",
    "customs": "customs", "fish": "fish", "wolves": "wolf",
    "leaves": "leaf", "knives": "knife", "shelves": "shelf", "loaves": "loaf", "lives": "life",
    "shoes": "shoe", "potatoes": "potato", "tomatoes": "tomato", "halves": "half",
    "firemen": "fireman", "heroes": "hero", "cookies": "cookie", "movies": "movie",
    "horses": "horse", "houses": "house", "nurses": "nurse", "roses": "rose", "noises": "noise",
    "prizes": "prize", "voices": "voice", "pies": "pie", "clothes": "clothes", "news": "news",
    "stairs": "stair", "scissors": "scissors", "trousers": "trousers", "glasses": "glass",
    "expenses": "expense", "promises": "promise", "licences": "licence", "purses": "purse",
    "invoices": "invoice", "choices": "choice", "headaches": "headache", "causes": "cause",
    "bases": "base", "uses": "use", "vases": "vase", "geraniums": "geranium",
    "grandchildren": "grandchild", "fishermen": "fisherman", "services": "service",
    "exercises": "exercise", "sentences": "sentence", "slices": "slice", "puzzles": "puzzle",
    "oxen": "ox", "thieves": "thief", "calves": "calf", "axes": "axe", "caches": "cache",
}  # fmt: skip
NUMBERS = words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty"
)
DEMONSTRATIVES = words("this that these those")
CLAUSES = words("root ccomp advcl acl acl:relcl csubj parataxis xcomp conj")
SINGULAR_S = ("ss", "us", "is")
SINGULAR_S_WORDS = words("lens canvas gas atlas always series")
COMPARED = {
    "older": "old", "younger": "young", "bigger": "big", "smaller": "small", "better": "good",
    "best": "good", "worse": "bad", "worst": "bad", "wider": "wide", "longer": "long",
    "largest": "large", "larger": "large", "biggest": "big", "later": "late",
    "easier": "easy", "higher": "high", "heavier": "heavy", "quieter": "quiet",
    "cheaper": "cheap", "shorter": "short", "youngest": "young", "nicer": "nice",
    "warmer": "warm", "stronger": "strong", "slower": "slow", "faster": "fast",
    "closer": "close", "tallest": "tall", "lighter": "light", "narrower": "narrow",
    "earlier": "early", "taller": "tall", "harder": "hard", "fresher": "fresh", "busier": "busy",
    "harshest": "harsh", "fewer": "few", "oldest": "old", "newest": "new", "lowest": "low",
}  # fmt: skip
PRONOUN_LEMMAS = {
    "him": "he",
    "them": "they",
    "me": "I",
    "us": "we",
    "i": "I",
    "whom": "who",
}
AUX_LEMMAS = {
    **dict.fromkeys(words("is are was were be been being am 's 'm 're"), "be"),
    **dict.fromkeys(words("has had have 've"), "have"),
    **dict.fromkeys(words("did do does"), "do"),
    "ca": "can", "wo": "will", "'ll": "will", "'d": "would",
}  # fmt: skip
IRREGULAR = """
be is are was were been being am|have has had having|do does did done doing|go went gone goes
give gave given|take took taken|bring brought|buy bought|send sent|lend lent|teach taught
tell told|say said says|sell sold|write wrote written|read|show shown|make made|find found
leave left|lose lost|see saw seen|hear heard|know knew known|think thought|feel felt|keep kept
sleep slept|run ran|sit sat|stand stood|fall fell fallen|hold held|hide hid hidden|eat ate eaten
drink drank drunk|sing sang sung|swim swam swum|begin began begun|break broke broken
speak spoke spoken|steal stole stolen|wear wore worn|tear tore torn|drive drove driven
ride rode ridden|rise rose risen|throw threw thrown|grow grew grown|fly flew flown
draw drew drawn|build built|spend spent|meet met|lead led|feed fed|win won|pay paid|put|let|cut
hit|shut|set|hurt|cost|catch caught|fight fought|come came|become became|get got
forget forgot forgotten|understand understood|wake woke woken|choose chose chosen
bite bit bitten|lie lay lain lying|dig dug|stick stuck|shine shone|shake shook shaken
sweep swept|bend bent|mean meant|swing swung|forgive forgave forgiven|freeze froze frozen
sting stung|hang hung|light lit|blow blew blown|seek sought|creep crept|tie tying|die dying
deal dealt|overtake overtook overtaken|withdraw withdrew withdrawn|mistake mistook mistaken
weave wove woven|spill spilt|spin spun|wind wound|leap leapt|knit|weep wept|burn burnt|lean
slide slid|dye dyeing|quit|bet|sink sank sunk|split|shoot shot|beat beaten|undo undid undone
rebuild rebuilt|spread|overhear overheard|upset|flee fled|swim
lay laid|sew sewed sewn|oversleep overslept|strike struck|forbid forbade forbidden
"""


@cache
def _irregular() -> dict[str, str]:
    return {
        form: entry.split()[0]
        for entry in IRREGULAR.replace("\n", "|").split("|")
        for form in entry.split()
    }


def upos_of(form: str, rel: str, children: list[str], parent_upos: str | None) -> str:
    """The part of speech that a relation and the word's own dependents call for."""
    low = form.lower()
    if low in ("n't", "not") or (low == "to" and rel == "mark") or low in ("'s", "'"):
        return "AUX" if rel in ("aux", "cop", "aux:pass") else "PART"
    if low in NUMBERS and rel in ("compound", "nummod"):
        return "NUM"
    if rel in BY_RELATION:
        return BY_RELATION[rel]
    if low in PRONOUNS or low in DEMONSTRATIVES:
        return "PRON"
    if form[0].isupper():
        return "PROPN"
    nominal = {"det", "nmod:poss", "case", "amod", "nummod", "compound"} & set(children)
    if "cop" in children:
        return "NOUN" if nominal else "ADJ"
    clausal = {"nsubj", "aux", "mark", "obj", "iobj"} & set(children)
    if rel == "conj" and parent_upos and not clausal:
        return parent_upos
    if rel in CLAUSES:
        return "NOUN" if nominal and "nsubj" not in children else "VERB"
    return "NOUN"


def lemma_of(form: str, upos: str) -> str:
    """The dictionary form. Raises HeadprobeError for a verb nobody entered."""
    low = form.lower()
    if upos == "PRON":
        return PRONOUN_LEMMAS.get(low, low)
    if upos == "AUX":
        return AUX_LEMMAS.get(low, low)
    if upos == "VERB":
        return _verb(low)
    if upos == "NOUN":
        return _noun(low)
    if upos == "ADJ":
        return COMPARED.get(low, low)
    if upos == "PART":
        return "not" if low == "n't" else low
    if upos == "DET":
        return {"an": "a", "these": "this", "those": "that"}.get(low, low)
    return form if upos in ("PROPN", "PUNCT") else low


def _noun(low: str) -> str:
    if low in PLURALS:
        return PLURALS[low]
    if not low.endswith("s") or low.endswith(SINGULAR_S) or low in SINGULAR_S_WORDS:
        return low
    if low.endswith("ies"):
        return low[:-3] + "y"
    return low[:-2] if low.endswith(("ches", "shes", "sses", "xes")) else low[:-1]


def _verb(low: str) -> str:
    if low in _irregular():
        return _irregular()[low]
    known = load_lexicon().verbs
    if low in known:
        return low
    stems = []
    for ending in ("ing", "ed", "es", "s"):
        if low.endswith(ending):
            stem = low[: -len(ending)]
            stems += [stem, stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem]
            stems += [stem[:-1] + "y"] if stem.endswith("i") else []
    for stem in stems:
        if stem in known or stem in _irregular().values():
            return stem
    raise HeadprobeError(low, "no known verb", "Add its base form to verbs in lexicon.yaml")
