"""The entry point, which says what to install if the command's own packages are missing."""

import sys
import warnings

NEEDED = ("typer", "rich", "click")
FAILED, WRONG_USE = 1, 2


def run():
    """Run the command `keras-normface` with the arguments of the process, and exit."""
    try:
        from keras_normface.cli._app import app
        from keras_normface.cli._console import say_warning
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        sys.stderr.write(f'keras-normface needs {error.name}: pip install "keras-normface[cli]"\n')
        sys.exit(WRONG_USE)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing was saved.\n")
        sys.exit(FAILED)
    warnings.showwarning = say_warning
    app()
