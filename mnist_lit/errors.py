"""The errors that a user can cause, and how an error is told: in a line, without a traceback."""


class SettingError(ValueError):
    """A flag, file or folder that the user gave cannot be used; the message names it."""


def explain(error: Exception) -> str:
    """The reason in a few words: of the system's errors without their number and file."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
