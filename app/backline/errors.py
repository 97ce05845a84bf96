"""The exception tree.

::

    BacklineError              everything this package raises on purpose
    ├── ModelError             a model file or graph that cannot be used as it is
    ├── AudioFileError         an audio file that cannot be read or written
    │   ├── FileExists         one that would have to be replaced, which was not asked for
    │   └── DiskFull           one for which there is no room left
    ├── DeviceError            an audio device that cannot be opened as asked
    └── MissingDependency      an optional package or system library that is not installed
"""


class BacklineError(Exception):
    """Base of all errors raised on purpose; its text is one clear sentence."""


class ModelError(BacklineError):
    """A model that cannot be loaded or run: says file, layer, what was expected and what was found."""


class AudioFileError(BacklineError):
    """An audio file that cannot be read or written."""


class FileExists(AudioFileError):
    """A file to write exists already, and replacing it was not asked for."""


class DiskFull(AudioFileError):
    """The disk, or what one may use of it, is full: the next file would fail as well."""


class DeviceError(BacklineError):
    """An audio device that is absent or refuses what was asked of it."""


class MissingDependency(BacklineError):
    """An optional package or a system library that is needed here and not installed."""
