"""ONNX files; needs the extra ``onnx``."""
