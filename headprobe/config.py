"""The options of a scan, declared once.

``ScanConfig`` is pure data: text, numbers, flags and paths. The parameters of ``headprobe scan``,
the keyword arguments of ``headprobe.scan``, the state that ``--resume`` reads and the options in a
fingerprint are all derived from its fields. To add an option, add a field.

This module is imported for ``--help``, so it imports nothing that is slow to load.
"""

import functools
import inspect
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

_COMMAND = r"(?:torchrun \S.* -m )?headprobe scan(?: --?[a-z][a-z-]*(?: [^\s,;)-][^\s,;)]*)?)+"
_QUOTED_OR_WORD = r"'[^']*'|[^\s,;:()'-][^\s,;:()]*"
_CLI_OPTION = re.compile(
    rf"(?P<command>{_COMMAND})"
    rf"|(?<![\w-])(?P<option>--[a-z][a-z-]*|-[a-z])(?![\w-])(?: (?P<value>{_QUOTED_OR_WORD}))?"
)
"""Shell commands and options in the messages of this package."""

_BINARY_UNITS = {unit: 1024**power for power, unit in enumerate(("b", "kib", "mib", "gib", "tib"))}
_UNITS = _BINARY_UNITS | {
    unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb", "tb"), 1)
}
"""Bytes per unit, by the unit's name in lower case."""


def parse_size(size: str | int) -> int:
    """Convert a memory size to bytes.

    An ``int`` is a number of bytes. Text is a number with its unit: ``2GiB``, ``500 MiB``,
    ``1.5gb``. Raises HeadprobeError for anything else.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-z]+)", str(size).strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    number = int(float(match[1]) * unit) if match and unit else 0
    if not 0 < number < MAX_NUMBER:
        raise HeadprobeError(
            f"--memory {_shorten(size)}", "not a size", "Write a number and its unit: 500MiB, 2GiB"
        )
    return number


MAX_NUMBER = 1 << 62
"""Numbers of options are smaller, so that they fit 64 bits wherever they are used."""


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise HeadprobeError for a path that cannot be used whatever is there.

    It holds NUL, is too long, leads through a loop of links or a folder that may not be entered, or
    begins with ``~`` and a name that the shell did not replace. A path to nothing is no error here.
    """
    name = os.fspath(path)
    if not name:
        return
    where = f"path {_shorten(name)!r}"
    if name.startswith("~") and not os.path.lexists(name):
        raise HeadprobeError(where, "the home folder of nobody here", f"Write ./{_shorten(name)}")
    try:
        Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise HeadprobeError(where, f"cannot be used ({error.strerror})", "Name another") from None
    except ValueError as error:  # NUL, or what no file system can encode
        raise HeadprobeError(where, f"cannot be used ({error})", "Name another") from None


def _shorten(value: object) -> str:
    """A value as error messages repeat it."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


MAX_SHARDS = 1 << 16
"""The most shards of a scan."""


@dataclass(frozen=True)
class Partition:
    """One of ``count`` shares of a scan's passages; ``index`` counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: "str | Partition") -> Self:
        """Read ``3/8``, the third of eight shares; HeadprobeError for anything else."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(text))
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
            raise HeadprobeError(
                f"--shard {_shorten(text)}",
                f"not a shard of at most {MAX_SHARDS}",
                "Write 3/8 for the third of eight shards",
            )
        return cls(int(match[1]) - 1, int(match[2]))

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def select(
        self, numbers: "NDArray[np.integer]", lengths: "NDArray[np.integer]"
    ) -> "NDArray[np.int64]":
        """Return the part of ``numbers`` (ascending) that belongs to this share, ascending.

        Items are dealt out from the longest to the shortest by ``lengths``, back and forth over the
        shares, so that all shares have the same amount of work and rows of similar length.
        """
        import numpy as np

        turn, place = np.divmod(np.arange(len(numbers)), self.count)
        owner = np.where(turn % 2, self.count - 1 - place, place)
        order = np.argsort(-np.asarray(lengths), kind="stable")
        return np.sort(np.asarray(numbers)[order[owner == self.index]]).astype(np.int64)


@dataclass(frozen=True)
class Option:
    """How users give one field of ``ScanConfig``."""

    help: str
    """The help text, for the command line and for Python."""
    metavar: str | None = None
    """The placeholder of the value in help texts; None for flags."""
    short: str | None = None
    """The option's short name, such as ``-o``."""
    argument: bool = False
    """Whether the command line takes the value as an argument, without an option name."""
    minimum: int | None = None
    """The smallest value that is accepted."""
    path: bool = False
    """Whether the text may be the path of a file or folder."""
    parse: Callable[[Any], Any] | None = None
    """Converts text of the command line; None where the type of the field says how."""
    fingerprint: str | None = None
    """The field's name in fingerprints, for options that change what is measured and that nothing
    else in the fingerprint reflects."""
    python: bool = True
    """Whether ``headprobe.scan`` has the keyword argument."""
    stored: bool = True
    """Whether a partial scan stores the value for ``--resume``."""


