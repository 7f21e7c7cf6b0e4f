"""``headprobe selftest``: scan generated checkpoints whose heads are known."""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import torch

from headprobe.commands.scan import scan
from headprobe.commands.takeover import takeover
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.load import quiet_libraries
from headprobe.planted.checkpoint import Case, Seat, plant, planted_cases, random_cases
from headprobe.planted.engines import CASES as ENGINE_CASES
from headprobe.planted.engines import ENGINE_HEADS, expected_verdicts, plant_engines, write_texts
from headprobe.planted.heads import PlannedHead
from headprobe.planted.words import Lexeme, read_lexicon, write_sample
from headprobe.probes.catalog import find_probe_files
from headprobe.progress import Progress, SilentProgress
from headprobe.results.importance import NEITHER
from headprobe.results.views import CaseResult, Fault, SelfTest
from headprobe.roles.rules import load_rules
from headprobe.runs.folder import HEADS
from headprobe.runs.manifest import ControlNote
from headprobe.runs.tables import Row
from headprobe.vocabulary import head_name, parse_head

PLANTED, SHUFFLED, RANDOM = "planted", "shuffled links", "random weights"
TAKEOVER = "takeover"
"""The kind of checkpoints with engines that take over (``planted.engines``); ``--quick`` leaves
them out."""

ENGINE_DOCUMENTS = 24
"""The documents of the text that engines are tested on."""

SHARES = {PLANTED: 0.5, RANDOM: 0.15}
"""Share of the bundled probe sets that each kind of case is scanned on."""

MAX_WORKERS = 4
"""Maximum of worker processes; each needs some hundred MiB."""

_NO_CONTENT = frozenset({"redundant", "positional"})
"""Roles that heads may earn with random weights or shuffled links."""


def selftest(
    progress: Progress, *, quick: bool = False, seed: int = 0, keep: Path | None = None
) -> SelfTest:
    """Scan planted checkpoints and compare the roles of their heads with the planted ones.

    ``quick`` scans only a few cases. ``seed`` determines the weights and the places of the heads.
    Checkpoints and runs are kept in the folder ``keep``, if given. Raises HeadprobeError where it
    cannot be written.
    """
    started = time.perf_counter()
    cases = [*planted_cases(seed, quick), *random_cases(seed, quick)]
    files = find_probe_files(())
    lexicon = read_lexicon(files)
    results: list[CaseResult] = []
    with _folder(keep) as folder:
        for kind, share in SHARES.items():
            write_sample(files, folder / _slug(kind), share)
        engines = () if quick else ENGINE_CASES
        progress.stage("scanning checkpoints", len(cases) + len(engines), "checkpoints")
        places = [folder / f"{number:02}" for number in range(len(cases))]
        with _workers() as workers:
            for found in workers.map(_scan_case, cases, repeat(lexicon), places):
                results += found
                progress.advance()
            folders = [folder / f"engines-{case}" for case in engines]
            for result in workers.map(engine_case, engines, folders, repeat(seed)):
                results.append(result)
                progress.advance()
    kinds = (PLANTED, SHUFFLED, RANDOM, *([TAKEOVER] if engines else []))
    return SelfTest(
        cases=tuple(results),
        totals=tuple(_total(kind, results) for kind in kinds),
        right=not any(result.faults for result in results),
        seconds=time.perf_counter() - started,
    )


def _workers() -> ProcessPoolExecutor:
    """A pool of processes with one thread each; the models are too small for several threads."""
    return ProcessPoolExecutor(
        min(os.cpu_count() or 1, MAX_WORKERS),
        mp_context=get_context("spawn"),  # torch's threads do not survive a fork
        initializer=torch.set_num_threads,
        initargs=(1,),
    )


def _scan_case(case: Case, lexicon: Sequence[Lexeme], place: Path) -> list[CaseResult]:
    """Scan one checkpoint, and with planted heads also its shuffled links.

    ``place`` is the folder of the case, in the folder of the probe sets.
    """
    kind = PLANTED if case.spread is None else RANDOM
    with quiet_libraries():
        seats = plant(place / "model", case, lexicon)
    config = ScanConfig(
        model=str(place / "model"),
        probes=(str(place.parent / _slug(kind)),),
        out=place / "run",
        device="cpu",
        seed=case.seed,
        overwrite=True,
        shuffle=kind == PLANTED,
    )
    run = scan(config, _NoWarnings())
    heads = {(row.whole("layer"), row.whole("head")): row for row in run.rows(HEADS)}
    if kind == RANDOM:
        return [_result(case, kind, len(heads), 0, _named_at_random(heads))]
    leaders = _leaders(seats, heads)
    wanted = _wanted(seats, leaders)
    planted = sum(len(roles) for roles in wanted.values())
    shuffled = _named_when_shuffled(run.manifest.controls)
    return [
        _result(case, kind, len(heads), planted, _faults(seats, leaders, wanted, heads)),
        _result(case, SHUFFLED, len(heads), 0, shuffled),
    ]


