"""Layers that synchronise replicas, wherever a model holds them."""

import keras


def refuse_synchronized_batch_norm(model):
    """Raise if the model would run a synchronised batch normalisation inside a replica's XLA program.

    Args:
        model: A compiled model under a strategy.

    Raises:
        ValueError: If so, naming the layers and the ways out.
    """
    if not model.jit_compile or model.distribute_strategy.num_replicas_in_sync == 1:
        return
    names = [layer.name for layer in synchronized_layers(model)]
    if names:
        raise ValueError(
            "`jit_compile=True` compiles each replica by itself, so a batch normalisation cannot synchronise "
            "there. Use BatchNormalization(synchronized=False), or jit_compile=False. "
            f"Received: jit_compile=True with synchronized layers {names}"
        )


def synchronized_layers(model):
    """Return the layers of the model that synchronise replicas in their forward pass."""
    return [layer for layer in all_layers(model) if getattr(layer, "synchronized", False)]


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