def _option(help_text: str, metavar: str | None = None, **details: Any) -> dict[str, Option]:
    return {"option": Option(help_text, metavar, **details)}


@dataclass(frozen=True)
class ScanConfig:
    """The options of one scan.

    A model in memory is not part of it: functions that accept one take it beside the config.
    """

    model: str | None = field(
        default=None,
        metadata=_option(
            "Hub id, local folder or GGUF file [default: the bundled demo model].",
            "MODEL",
            argument=True,
            path=True,
        ),
    )
    probes: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "Built-in probe set, file or folder; repeatable [default: all built-in sets].",
            "PROBES",
            short="-p",
            path=True,
        ),
    )
    out: Path | None = field(
        default=None,
        metadata=_option(
            "New run folder [default: a new one in headprobe-runs].", "RUN", short="-o"
        ),
    )
    device: str = field(
        default="auto",
        metadata=_option("Device to run the model on: cpu, cuda, mps, ...", "DEVICE"),
    )
    dtype: str = field(
        default="auto",
        metadata=_option("Number format of the weights: float32, bfloat16, float16.", "DTYPE"),
    )
    revision: str | None = field(
        default=None, metadata=_option("Branch, tag or commit of a Hub model.", "R")
    )
    adapter: str | None = field(
        default=None, metadata=_option("A LoRA adapter to put on the model.", "DIR", path=True)
    )
    gguf: str | None = field(
        default=None, metadata=_option("A GGUF file inside MODEL.", "FILE", path=True)
    )
    gguf_cache: bool = field(
        default=True, metadata=_option("Keep the converted copy of a GGUF file for later scans.")
    )
    max_passages: int | None = field(
        default=None,
        metadata=_option(
            "Measure a random sample of N passages.",
            "N",
            minimum=1,
            fingerprint="the most passages",
        ),
    )
    budget: int | None = field(
        default=None,
        metadata=_option(
            "Maximum tokens per passage [default: 512].",
            "TOKENS",
            minimum=8,
            fingerprint="the tokens of a passage",
        ),
    )
    memory: int | None = field(
        default=None,
        metadata=_option(
            "Memory limit beyond the model weights, e.g. 2GiB.", "SIZE", parse=parse_size
        ),
    )
    rules: Path | None = field(
        default=None,
        metadata=_option("YAML file of rules that override the packaged ones.", "FILE"),
    )
    twin: bool = field(
        default=False,
        metadata=_option(
            "Also scan a random-weight copy (control; should earn no roles).",
            fingerprint="the twin",
        ),
    )
    annotate: str | None = field(
        default=None,
        metadata=_option(
            "Parse plain text with a parser: stanza, stanza:LANGUAGE or spacy:MODEL.",
            "PARSER",
            fingerprint="the annotator",
        ),
    )
    shuffle: bool = field(
        default=False,
        metadata=_option(
            "Also scan shuffled links (control; should earn no roles).",
            fingerprint="the shuffled links",
        ),
    )
    shard: Partition | None = field(
        default=None,
        metadata=_option(
            "Scan only shard I of N, for headprobe merge; requires --out.",
            "I/N",
            parse=Partition.parse,
            python=False,
        ),
    )
    overwrite: bool = field(
        default=False, metadata=_option("Replace existing files or an existing run.")
    )
    seed: int = field(
        default=0, metadata=_option("Random seed.", "N", minimum=0, fingerprint="the seed")
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=_option("Allow code from the model's repository to run.", stored=False),
    )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build a config from values as users, or JSON, give them.

        Paths and sizes may be text, ``probes`` one name or several; None stands for the default.
        Raises HeadprobeError for a value of the wrong type or out of range, and TypeError for a
        name that is not an option.
        """
        known = {each.name: each for each in fields(cls)}
        check_names(options, known)
        return cls(
            **{
                name: _convert(known[name], value)
                for name, value in options.items()
                if value is not None
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values, without those that are not stored.

        Consent to remote code is never stored: users give it each time.
        """
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if option_of(each).stored
        }
        return {
            name: str(value) if isinstance(value, Path | Partition) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, trust_remote_code: bool) -> Self:
        """Restore a config that ``to_json`` stored; ValueError or HeadprobeError where it cannot.

        ``trust_remote_code`` is the consent that the user gives now.
        """
        stored = {each.name for each in fields(cls) if option_of(each).stored}
        if not isinstance(values, Mapping) or values.keys() != stored:
            raise ValueError("its options are not those of this version")
        return cls.from_options({**values, "trust_remote_code": trust_remote_code})

    def fingerprint_values(self) -> dict[str, str]:
        """Return the options that change what is measured, by their names in fingerprints."""
        labels = {each.name: option_of(each).fingerprint for each in fields(self)}
        return {label: str(getattr(self, name)) for name, label in labels.items() if label}


