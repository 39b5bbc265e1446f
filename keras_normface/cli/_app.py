"""The commands, put together."""

import typer

from keras_normface.cli._console import SafeGroup
from keras_normface.cli.embed import embed
from keras_normface.cli.evaluate import evaluate
from keras_normface.cli.export import export, show
from keras_normface.cli.gallery import enrol, identify, manage
from keras_normface.cli.prepare import align, pairs, prepare
from keras_normface.cli.train import ListsCommand, compare_losses, finetune, train
from keras_normface.cli.verify import verify

app = typer.Typer(
    name="keras-normface",
    cls=SafeGroup,
    help="Compare faces, find people in photos, prepare faces, train networks on them, and evaluate models.\n\n"
    "Example: keras-normface verify a.jpg b.jpg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(verify)
app.command()(embed)
app.command()(enrol)
app.command()(identify)
app.add_typer(manage)
app.command()(show)
app.command()(export)
app.command()(prepare)
app.command()(align)
app.command()(pairs)
app.command(cls=ListsCommand)(train)
app.command(cls=ListsCommand)(finetune)
app.command("compare-losses", cls=ListsCommand)(compare_losses)
app.command()(evaluate)


@app.callback()
def about():
    """Compare faces, find people in photos, prepare faces, train networks on them, and evaluate models."""
