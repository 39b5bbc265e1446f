"""What the commands show: a bar while they work, a table at the end, one line if they fail."""

import contextlib

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

FAILED = 1


@contextlib.contextmanager
def failures_in_one_line(resumable=True):
    """Turn the errors that the library documents into a line on standard error and exit code 1."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        kept = "The same command goes on where this one stopped." if resumable else "Nothing was kept."
        typer.echo(f"Interrupted. {kept}", err=True)
        raise typer.Exit(FAILED) from error


@contextlib.contextmanager
def progress_bar(what):
    """Show a bar with the count, the rate and the time left, on standard error."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None, rate="")

        def report(done, total):
            speed = progress.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            progress.update(task, completed=done, total=total, rate=rate)

        yield report


def show_summary(rows):
    """Print a table of two columns."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)
