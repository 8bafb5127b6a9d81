"""The same faults given to other tools, where those can be expressed for them."""

PEERS: tuple[str, ...] = ()


def expressed(peer: str) -> list[tuple[str, str]]:
    """Kind and name of the cases that can be expressed for a peer."""
    del peer
    return []


def run_peer(peer: str, name: str, seed: int) -> list[tuple[str, str, str, str, float]]:
    """Name, status, finding, hint and seconds of each of the peer's checks on a case."""
    raise NotImplementedError(f"{peer} on {name} in seed {seed}")