def engine_case(case: str, place: Path, seed: int) -> CaseResult:
    """Scan one checkpoint with engines, test takeover, and compare the verdicts with the planted
    ones."""
    place.mkdir()
    with quiet_libraries():
        plant_engines(place / "model", case, seed)
    write_texts(place / "texts.conllu", ENGINE_DOCUMENTS, seed)
    config = ScanConfig(
        model=str(place / "model"),
        probes=(str(place / "texts.conllu"),),
        out=place / "run",
        device="cpu",
        seed=seed,
    )
    run = scan(config, _NoWarnings())
    table = takeover(run, [head_name(*head) for head in ENGINE_HEADS], _NoWarnings())
    names = zip(table["ablated"], table["responder"], table["verdict"], strict=True)
    found = {(parse_head(one), parse_head(other)): str(verdict) for one, other, verdict in names}
    wanted = expected_verdicts(case)
    faults = [
        Fault(head_name(*pair[1]), case, verdict, is_false, f"without {head_name(*pair[0])}")
        for pair in {**found, **wanted}
        for verdict, is_false in (
            (found.get(pair, NEITHER), True),
            (wanted.get(pair, NEITHER), False),
        )
        if verdict != NEITHER and found.get(pair, NEITHER) != wanted.get(pair, NEITHER)
    ]
    missed = sum(not fault.named for fault in faults)
    return CaseResult(
        case=f"engines: {case}",
        kind=TAKEOVER,
        heads=len(run.rows(HEADS)),
        planted=len(wanted),
        found=len(wanted) - missed,
        missed=missed,
        falsely_named=len(faults) - missed,
        faults=tuple(faults),
    )


def _result(case: Case, kind: str, heads: int, planted: int, found: Iterable[Fault]) -> CaseResult:
    faults = tuple(found)
    missed = sum(not fault.named for fault in faults)
    return CaseResult(
        case=case.name,
        kind=kind,
        heads=heads,
        planted=planted,
        found=planted - missed,
        missed=missed,
        falsely_named=len(faults) - missed,
        faults=faults,
    )


def _wanted(
    seats: Mapping[Seat, PlannedHead], leaders: Mapping[Seat, Seat]
) -> Mapping[Seat, set[str]]:
    """Return exactly the roles that each head must have.

    Heads that repeat one another have the same role, and all but their leader are redundant.
    """
    return {
        seat: ({plan.role} if plan.role else set())
        | ({"redundant"} if leaders.get(seat, seat) != seat else set())
        for seat, plan in seats.items()
    }


def _faults(
    seats: Mapping[Seat, PlannedHead],
    leaders: Mapping[Seat, Seat],
    wanted: Mapping[Seat, set[str]],
    heads: Mapping[Seat, Row],
) -> Iterator[Fault]:
    for seat, plan in seats.items():
        row = heads[seat]
        held = _roles(row)
        if seat in leaders and row.text("repeater_of") not in ("", head_name(*leaders[seat])):
            held.discard("redundant")  # it repeats another head than the one it was copied from
        for role in sorted((wanted[seat] ^ held) - set(plan.overlapping)):
            yield Fault(head_name(*seat), plan.name, role, role in held, row.text("reason"))


def _leaders(seats: Mapping[Seat, PlannedHead], heads: Mapping[Seat, Row]) -> Mapping[Seat, Seat]:
    """Return for each head of a group of repeaters the head that keeps its role."""
    alike = defaultdict(list)
    for seat, plan in sorted(seats.items()):
        if plan.key:
            alike[plan.repeats or plan.name].append(seat)
    keep = {
        name: next((seat for seat in found if not heads[seat].text("repeater_of")), found[0])
        for name, found in alike.items()
    }
    return {seat: keep[name] for name, found in alike.items() for seat in found}


def _named_at_random(heads: Mapping[Seat, Row]) -> Iterator[Fault]:
    """Yield roles that untrained heads cannot have; redundant and positional ones are possible."""
    for seat, row in heads.items():
        for role in sorted(_roles(row) - _NO_CONTENT):
            yield Fault(head_name(*seat), "random weights", role, True, row.text("reason"))


def _named_when_shuffled(controls: Sequence[ControlNote]) -> Iterator[Fault]:
    """Yield roles that shuffled links earned; roles without relations may stay."""
    for control in controls:
        for role in sorted(control.roles.keys() & {*load_rules().roles, "mixed"}):
            reason = f"{control.roles[role]} heads, seed {control.seed}"
            yield Fault("", SHUFFLED, role, True, reason)


def _roles(row: Row) -> set[str]:
    return {*row.text("roles").split(";"), row.text("role")} - {"", "none", "mixed"}


def _total(kind: str, results: Sequence[CaseResult]) -> CaseResult:
    of_kind = [result for result in results if result.kind == kind]
    return CaseResult(
        case=f"{kind}: {len(of_kind)} checkpoints",
        kind=kind,
        heads=sum(result.heads for result in of_kind),
        planted=sum(result.planted for result in of_kind),
        found=sum(result.found for result in of_kind),
        missed=sum(result.missed for result in of_kind),
        falsely_named=sum(result.falsely_named for result in of_kind),
        faults=(),
    )


def _slug(kind: str) -> str:
    return "probes-" + kind.replace(" ", "-")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="headprobe-") as name:
            yield Path(name)
    else:
        try:
            keep.mkdir(parents=True)
        except OSError as error:
            reason = error.strerror or "cannot be written"
            raise HeadprobeError(str(keep), reason, "Name a new folder with -o") from error
        yield keep


class _NoWarnings(SilentProgress):
    """Hides the warning that planted models predict the text badly."""

    def warn(self, text: str) -> None:
        pass
