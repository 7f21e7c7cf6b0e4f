"""Hostile environments: variables, standard streams, and the current folder."""

import json
from collections.abc import Sequence

import pytest

from tests.hostile import spoil
from tests.hostile.driver import Attack, Case, Workplace, assert_promise

RANKS = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
"""What torchrun sets for the first of two ranks."""


def variables(values: dict[str, str], *command: str) -> Attack:
    """A scan, or another command, with these variables."""

    def attack(workplace: Workplace) -> Sequence[str]:
        for name, value in values.items():
            workplace.patch.setenv(name, value)
        if command:
            workplace.run()
            return command
        return workplace.scan()

    return attack


def ranks(**changes: str) -> Attack:
    """A scan by ranks of which one variable is broken."""
    return variables(RANKS | changes)


def without(*names: str) -> Attack:
    """A page of a run without these variables."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.run()
        for name in names:
            workplace.patch.delenv(name, raising=False)
        return ("show", "run")

    return attack


def planted_module(workplace: Workplace) -> Sequence[str]:
    """A Python file beside the data that has the name of a library is not imported."""
    (workplace.here / "numpy.py").write_text("open('planted', 'w')\n")
    workplace.run()
    return ("show", "run")


def planted_rules(workplace: Workplace) -> Sequence[str]:
    """Files with the names of packaged ones, in the current folder, mean nothing."""
    (workplace.here / "configs").mkdir()
    (workplace.here / "configs" / "roles.yaml").write_text("margin: x")
    workplace.run()
    return ("show", "run")


def long_memory(workplace: Workplace) -> Sequence[str]:
    """The note of the run written last names a path of 6,000 letters."""
    state = workplace.here / "state"
    state.mkdir()
    (state / "last-run.json").write_text(json.dumps({"run": "/x" * 3000}))
    workplace.patch.setenv("HEADPROBE_STATE", str(state))
    return ("show",)


def runs_in_the_way(workplace: Workplace) -> Sequence[str]:
    """The folder of runs is a file."""
    (workplace.here / "headprobe-runs").write_text("mine")
    workplace.model()
    workplace.probes()
    return ("scan", "model", "-p", "probes.conllu", "--device", "cpu", "-q")


def runs_in_a_loop(workplace: Workplace) -> Sequence[str]:
    """The folder of runs is a link to itself."""
    spoil.link("headprobe-runs")(workplace.here / "headprobe-runs")
    return ("runs",)


SHOW = ("show", "run")
CASES = [
    Case("WORLD_SIZE in words", ranks(WORLD_SIZE="abc"), "WORLD_SIZE"),
    Case("WORLD_SIZE empty", ranks(WORLD_SIZE=""), "WORLD_SIZE"),
    Case("WORLD_SIZE below zero", ranks(WORLD_SIZE="-2"), "WORLD_SIZE"),
    Case("WORLD_SIZE of 30 digits", ranks(WORLD_SIZE="9" * 30), "WORLD_SIZE"),
    Case("WORLD_SIZE alone", variables({"WORLD_SIZE": "two"}), "WORLD_SIZE"),
    Case("RANK in words", ranks(RANK="first"), "RANK"),
    Case("RANK beyond the last", ranks(RANK="2"), "RANK"),
    Case("RANK below zero", ranks(RANK="-1"), "RANK"),
    Case("LOCAL_RANK in words", ranks(LOCAL_RANK="x"), "LOCAL_RANK"),
    Case("LOCAL_RANK below zero", ranks(LOCAL_RANK="-3"), "LOCAL_RANK"),
    Case("MASTER_PORT in words", ranks(MASTER_PORT="x"), "MASTER_PORT"),
    Case("MASTER_PORT of zero", ranks(MASTER_PORT="0"), "MASTER_PORT"),
    Case("MASTER_PORT beyond the last", ranks(MASTER_PORT="70000"), "MASTER_PORT"),
    Case("MASTER_ADDR empty", ranks(MASTER_ADDR=""), "MASTER_ADDR"),
    Case("threads of zero for numba", variables({"NUMBA_NUM_THREADS": "0"}), "NUMBA_NUM_THREADS",
         own_process=True),
    Case("threads in words for numba", variables({"NUMBA_NUM_THREADS": "x"}), "NUMBA_NUM_THREADS",
         own_process=True),
    Case("no compiled code from numba", variables({"NUMBA_DISABLE_JIT": "1"}),
         "NUMBA_DISABLE_JIT", own_process=True),
    Case("a variable that torch refuses", variables({"TORCH_LOGS": "zork"}),
         "torch: cannot be imported", own_process=True),
    Case("a variable that a library cannot read", variables({"HF_HUB_DOWNLOAD_TIMEOUT": "abc"}),
         "cannot be imported", own_process=True),
    Case("a cache of the Hub that is a file", variables({"HF_HOME": "/dev/null"}), harmless=True),
    Case("a drawing library without a screen it knows",
         variables({"MPLBACKEND": "zork"}, "export", "run", "--format", "svg", "-o", "out", "-q"),
         "MPLBACKEND", own_process=True),
    Case("a run written last whose path is too long", long_memory, "/x/x"),
    Case("completion of nothing", variables({"_HEADPROBE_COMPLETE": "complete_bash"}, *SHOW),
         harmless=True, own_process=True),
    Case("COLUMNS of zero", variables({"COLUMNS": "0"}, *SHOW), harmless=True),
    Case("COLUMNS in words", variables({"COLUMNS": "wide"}, *SHOW), harmless=True),
    Case("COLUMNS of 10**9", variables({"COLUMNS": "1000000000"}, *SHOW), harmless=True),
    Case("colour demanded", variables({"FORCE_COLOR": "1", "TERM": "zork"}, *SHOW), harmless=True),
    Case("no terminal type", without("TERM", "COLUMNS"), harmless=True),
    Case("no home", without("HOME", "USER", "LOGNAME"), harmless=True),
    Case("a home that is a file", variables({"HOME": "/dev/null"}, *SHOW), harmless=True),
    Case("no search path", without("PATH"), harmless=True),
    Case("an unknown language", variables({"LC_ALL": "zork.ASCII"}, *SHOW), harmless=True,
         own_process=True),
    Case("streams in ASCII", variables({"PYTHONIOENCODING": "ascii"}, *SHOW), harmless=True,
         own_process=True),
    Case("a folder for temporary files that is not there",
         variables({"TMPDIR": "/nowhere"}, *SHOW), harmless=True),
    Case("a module beside the data", planted_module, harmless=True),
    Case("rules in the current folder", planted_rules, harmless=True),
    Case("the folder of runs is a file", runs_in_the_way, "headprobe-runs"),
    Case("the folder of runs is a loop", runs_in_a_loop, harmless=True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_environments(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
