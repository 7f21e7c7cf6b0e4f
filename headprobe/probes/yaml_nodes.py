"""YAML as text, lists and mappings that know their lines.

Built from the parser's events with a stack of its own: nothing but text is ever made of a file, and
deep nesting cannot exhaust the interpreter (PyYAML's fast composer crashes on it).
"""

from dataclasses import dataclass, field

import yaml
from yaml.reader import Reader

from headprobe.probes.probe_file import Advance, ProbeFile, keep_still

_DEEPEST = 20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Text:
    """A scalar, as written."""

    text: str
    line: int


@dataclass(slots=True)
class List:
    """A sequence."""

    line: int
    items: "list[Node]" = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """A mapping from text."""

    line: int
    items: "dict[str, Node]" = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    key: Text | None = None


Node = Text | List | Mapping


def read_yaml(file: ProbeFile, advance: Advance = keep_still) -> Node | None:
    """What a YAML file holds, None where that is nothing; lines count from 1.

    Raises HeadprobeError with file:line where it is no YAML, names a key twice, nests deeper than
    20 levels, or uses aliases.
    """
    text = "\n".join(file.lines(advance))
    open_nodes: list[List | Mapping] = []
    root: Node | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            mark = event.start_mark
            line = mark.line + 1 if mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise file.error(line, "an alias", "Write the value out")
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise file.error(line, "a second YAML document", "Keep one per file")
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
                if len(open_nodes) > _DEEPEST:
                    raise file.error(line, "nested too deeply", "Write it flat")
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        raise file.error(
            mark.line + 1 if mark else 1,
            f"not YAML ({fault.problem or fault.context})",
            "Check the indentation, and put texts with ': ' or ' #' between quotes",
        ) from None
    except yaml.YAMLError:
        found = Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise file.error(line, "a character that YAML forbids", "Take it out") from None
    return root


def _node(event: yaml.NodeEvent, line: int) -> Node:
    if isinstance(event, yaml.ScalarEvent):
        return Text(str(event.value), line)
    return List(line) if isinstance(event, yaml.SequenceStartEvent) else Mapping(line)


def _put(file: ProbeFile, parent: List | Mapping, node: Node) -> None:
    if isinstance(parent, List):
        parent.items.append(node)
    elif parent.key is not None:
        parent.items[parent.key.text] = node
        parent.key = None
    elif not isinstance(node, Text):
        raise file.error(node.line, "a key that is not a word", "Write 'key: value'")
    elif node.text in parent.items:
        raise file.error(node.line, f"the key {node.text!r} stands twice", "Keep one of them")
    else:
        parent.key = node
        parent.lines[node.text] = node.line
