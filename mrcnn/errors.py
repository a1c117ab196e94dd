"""The error for messages to the user."""


class InputError(ValueError):
    """Invalid user input: a data set, a configuration or a weight file.

    The message is one line with the file, the field and the expected value. The command line prints it without a
    traceback and exits with status 2.
    """
