"""What the commands show: a bar while they work, a table at the end, one line if they fail."""

import contextlib
import importlib
import os
import sys

import typer
from typer.core import TyperGroup

from keras_normface._io import printable
from keras_normface.startup import load_tensorflow

FAILED = 2  # not 1, by which `verify` says that two photos show different people
Refusal = typer.BadParameter.__base__  # click's UsageError, which newer versions of typer carry within them


def say(text, err=False):
    r"""Print lines, which end at "\n" only, with what is not printable in them escaped."""
    typer.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def say_warning(message, category, filename, lineno, file=None, line=None):
    """Print a Python warning as one line, in place of `warnings.showwarning`."""
    with contextlib.suppress(OSError):
        (sys.stderr if file is None else file).write(f"Warning: {printable(' '.join(str(message).split()))}\n")


class SafeGroup(TyperGroup):
    """The commands; what they refuse is shown escaped, in one line."""

    def main(self, *arguments, standalone_mode=True, **options):
        """Run a command and exit; wrong arguments are one line on standard error and exit code 2."""
        try:
            code = super().main(*arguments, standalone_mode=False, **options)
        except Refusal as error:
            code = error.exit_code
            if _is_help(error):
                error.show()
            else:
                path = "keras-normface" if error.ctx is None else error.ctx.command_path
                reason = " ".join(error.format_message().split()).rstrip(".")
                say(f"Error: {reason} ({path} --help shows the options)", err=True)
        except typer.Abort:
            say("Interrupted. Nothing was saved.", err=True)
            code = FAILED
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code

    def make_context(self, *arguments, **options):
        """Parse the arguments of the group."""
        with _escaped():
            return super().make_context(*arguments, **options)

    def invoke(self, *arguments, **options):
        """Parse the arguments of the command, and run it."""
        with _escaped():
            return super().invoke(*arguments, **options)


@contextlib.contextmanager
def _escaped():
    try:
        yield
    except Refusal as error:
        if not _is_help(error):
            error.message = printable(error.message)
        raise


def _is_help(error):
    """Whether a refusal is the help that is shown where no command is given."""
    return type(error).__name__ == "NoArgsIsHelpError"


@contextlib.contextmanager
def failures_in_one_line(resumable=True):
    """Turn the errors that the library documents into a line on standard error and exit code 2."""
    try:
        yield
    except BrokenPipeError as error:  # who reads the answers has read enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from error
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        say(f"Error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        kept = "Run the same command again to resume." if resumable else "Nothing was saved."
        say(f"Interrupted. {kept}", err=True)
        raise typer.Exit(FAILED) from error


def loaded(name, tensorflow=True):
    """A file of this room that computes, imported after TensorFlow, if it needs that, whose notices are not shown."""
    with failures_in_one_line(resumable=False):
        if tensorflow:
            load_tensorflow()
        return importlib.import_module(f"keras_normface.cli.{name}")


@contextlib.contextmanager
def progress_bar(what):
    """Show a bar with the count, the rate and the time left, on standard error."""
    from rich import console  # here, so that --help need not wait for it
    from rich import progress as bars

    columns = [
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}", markup=False),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console.Console(stderr=True)) as progress:
        task = progress.add_task(printable(what), total=None, rate="")

        def report(done, total):
            speed = progress.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            progress.update(task, completed=done, total=total, rate=rate)

        yield report


def show_summary(rows):
    """Print a table of two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
