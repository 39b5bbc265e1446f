"""The command `keras-normface`."""
