"""The exception for errors that the user can correct."""


class HeadprobeError(Exception):
    """An error that the user can correct.

    The command line prints it as one line, ``where: what. remedy.``, and exits with status 2. None
    of the three parts ends in a full stop; a remedy may end in a question mark.

    ``where`` is the place of the error: a file, a file:line, an option or a head. ``what`` is wrong
    there. ``remedy`` is what the user can do about it.
    """

    def __init__(self, where: str, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = where, what, remedy
        end = "" if remedy.endswith("?") else "."
        super().__init__(f"{where}: {what}. {remedy}{end}")
