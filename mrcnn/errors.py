"""The error for messages to the user, and counts in messages."""


class InputError(ValueError):
    """Invalid user input: a data set, a configuration or a weight file.

    The message is one line with the file, the field and the expected value. The command line prints it without a
    traceback and exits with status 2.
    """


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Format a count with its noun, whose plural has an s at its end unless `plural` is given.

    Example:
        >>> counted(1, "test image"), counted(0, "image"), counted(2, "image has", "images have")
        ('1 test image', '0 images', '2 images have')
    """
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"
