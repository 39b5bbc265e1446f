"""Walks over the layers of a Keras model."""

import keras


def all_layers(model):
    """Yield the layers of a model, wherever its attributes hold them, each once."""
    return _all_layers(model, set())


def _all_layers(holder, seen):
    if id(holder) in seen:
        return
    seen.add(id(holder))
    if isinstance(holder, keras.layers.Layer):
        yield holder
        children = [*getattr(holder, "layers", []), *vars(holder).values()]
    else:
        children = holder.values() if isinstance(holder, dict) else holder
    for child in children:
        if isinstance(child, keras.layers.Layer | dict | list | tuple):
            yield from _all_layers(child, seen)