STEP_OPTIONS = (
    *("probes", "device", "dtype", "max_passages", "budget", "memory", "rules", "seed"),
    "trust_remote_code",
)
"""The options of a scan that apply to every step of a trace."""


def check_names(options: Mapping[str, Any], known: Iterable[str] | None = None) -> None:
    """Raise TypeError unless all ``options`` are ``known``: by default, the keyword arguments of
    ``headprobe.scan``."""
    if known is None:
        known = {each.name for each in fields(ScanConfig) if option_of(each).python}
    if unknown := options.keys() - set(known):
        raise TypeError(f"unexpected options: {', '.join(sorted(unknown))}")


def python_spelling(text: str) -> str:
    """Spell the options of the command line in a message as keyword arguments of Python.

    ``--dtype float32`` becomes ``dtype="float32"``, ``--overwrite`` becomes ``overwrite=True``,
    ``-o`` without a value becomes ``out=…``, and ``headprobe scan --resume RUN`` becomes
    ``headprobe.resume("RUN")``. Other shell commands, and options that Python lacks, stay. In
    messages, an option without a value stands before punctuation or at the end.
    """
    return _CLI_OPTION.sub(_keyword_argument, text)


def _keyword_argument(match: re.Match[str]) -> str:
    if command := match["command"]:
        resumed = re.fullmatch(r"headprobe scan --resume (\S+)", command)
        return f"headprobe.resume({_python_literal(resumed[1])})" if resumed else command
    known: dict[str, Field[Any]] = {}
    for each in fields(ScanConfig):
        if option_of(each).python:
            known["--" + each.name.replace("_", "-")] = each
            known[option_of(each).short or ""] = each
    option, value = match["option"], match["value"]
    if option == "--resume":
        return "headprobe.resume" + (f" {value}" if value else "")
    config_field = known.get(option)
    if config_field is None:
        return match[0]
    kind = base_type(config_field)
    if kind is bool:
        return f"{config_field.name}=True" + (f" {value}" if value else "")
    is_number = kind is int and option_of(config_field).parse is None
    literal = "…" if value is None else value if is_number else _python_literal(value)
    return f"{config_field.name}={literal}"


