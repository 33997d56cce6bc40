"""The Open Inference Protocol, version 2, as implemented by Triton and KServe."""
