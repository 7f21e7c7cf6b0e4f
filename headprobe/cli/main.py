"""The console entry point: exit codes, errors, interrupts and readers that close early."""

import atexit
import errno
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import typer
from typer.main import get_command

from headprobe.cli.commands import app
from headprobe.cli.streams import LastingOutput, open_streams
from headprobe.errors import TERMINATING, HeadprobeError, Terminated, shorten, terminate

USER = 2
"""The exit code of an error that the user can correct."""

BY_SIGNAL = 128
"""The exit code of a program that a signal ended, less the number of the signal."""

_COMPLETION = "_HEADPROBE_COMPLETE"
"""The environment variable by which typer's shell scripts ask for completions."""

# The base class of typer's usage errors; typer exports only this subclass of it.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 for success, 1 for a bug (with its traceback), 2 for an error that the user can
    correct (one line on stderr), 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP. A reader of
    stdout that closes early is not an error. Other faults of stdout are reported after all files
    are written. Faults of stderr only lose what is printed there.
    """
    _configure_process()
    out = _open_streams()
    for number in TERMINATING:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, terminate)
    if _is_completion():  # typer answers and exits
        app(prog_name="headprobe")
    code = run(sys.argv[1:])
    sys.stdout.flush()
    if out is not None and out.error is not None and out.error.errno != errno.EPIPE:
        what = f"stdout: cannot be written ({out.error.strerror})"
        error_code = _print_error(
            f"{what}. Files are complete; headprobe show prints the summary of a run.", USER
        )
        code = code or error_code
    sys.exit(code)


def _is_completion() -> bool:
    """Whether a shell asks how to complete a word. The variable alone can come from anywhere."""
    names = os.environ.keys()
    asks = names >= {"COMP_WORDS", "COMP_CWORD"} or "_TYPER_COMPLETE_ARGS" in names
    return _COMPLETION in names and asks


def _open_streams() -> LastingOutput | None:
    """Replace the standard streams by lasting ones, and return stdout.

    Returns None where another program (a test, a notebook) has replaced them already.
    """
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        return None
    return open_streams()[0]


def _configure_process() -> None:
    """Set how threads wait and how often garbage is collected, before libraries are loaded."""
    # By default idle threads spin, and keep other processes from the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # the matrix products of numpy are small here
    gc.set_threshold(50_000)  # the default takes a fifth of importing torch and transformers
    atexit.register(gc.freeze)  # a collection at exit would take most of a second


def run(argv: Sequence[str]) -> int:
    """Run ``headprobe ARGV`` in this process and return its exit code.

    Errors that the user can correct are printed on stderr, as on the command line. A bug raises its
    exception. Streams, signal handlers and process-wide settings stay as the caller has them;
    ``main`` sets them for the command line.
    """
    # Not app(): typer reformats the traceback of bugs, and exits with 1 on interrupts.
    try:
        _check_folder()
        with (
            _completion_errors(argv),
            get_command(app).make_context("headprobe", list(argv) or ["--help"]) as context,
        ):
            context.command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    except HeadprobeError as error:
        return _print_error(str(error), USER)
    except KeyboardInterrupt as interrupt:
        again = "no partial files remain. Run the same command again"
        number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
        word = "interrupted" if number == signal.SIGINT else "terminated"
        return _print_error(
            f"{word}: {interrupt.args[0] if interrupt.args else again}.", BY_SIGNAL + number
        )
    except _UsageProblem as problem:
        return _print_error(_one_line(problem), USER)
    except Exception as error:
        if (failed := _failed_import(error)) is None:
            raise
        return _print_error(str(failed), USER)
    return 0


def _failed_import(error: Exception) -> HeadprobeError | None:
    """Return the error for a library that cannot be imported; None for any other exception.

    Libraries read environment variables while they are imported, and raise for wrong values.
    """
    library, is_first = None, False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name == "headprobe":
            library, is_first = None, True
        elif is_first:
            # Code outside any function runs while a module is imported
            library = name if frame.f_code.co_name == "<module>" else None
            is_first = False
    if library is None:
        return None
    lines = (line.strip() for line in str(error).splitlines())
    what = next(filter(None, lines), type(error).__name__)
    return HeadprobeError(
        library,
        f"cannot be imported ({what})",
        "Correct the environment variables that it reads, or install it again",
    )


@contextmanager
def _completion_errors(argv: Sequence[str]) -> Iterator[None]:
    """Turn what typer's ``--install-completion`` raises into HeadprobeError."""
    try:
        yield
    except (OSError, typer.Exit) as error:
        if "--install-completion" not in argv:
            raise
        if isinstance(error, typer.Exit):  # typer has said which shell it is
            what, remedy = "this shell is not supported", "Run it in bash, zsh, fish or PowerShell"
        else:
            what = f"{error.filename} cannot be written ({error.strerror})"
            remedy = "Print the script with --show-completion instead"
        raise HeadprobeError("--install-completion", what, remedy) from None


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
    line = shorten(message.strip().rstrip("."))
    return f"{command}: {line}{'' if line.endswith('?') else '.'} See {command} --help."


def _print_error(line: str, code: int) -> int:
    from headprobe.format import safe_text

    print(safe_text(line), file=sys.stderr)
    return code
