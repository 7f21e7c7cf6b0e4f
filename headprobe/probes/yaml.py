"""Reader of probe sets in YAML, in which a person writes sentences and links their words.

    - text: The animal didn't cross the street because it was too tired.
      relation: pronoun
      link: it -> animal

Each item is a document. In place of ``text``, an item of several sentences has a list
``sentences``. In place of ``link``, an item of several links has ``links``: a list, or a mapping
from relation to a link or a list of links.

A link ``it#2 -> animal, street`` goes from a word to one or more earlier words, separated by
commas. ``it#2`` is the second *it* of the item. Punctuation marks are written in double quotes.

An item may also have a ``domain`` and a ``document``. Items that name the same ``document``, for
example all those generated from one template, belong to the same fold.

The words of a semantic relation (``synonym``, ``antonym``, ``hypernym``) need a part of speech,
and so do the words that compete with them: ``upos: {NOUN: sofa couch doctor}``, for the item or for
all items. ``twin: sofa -> kettle``, or a list of such replacements, gives the unrelated word at the
place of a target in the item's twin (docs/method.md, Baselines).

A set may also be a mapping with the list under ``items``. The mapping may have a ``name`` and an
``about``, and defaults for all items: ``domain``, ``family``, ``looks_to``, ``scope`` and
``relation``, and ``upos``.

The file is parsed from the events of PyYAML with an explicit stack, into text, lists and mappings
that know their lines. No other objects are constructed from a file, and deep nesting cannot exhaust
the interpreter's stack (PyYAML's fast composer crashes on it).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from types import MappingProxyType

import yaml
from yaml.reader import Reader

from headprobe.format import suggest_names
from headprobe.probes.declared import Text, declared_relation
from headprobe.probes.document import DeclaredLink, Document, Sentence
from headprobe.probes.file import (
    AdvanceCallback,
    ProbeFile,
    SkipCallback,
    no_progress,
)
from headprobe.probes.text import plain_sentence
from headprobe.vocabulary import UPOS

_MAX_DEPTH = 20

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class List:
    """A YAML sequence."""

    line: int
    items: "list[Node]" = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """A YAML mapping whose keys are text."""

    line: int
    items: "dict[str, Node]" = field(default_factory=dict)

    lines: dict[str, int] = field(default_factory=dict)
    """The line of each key."""

    key: Text | None = None
    """While the file is read: the key whose value comes next."""


Node = Text | List | Mapping


def read_yaml(file: ProbeFile, advance: AdvanceCallback = no_progress) -> Node | None:
    """Return the content of a YAML file, None if it is empty; lines count from 1.

    Raises HeadprobeError with file:line where the file is not valid YAML, repeats a key, nests
    deeper than 20 levels, or uses aliases.
    """
    text = "\n".join(file.lines(advance))
    open_nodes: list[List | Mapping] = []
    root: Node | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            mark = event.start_mark
            line = mark.line + 1 if mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise file.error(line, "a YAML alias", "Write the value out")
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise file.error(line, "a second YAML document", "Write one document per file")
            if isinstance(event, yaml.CollectionEndEvent):
                open_nodes.pop()
            elif isinstance(event, yaml.NodeEvent):
                node = _node(event, line)
                if open_nodes:
                    _put(file, open_nodes[-1], node)
                else:
                    root = node
                if not isinstance(node, Text):
                    open_nodes.append(node)
                if len(open_nodes) > _MAX_DEPTH:
                    raise file.error(
                        line, "nested too deeply", f"Nest at most {_MAX_DEPTH} levels deep"
                    )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise file.error(
            mark.line + 1 if mark else 1,
            f"not valid YAML ({error.problem or error.context})",
            "Check the indentation, and put texts with ': ' or ' #' in quotes",
        ) from None
    except yaml.YAMLError:
        match = Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, match.start()) + 1 if match else 1
        raise file.error(line, "a character that YAML forbids", "Remove it") from None
    return root


def _node(event: yaml.NodeEvent, line: int) -> Node:
    if isinstance(event, yaml.ScalarEvent):
        return Text(str(event.value), line)
    return List(line) if isinstance(event, yaml.SequenceStartEvent) else Mapping(line)


def _put(file: ProbeFile, parent: List | Mapping, node: Node) -> None:
    """Add a node to its parent; in a mapping, keys and values alternate."""
    if isinstance(parent, List):
        parent.items.append(node)
    elif parent.key is not None:
        parent.items[parent.key.text] = node
        parent.key = None
    elif not isinstance(node, Text):
        raise file.error(node.line, "a key that is not text", "Write 'key: value'")
    elif node.text in parent.items:
        raise file.error(node.line, f"the key {node.text!r} is repeated", "Keep one of them")
    else:
        parent.key = node
        parent.lines[node.text] = node.line


_ARROW = re.compile(r"\s->\s")

_BETWEEN_COMMAS = re.compile(r'(?:"[^"]*"|[^,"])+')

_WORD = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>.+?))(?:#(?P<number>[1-9]\d{0,5}))?')


def split_link(file: ProbeFile, link: Text) -> list[str]:
    """Return the words of a link as written: the query, then the targets.

    Raises HeadprobeError where the text is not a link.
    """
    sides = _ARROW.split(link.text)
    words = [part.strip() for part in _BETWEEN_COMMAS.findall(sides[-1])]
    if len(sides) != 2 or not sides[0].strip() or not words or not all(words):
        raise file.error(
            link.line,
            f"{link.text[:60]!r} is not a link",
            "Write 'later word -> earlier word', with commas between several earlier words",
        )
    return [sides[0].strip(), *words]


def find_words(file: ProbeFile, words: Sequence[str], forms: Sequence[str], line: int) -> list[int]:
    """Return the index of each word among the forms of a text.

    ``word`` means the first occurrence of the form, ``word#2`` the second. Raises HeadprobeError
    where the text has no such word.
    """
    return [_find_word(file, word, forms, line) for word in words]


def _find_word(file: ProbeFile, word: str, forms: Sequence[str], line: int) -> int:
    match = _WORD.fullmatch(word)
    form = (match["quoted"] or match["plain"]) if match else word
    number = int(match["number"] or 1) if match else 1
    indices = [index for index, other in enumerate(forms) if other == form]
    if not indices:
        raise file.error(
            line, f"the word {form[:40]!r} is not in the text", suggest_names(form, forms)
        )
    if number > len(indices):
        raise file.error(
            line,
            f"there is no {word[:40]!r}",
            f"The text has {len(indices)} of {form!r}, counted from 1",
        )
    return indices[number - 1]


def _forward_link_remedy(forms: Sequence[str], query: int, target: int) -> str:
    """Suggest the query word's next occurrence after the target, if there is one."""
    form = forms[query]
    if form in forms[target + 1 :]:
        number = forms[: target + 1].count(form) + 1
        return f"Write {form}#{number} if you mean the occurrence after {forms[target]!r}"
    return "A decoder sees only earlier words; link the later word to the earlier one"


