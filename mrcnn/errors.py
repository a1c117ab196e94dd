"""The one error that a user of this project is meant to read."""


class InputError(ValueError):
    """Bad input from outside: a data set, a configuration, a weight file.

    The message is one line that names the file, the field and what was expected; the command line prints it without a
    traceback and exits with status 2.
    """
