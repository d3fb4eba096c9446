"""What the user can mend; everything else keeps its traceback."""


class InputError(ValueError):
    """Bad input: one sentence that says what is wrong, where, and what to do. The command line exits with 2.

    A `ValueError`, since that is what callers from Python expect of a bad argument.
    """
