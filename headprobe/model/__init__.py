"""Loading a model and observing its attention heads: the only package that loads models."""

from headprobe.model.chatter import hold_back_chatter

with hold_back_chatter():  # this imports the quantisation libraries that are installed
    import transformers.modeling_utils  # noqa: F401
