"""`python -m keras_normface.cli`, the same as `keras-normface`."""

from keras_normface.cli.main import run

if __name__ == "__main__":
    run()
