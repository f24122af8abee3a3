"""Which video decoder LeRobot is told to use: torchcodec or PyAV."""

import importlib


def video_backend() -> str:
    """torchcodec where FFmpeg's libraries let it load (faster at random access), else PyAV.

    Whoever opens or makes a dataset says it: LeRobot, left to find out, prints the ninety lines
    of torchcodec's traceback. `vp-agent doctor` says in one which it is.
    """
    try:
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError):  # RuntimeError: FFmpeg is not there
        return "pyav"
    return "torchcodec"
