"""The one error a user can mend."""


class HeadprobeError(Exception):
    """A fault the user can mend; the command line prints it as one line and exits with 2.

    ``where`` names the place (a file, a file:line, an option, a head), ``what`` is wrong there,
    ``remedy`` says what to do about it. None of the three ends in a full stop.
    """

    def __init__(self, where: str, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(f"{where}: {what}. {remedy}.")
