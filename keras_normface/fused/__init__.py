"""Losses on all classes at once, with gradients of their own.

The plain losses hold several arrays `batch × classes`. The functions here take embeddings and the class centres
together, and hold one such array (`"buffer"`) or, block by block, none (`"stream"`). The heads call them; a user need
not.

The names that matter:

- `fused_margin_softmax`: softmax with a margin (NormFace Eq. 6, and all margins that `supports` accepts).
- `fused_agent_contrastive`, `fused_agent_triplet`: C-contrastive and C-triplet (NormFace Eq. 10 and 11). NormFace calls
  the class centres of these two losses agents, and so do we.
- `choose_mode`: plain, `"buffer"` or `"stream"`, by the size of the batch and the number of classes.
- `FusedTerms`: what the three losses return.

Read `_streaming.py` first: the forward and the backward pass over the classes, and `Rule`, what they ask of a loss.
Then `_softmax.py` and `_agents.py`, each a `Rule` or two and the losses made of them. `_compiled.py` calls XLA.
"""

from keras_normface.fused._agents import fused_agent_contrastive, fused_agent_triplet
from keras_normface.fused._compiled import has_compiler
from keras_normface.fused._softmax import MODES, FusedTerms, choose_mode, fused_margin_softmax, supports

__all__ = [
    "MODES",
    "FusedTerms",
    "choose_mode",
    "fused_agent_contrastive",
    "fused_agent_triplet",
    "fused_margin_softmax",
    "has_compiler",
    "supports",
]
