"""Layer segments of one model: cut out of a GGUF, and run on two machines as one."""
