"""A training step that is seen at work: hooks that find it in a running script, and what was seen as a bare step."""

from jaxrecipe.adapters.watching.hooks import hooked
from jaxrecipe.adapters.watching.of_recording import recorded_step
from jaxrecipe.adapters.watching.recording import Recording
from jaxrecipe.adapters.watching.seen import Seen, verdict_of
from jaxrecipe.adapters.watching.watch import ScriptEnded, Watch

__all__ = ["Recording", "ScriptEnded", "Seen", "Watch", "hooked", "recorded_step", "verdict_of"]
