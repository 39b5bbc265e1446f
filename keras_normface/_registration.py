"""Registers the package's classes with Keras as soon as Keras is imported, without importing Keras itself."""

import importlib
import importlib.abc
import importlib.util
import sys
import threading

# The rooms whose classes `keras.saving` must find by their registered names.
ROOMS = ("layers", "losses", "margins", "optimizers", "heads", "backbones", "models")
MOST_FAILURES = 3
PACKAGE = __name__.partition(".")[0]


def register():
    """Import the rooms that hold registered classes."""
    for room in ROOMS:
        importlib.import_module(f"{PACKAGE}.{room}")


def register_after_keras():
    """Register at once where Keras was imported already, otherwise right after it is; several calls do it once."""
    if sys.modules.get("keras") is not None:  # `None` forbids its import
        register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; once Keras is imported, and no room is imported half, it registers and removes itself."""

    def __init__(self):
        self._lock = threading.RLock()
        self._running = 0  # imports of our rooms that have begun and not ended
        self._registering, self._failures = False, 0

    def find_spec(self, name, path=None, target=None):
        own = name.startswith(f"{PACKAGE}.")
        if name != "keras" and not own:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self, own)
                return spec
        return None

    def begin(self, own):
        with self._lock:
            self._running += own

    def end(self, own, loaded):
        with self._lock:
            self._running -= own
        while loaded and self._takes_over():
            loaded = not self._registered()

    def _registered(self):
        """Register; false if that is to be tried again, true if it is done or another thread will do it."""
        waiting = done = False
        try:
            register()
            done = True
        except (ImportError, RuntimeError):
            # Python reports a deadlock: another thread, which waits for Keras, holds a room that is wanted here.
            # It registers at that room's end, unless that has come meanwhile.
            self._failures += 1
            waiting = self._running > 0
            if not waiting and self._failures > MOST_FAILURES:
                raise
        finally:
            with self._lock:
                self._registering = False
                waiting = waiting and self._running > 0
                if done:
                    sys.meta_path.remove(self)
        return done or waiting

    def _takes_over(self):
        """Whether it is for this thread to register; then no other does."""
        with self._lock:
            loaded = sys.modules.get("keras") is not None
            ready = loaded and not self._running and not self._registering and self in sys.meta_path
            self._registering |= ready
            return ready


class _Loader(importlib.abc.Loader):
    """The loader of a module of Keras or of ours, which tells the finder when it begins and ends."""

    def __init__(self, loader, finder, own):
        self._loader, self._finder, self._own = loader, finder, own

    def __getattr__(self, name):  # `python -m` and resources ask the loader for more
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        loaded = False
        self._finder.begin(self._own)
        try:
            self._loader.exec_module(module)
            loaded = True
        finally:
            self._finder.end(self._own, loaded)
