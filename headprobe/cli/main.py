"""The console entry point: what becomes of errors, interrupts and readers that leave early."""

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import typer
from typer.main import get_command

from headprobe.cli.commands import app
from headprobe.cli.streams import LastingOutput, open_streams
from headprobe.errors import HeadprobeError, shorten

INTERRUPTED, TERMINATED, USER = 130, 143, 2

# What typer raises for options it cannot read; it exports only this subclass of it.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> NoReturn:
    """Run the command line. Exit code 0: fine; 2: the user can mend it, said in one line on stderr;
    130: interrupted. A bug keeps its traceback and exits with 1. A reader of stdout that left is no
    error; any other fault of stdout is one, said when all files are written. What stderr does not
    take is lost, and nothing else."""
    _configure_process()
    out = _open_streams()
    signal.signal(signal.SIGTERM, _terminate)
    code = run(sys.argv[1:])
    sys.stdout.flush()
    if out is not None and out.error is not None and out.error.errno != errno.EPIPE:
        what = f"stdout: cannot be written ({out.error.strerror})"
        said = _print_error(
            f"{what}. Files are complete: headprobe show prints the page of a run.", USER
        )
        code = code or said
    sys.exit(code)


def _open_streams() -> LastingOutput | None:
    """Streams that last, for the process's own; None where another program has put its own there
    (a test, a notebook)."""
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        return None
    return open_streams()[0]


def _configure_process() -> None:
    """Before libraries are loaded: how their threads wait, and how seldom garbage is looked for."""
    # threads that wait would turn round and round, and keep others from the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products here are small
    gc.set_threshold(50_000)  # of importing torch and transformers the default takes a fifth
    atexit.register(gc.freeze)  # what is left goes with the process; to search it takes most of 1 s


def run(argv: Sequence[str]) -> int:
    """Run ``headprobe ARGV`` in this process and return its exit code.

    Errors that the user can correct are printed on stderr, as on the command line. A bug raises its
    exception. Streams, signal handlers and process-wide settings stay as the caller has them;
    ``main`` sets them for the command line.
    """
    # not app(): it would draw bugs in its own way and turn interrupts into exit code 1
    try:
        _check_folder()
        with get_command(app).make_context("headprobe", list(argv) or ["--help"]) as context:
            context.command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    except HeadprobeError as error:
        return _print_error(str(error), USER)
    except KeyboardInterrupt as interrupt:
        again = "no partial files are left. Run the same command again"
        return _print_error(
            f"interrupted: {interrupt.args[0] if interrupt.args else again}.", INTERRUPTED
        )
    except _UsageProblem as problem:
        return _print_error(_one_line(problem), USER)
    return 0


def _check_folder() -> None:
    """Raise HeadprobeError where the current folder was removed: no path means anything then."""
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() is the same call
    except OSError as error:
        raise HeadprobeError(
            "the current folder", f"cannot be used ({error.strerror})", "Change to another folder"
        ) from None


def _one_line(problem: BaseException) -> str:
    context = getattr(problem, "ctx", None)
    command = context.command_path if context is not None else "headprobe"
    message = problem.format_message() if hasattr(problem, "format_message") else str(problem)
    said = shorten(message.strip().rstrip("."))
    return f"{command}: {said}{'' if said.endswith('?') else '.'} See {command} --help."


def _print_error(line: str, code: int) -> int:
    from headprobe.format import safe_text

    print(safe_text(line), file=sys.stderr)
    return code


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    # as an exception, so that half-written folders are removed on the way out
    raise SystemExit(TERMINATED)