_SHARED_KEYS = ("domain", "family", "looks_to", "scope", "relation")

_UPOS_KEY = "upos"

_HEADER_KEYS = ("name", "about", "items", _UPOS_KEY, *_SHARED_KEYS)

_ITEM_KEYS = ("text", "sentences", "link", "links", "twin", "document", _UPOS_KEY, *_SHARED_KEYS)


def read_probe_set(
    file: ProbeFile, note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
    """Yield the items of a probe set, each as a document with its declared links.

    Raises HeadprobeError with file:line where the set is malformed, a word is not in its text, or a
    link looks forward.
    """
    del note  # An item is either valid or an error: nothing is skipped.
    root = read_yaml(file, advance)
    header: dict[str, Node] = {}
    if isinstance(root, Mapping):
        if root.items.keys() & {"text", "sentences"}:
            raise file.error(root.line, "a probe outside a list", "Begin it with '- text: '")
        _check_keys(file, root, _HEADER_KEYS)
        header = dict(root.items)
        root = header.pop("items", None)
        if root is None:
            raise file.error(
                1, "a mapping without 'items'", "Put the probes in a list under 'items'"
            )
    if not isinstance(root, List):
        raise file.error(
            root.line if root else 1, "not a list of probes", "Begin each probe with '- text: '"
        )
    upos = _parts_of_speech(file, header.pop(_UPOS_KEY, None))
    defaults = _texts(file, header)
    name = defaults["name"].text if "name" in defaults else PurePath(file.name).stem
    for number, node in enumerate(root.items, start=1):
        if not isinstance(node, Mapping):
            raise file.error(node.line, "not a probe", "Begin each probe with '- text: '")
        _check_keys(file, node, _ITEM_KEYS)
        own_upos = _parts_of_speech(file, node.items.get(_UPOS_KEY))
        yield _Item(file, node, defaults, {**upos, **own_upos}).document(f"{name}-{number}")


def _check_keys(file: ProbeFile, node: Mapping, known: Sequence[str]) -> None:
    for key, line in node.lines.items():
        if key not in known:
            raise file.error(line, f"the key {key[:40]!r} is unknown", suggest_names(key, known))


def _parts_of_speech(file: ProbeFile, node: Node | None) -> dict[str, str]:
    """Return the part of speech of each lower-cased form that ``upos`` names."""
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        raise file.error(
            node.line, "'upos' is not a mapping", "Write a line 'NOUN: sofa couch' below it"
        )
    forms: dict[str, str] = {}
    for upos, value in node.items.items():
        line = node.lines[upos]
        if upos not in UPOS[1:]:
            raise file.error(
                line, f"{upos[:40]!r} is not a part of speech", suggest_names(upos, UPOS[1:])
            )
        texts = value.items if isinstance(value, List) else [value]
        for text in texts:
            forms |= dict.fromkeys(_text(file, upos, text).text.lower().split(), upos)
    return forms


def _texts(file: ProbeFile, nodes: dict[str, Node]) -> dict[str, Text]:
    return {key: _text(file, key, node) for key, node in nodes.items()}


def _text(file: ProbeFile, key: str, node: Node) -> Text:
    if not isinstance(node, Text) or not node.text.strip():
        raise file.error(node.line, f"{key!r} is not text", f"Write '{key}: ...' on one line")
    return node


@dataclass(frozen=True)
class _Item:
    """An item of a probe set; ``defaults`` are the settings of the whole set, ``upos`` the part of
    speech of lower-cased forms."""

    file: ProbeFile
    node: Mapping
    defaults: dict[str, Text]
    upos: dict[str, str]

    def document(self, name: str) -> Document:
        """Return the item as a document with the id ``name``."""
        sentences = self._sentences()
        domain = self._setting("domain")
        cluster = self._setting("document")
        declared = tuple(self._declared(sentences))
        return Document(
            id=name,
            domain=domain.text if domain else PurePath(self.file.name).stem,
            sentences=sentences,
            source=self.file.at(self.node.line),
            declared=declared,
            cluster=cluster.text if cluster else name,
            twins=dict(self._twins(sentences, declared)),
        )

    def _setting(self, key: str) -> Text | None:
        """Return the item's own setting, or else the default."""
        if key in self.node.items:
            return _text(self.file, key, self.node.items[key])
        return self.defaults.get(key)

    def _sentences(self) -> tuple[Sentence, ...]:
        nodes = [self.node.items[key] for key in ("text", "sentences") if key in self.node.items]
        if len(nodes) != 1:
            raise self.file.error(
                self.node.line,
                "both 'text' and 'sentences'" if nodes else "a probe without 'text'",
                "Write one 'text', or a list under 'sentences'",
            )
        listed: list[Node] = nodes
        if "sentences" in self.node.items:
            listed = nodes[0].items if isinstance(nodes[0], List) else []
        if not listed:
            raise self.file.error(
                nodes[0].line, "'sentences' is not a list", "Write each sentence after '- '"
            )
        sentences = []
        for node in listed:
            text = _text(self.file, "text", node)
            sentence = plain_sentence(text.text, self.file.at(text.line))
            if not sentence.words:
                raise self.file.error(
                    text.line, "a sentence without words", "Write at least one word"
                )
            words = tuple(
                word._replace(upos=self.upos.get(word.form.lower(), word.upos))
                for word in sentence.words
            )
            sentences.append(replace(sentence, words=words))
        return tuple(sentences)

    def _declared(self, sentences: Sequence[Sentence]) -> Iterator[DeclaredLink]:
        forms = [word.form for sentence in sentences for word in sentence.words]
        upos = [word.upos for sentence in sentences for word in sentence.words]
        sentence_of = [i for i, sentence in enumerate(sentences) for _ in sentence.words]
        settings = {key: self._setting(key) for key in ("family", "looks_to", "scope")}
        for name, link in self._links():
            relation = declared_relation(self.file, name, MappingProxyType(settings))
            query, *targets = find_words(self.file, split_link(self.file, link), forms, link.line)
            for target in targets:
                if target >= query:
                    raise self.file.error(
                        link.line,
                        f"the link looks forward: {forms[target]!r} does not come before "
                        f"{forms[query]!r}",
                        _forward_link_remedy(forms, query, target),
                    )
                if relation.scope == "sentence" and sentence_of[target] != sentence_of[query]:
                    raise self.file.error(
                        link.line,
                        f"{forms[target]!r} and {forms[query]!r} are in different sentences",
                        "Give the relation the scope 'passage', or link words of one sentence",
                    )
                if relation.same_upos and (not upos[query] or upos[target] != upos[query]):
                    raise self.file.error(
                        link.line,
                        f"{forms[target]!r} and {forms[query]!r} have not been given one part of "
                        "speech",
                        f"Name them and their rivals: 'upos: {{NOUN: {forms[target]} "
                        f"{forms[query]} ...}}'",
                    )
            yield DeclaredLink(relation, query, tuple(sorted(set(targets))))

    def _twins(
        self, sentences: Sequence[Sentence], declared: Sequence[DeclaredLink]
    ) -> Iterator[tuple[int, str]]:
        """Yield each target that the item's twin replaces, and the form in its place."""
        forms = [word.form for sentence in sentences for word in sentence.words]
        semantic = [link for link in declared if link.relation.family == "semantic"]
        targets = {target for link in semantic for target in link.targets}
        node = self.node.items.get("twin")
        for item in node.items if isinstance(node, List) else [node] if node else []:
            text = _text(self.file, "twin", item)
            word, *others = split_link(self.file, text)
            if len(others) != 1 or len(plain_sentence(others[0], "").words) != 1:
                raise self.file.error(
                    text.line,
                    f"{text.text[:60]!r} does not replace a word by one word",
                    "Write 'twin: target -> unrelated word'",
                )
            place = _find_word(self.file, word, forms, text.line)
            if place not in targets:
                raise self.file.error(
                    text.line,
                    f"no semantic relation looks to {word[:40]!r}",
                    "Link a later word to it, or remove the replacement",
                )
            yield place, others[0]

    def _links(self) -> Iterator[tuple[Text, Text]]:
        """Yield the name of the relation and the text of each link of the item."""
        if "link" in self.node.items:
            yield self._relation(), _text(self.file, "link", self.node.items["link"])
        links = self.node.items.get("links")
        if isinstance(links, Mapping):
            for name, node in links.items.items():
                named = Text(name, links.lines[name])
                for link in node.items if isinstance(node, List) else [node]:
                    yield named, _text(self.file, "links", link)
        elif isinstance(links, List):
            for link in links.items:
                yield self._relation(), _text(self.file, "links", link)
        elif links is not None:
            raise self.file.error(
                links.line, "'links' is not a list", "Write a list, or a single link under 'link'"
            )
        elif "link" not in self.node.items and "relation" in self.node.items:
            raise self.file.error(
                self.node.line, "a relation without a link", "Write 'link: later -> earlier'"
            )

    def _relation(self) -> Text:
        name = self._setting("relation")
        if name is None:
            raise self.file.error(
                self.node.line, "a link without a relation", "Name one: 'relation: pronoun'"
            )
        return name
