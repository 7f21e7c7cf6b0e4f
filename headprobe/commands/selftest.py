"""``headprobe selftest``: checkpoints built by hand, whose heads are known, scanned like others."""

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
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.load import quiet_libraries
from headprobe.planted.checkpoint import Case, Seat, plant, planted_cases, random_cases
from headprobe.planted.heads import PlannedHead
from headprobe.planted.words import Lexeme, read_lexicon, write_sample
from headprobe.probes.catalog import find_probe_files
from headprobe.progress import Progress, SilentProgress
from headprobe.results.views import CaseResult, Fault, SelfTest
from headprobe.roles.rules import load_rules
from headprobe.runs.folder import HEADS
from headprobe.runs.manifest import ControlNote
from headprobe.runs.tables import Row
from headprobe.vocabulary import head_name

PLANTED, SHUFFLED, RANDOM = "planted", "shuffled links", "random weights"
SHARES = {PLANTED: 0.5, RANDOM: 0.15}
"""How much of the bundled probe sets each kind of case is scanned on."""

MAX_WORKERS = 4
"""Each holds the libraries, and some hundred MiB."""

_NO_CONTENT = frozenset({"redundant", "positional"})
"""Roles that heads may earn whatever the links and the weights."""


def selftest(
    progress: Progress, *, quick: bool = False, seed: int = 0, keep: Path | None = None
) -> SelfTest:
    """Scan planted checkpoints and compare what is found with what is known.

    ``quick`` takes a few cases; ``seed`` draws weights and seats; checkpoints and
    runs are left in the folder ``keep``. HeadprobeError where that cannot be written.
    """
    started = time.perf_counter()
    cases = [*planted_cases(seed, quick), *random_cases(seed, quick)]
    files = find_probe_files(())
    lexicon = read_lexicon(files)
    results: list[CaseResult] = []
    with _folder(keep) as folder:
        for kind, share in SHARES.items():
            write_sample(files, folder / _slug(kind), share)
        progress.stage("scanning checkpoints", len(cases), "checkpoints")
        places = [folder / f"{number:02}" for number in range(len(cases))]
        with _workers() as workers:
            for found in workers.map(_scan_case, cases, repeat(lexicon), places):
                results += found
                progress.advance()
    return SelfTest(
        cases=tuple(results),
        totals=tuple(_total(kind, results) for kind in (PLANTED, SHUFFLED, RANDOM)),
        right=not any(result.faults for result in results),
        seconds=time.perf_counter() - started,
    )


def _workers() -> ProcessPoolExecutor:
    """Such small models are scanned side by side, one thread each: more have nothing to share."""
    return ProcessPoolExecutor(
        min(os.cpu_count() or 1, MAX_WORKERS),
        mp_context=get_context("spawn"),  # torch's threads do not survive a fork
        initializer=torch.set_num_threads,
        initargs=(1,),
    )


def _scan_case(case: Case, lexicon: Sequence[Lexeme], place: Path) -> list[CaseResult]:
    """What a scan finds in a checkpoint, and under shuffled links in one with planted heads.

    ``place`` is the case's folder, beside the probe sets.
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
    """The roles that each head must hold, and no other: its own, of heads that repeat one another
    each the same; and all of these but their leader are redundant."""
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
            held.discard("redundant")  # repeats a head that it was not made from
        for role in sorted((wanted[seat] ^ held) - set(plan.overlapping)):
            yield Fault(head_name(*seat), plan.name, role, role in held, row.text("reason"))


def _leaders(seats: Mapping[Seat, PlannedHead], heads: Mapping[Seat, Row]) -> Mapping[Seat, Seat]:
    """For each head with a planted repeater the one of them that keeps its role."""
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
    """Heads without any training may stand still or count words, but know nothing of content."""
    for seat, row in heads.items():
        for role in sorted(_roles(row) - _NO_CONTENT):
            yield Fault(head_name(*seat), "random weights", role, True, row.text("reason"))


def _named_when_shuffled(controls: Sequence[ControlNote]) -> Iterator[Fault]:
    """Links that mean nothing earn no role; what needs no links may stay."""
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
    """Planted models know no text, and say so."""

    def warn(self, text: str) -> None:
        pass
