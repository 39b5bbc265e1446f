"""The entry point, which says what to install if the command's own packages are missing."""

import sys
import traceback
import warnings

NEEDED = ("typer", "rich", "click")
FAILED = 2


def run():
    """Run the command `keras-normface` with the arguments of the process, and exit."""
    try:
        from keras_normface.cli._app import app
        from keras_normface.cli._console import say_warning
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        sys.stderr.write(f'keras-normface needs {error.name}: pip install "keras-normface[cli]"\n')
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing was saved.\n")
        sys.exit(FAILED)
    warnings.showwarning = say_warning
    try:
        app()
    except Exception:  # Python's own exit code for it, 1, is an answer of `verify`
        traceback.print_exc()
        sys.exit(FAILED)
