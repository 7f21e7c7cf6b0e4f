"""Progress that remembers what it was told."""


class Remembering:
    """The stages, warnings and number of steps so far."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.steps = 0

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.stages.append(name)

    def advance(self, n: int = 1) -> None:
        self.steps += n

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def finish(self) -> None:
        pass
