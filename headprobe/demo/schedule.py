"""What depends on how far a run has come: learning rate, sequence length, saved checkpoints."""

from __future__ import annotations

WARM_UP = 0.02
DECAY_FROM = 0.55
FINAL_RATE = 0.02
EVERY = 1024


def rate_factor(fraction: float) -> float:
    """Warm-up, plateau, linear decay; `fraction` of the run's minutes or tokens that is spent."""
    if fraction < WARM_UP:
        return max(fraction / WARM_UP, 0.025)
    if fraction < DECAY_FROM:
        return 1.0
    return max(FINAL_RATE, (1.0 - fraction) / (1.0 - DECAY_FROM))


def sequence_length(fraction: float, context: int, long_from: float) -> int:
    """Half the context at first (cheaper attention), all of it once `long_from` is spent."""
    return context if fraction >= long_from else context // 2


def is_checkpoint_step(step: int) -> bool:
    """Step 0, every power of two, and every 1,024th step: roles emerge on a log clock."""
    return step & (step - 1) == 0 or step % EVERY == 0
