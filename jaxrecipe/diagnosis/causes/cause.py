"""A row of the table of causes."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What may be wrong with a training set-up and what to do about it: what `jaxrecipe explain CODE` prints.

    Attributes:
        code: stable over versions, `area/name` ("loss/softmax-twice").
        title: what is wrong, in one short sentence.
        harm: why it does harm.
        fix: what to do, in the imperative.
        here: what points to it in this set-up, with names and numbers; empty in the table itself.
        explains: codes of what it brings about, and which need no cause of their own once it is proven.
    """

    code: str
    title: str
    harm: str
    fix: str
    here: str = ""
    explains: tuple[str, ...] = ()

    def because(self, here: str) -> "Cause":
        """The same cause with what points to it in this set-up."""
        return replace(self, here=here)

    @property
    def advice(self) -> str:
        """Title, what points to it, and what to do, as one paragraph."""
        return " ".join(part for part in (self.title, self.here, self.fix) if part)