def _python_literal(value: str) -> str:
    """Quote a value that may be quoted for the shell."""
    inner = value[1:-1] if value[:1] == "'" == value[-1:] else value
    return '"' + inner.replace("\\", "\\\\").replace('"', '\\"') + '"'


def python_messages(function: F) -> F:
    """Make the errors of a function spell options as Python does (``python_spelling``)."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except HeadprobeError as error:
            error.reword(python_spelling)
            raise

    wrapped: Any = wrapper
    return cast(F, wrapped)


def option_of(config_field: "Field[Any]") -> Option:
    """Return how users give a field of ``ScanConfig``."""
    option: Option = config_field.metadata["option"]
    return option


def _text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError
    return str(os.fspath(value))


def _whole_number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """One name is not a sequence of letters."""
    values: Iterable[Any] = [value] if isinstance(value, str | os.PathLike) else value
    return tuple(_text(each) for each in values)


@dataclass(frozen=True)
class _Kind:
    """A type of option: how values are converted, and what Python's signature says of it."""

    convert: Callable[[Any], Any]
    accepts: Any
    description: str


_KINDS: dict[Any, _Kind] = {
    str: _Kind(_text, str, "text"),
    int: _Kind(_whole_number, int, "a whole number"),
    bool: _Kind(_flag, bool, "True or False"),
    Path: _Kind(Path, str | os.PathLike[str], "a path"),
    Partition: _Kind(Partition.parse, str, "a shard such as 3/8"),
    tuple[str, ...]: _Kind(_texts, Any, "a name or a list of names"),
}


def _kind(config_field: "Field[Any]") -> _Kind:
    return _KINDS[base_type(config_field)]


def base_type(config_field: "Field[Any]") -> Any:
    """Return the type of a field's values, without the None that stands for no value."""
    arguments: Any = getattr(config_field.type, "__args__", ())
    return arguments[0] if type(None) in arguments else config_field.type


def _convert(config_field: "Field[Any]", value: Any) -> Any:
    option, kind = option_of(config_field), _kind(config_field)
    try:
        converted = (option.parse or kind.convert)(value)
    except TypeError:
        raise HeadprobeError(
            f"{config_field.name}={value!r}", "wrong type", f"Give {kind.description}"
        ) from None
    if option.minimum is not None and converted < option.minimum:
        where = f"--{config_field.name.replace('_', '-')} {converted}"
        raise HeadprobeError(where, "too small", f"Give {option.minimum} or more")
    if isinstance(converted, int) and converted >= MAX_NUMBER:
        raise HeadprobeError(
            config_field.name, "too large a number", f"Give less than {MAX_NUMBER}"
        )
    if option.path or isinstance(converted, Path):
        for each in converted if isinstance(converted, tuple) else [converted]:
            check_path(each)
    return converted


def python_options(*names: str) -> Callable[[F], F]:
    """Replace ``**options`` of a function by the options of a scan, or only by those of these
    ``names``, as keyword arguments.

    Completes the signature and the docstring that ``help`` and notebooks show. Parameters that the
    function declares itself stay as they are.
    """
    return functools.partial(_with_options, names)


def _with_options(names: Sequence[str], function: F) -> F:
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    declared = {each.name for each in own}
    lines, added = [], []
    for each in fields(ScanConfig):
        option = option_of(each)
        if not option.python or (names and each.name not in names):
            continue
        lines += [f"{each.name}:", f"    {option.help}"]
        if each.name in declared:
            continue
        accepts = _kind(each).accepts if option.parse is None else int | str
        annotation = accepts | None if each.default is None else accepts
        added.append(
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=annotation,
            )
        )
    completed: Any = function
    completed.__signature__ = signature.replace(parameters=[*own, *added])
    completed.__doc__ = (
        f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions\n-------\n" + "\n".join(lines)
    )
    return function
