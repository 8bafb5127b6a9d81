"""The same faults given to other tools, where those can be expressed for them."""

from importlib.metadata import PackageNotFoundError, version

PEERS = ("torchtest2", "neural_net_checklist", "syndset")


def installed(peer: str) -> bool:
    """Whether a peer and PyTorch are there (`pip install jaxrecipe[fault-peers]`)."""
    try:
        return bool(version(peer) and version("torch"))
    except PackageNotFoundError:
        return False


def expressed(peer: str) -> list[tuple[str, str]]:
    """Kind and name of the cases that can be expressed for a peer; none when it is not installed."""
    if not installed(peer):
        return []
    from experiments.faults.peers.torch_cases import case_parts
    from jaxrecipe.catalogue import CONTROLS, FAULTS

    one_input = peer == "neural_net_checklist"
    named = [("fault", fault.name) for fault in FAULTS] + [("control", control.name) for control in CONTROLS]
    chosen = [(kind, name) for kind, name in named if case_parts(name) is not None]
    return [(kind, name) for kind, name in chosen if not (one_input and name in ("two_inputs", "41a_input_ignored"))]


def run_peer(peer: str, name: str, seed: int) -> list[tuple[str, str, str, float]]:
    """Name, status, headline and seconds of each of the peer's checks on a case."""
    from experiments.faults.peers.run_peers import run

    return run(peer, name, seed)
