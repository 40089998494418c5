"""Images that can't be read: which they are, what a stream does about them, and when it ends."""

from collections.abc import Mapping

_NAMED = 5


class BrokenImage(ValueError):
    """An image whose bytes are no picture. name: its file, or which record of what."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"cannot read image {self.name}: {self.reason}"


class UnfitImage(BrokenImage):
    """An image that can be read, and that the pipeline has no use for, such as a too small one."""

    def __str__(self) -> str:
        return f"cannot prepare image {self.name}: {self.reason}"


class TooManyBroken(ValueError):
    """More images than allowed can't be read. broken: each one's name and the reason."""

    def __init__(self, broken: Mapping[str, str], allowed: int):
        super().__init__(broken, allowed)
        self.broken, self.allowed = broken, allowed

    def __str__(self) -> str:
        named = [f"{name}: {reason}" for name, reason in list(self.broken.items())[:_NAMED]]
        more = ", …" if len(self.broken) > _NAMED else ""
        return (
            f"cannot read image {', '.join(named)}{more}; that makes {len(self.broken)}, and "
            f"data.max_broken allows {self.allowed}: mend what is broken, or allow more"
        )


class ImageOutOfReach(OSError):
    """A disk or network folder doesn't answer: nothing is known of the image, and it may again."""


def check_broken(broken: Mapping[str, str], allowed: int) -> None:
    """TooManyBroken where there are more than allowed. broken: name → reason."""
    if len(broken) > allowed:
        raise TooManyBroken(dict(broken), allowed)
