"""What a JACK server says of itself, that PortAudio does not pass on. The only module that loads libjack."""

from __future__ import annotations

import ctypes
import sys

_NO_START_SERVER = 1
_NAME = b"backline-asks"


def period_frames() -> int:
    """Frames of a period of the server that runs, as long as it takes clients; 0 where none does.

    Like all that talks to a sound server it may hang: for processes that may be killed.
    """
    try:
        library = ctypes.CDLL("libjack.0.dylib" if sys.platform == "darwin" else "libjack.so.0")
    except OSError:
        return 0
    opened, asked, closed = library.jack_client_open, library.jack_get_buffer_size, library.jack_client_close
    opened.restype, asked.restype = ctypes.c_void_p, ctypes.c_uint32
    client = ctypes.c_void_p(opened(_NAME, ctypes.c_int(_NO_START_SERVER), None))
    if not client:
        return 0
    try:
        return int(asked(client))
    finally:
        closed(client)
