"""The measuring wing's models."""

from headprobe.model.chatter import hold_back_chatter

with hold_back_chatter():  # it imports the quantisation libraries that are installed
    import transformers.modeling_utils  # noqa: F401
