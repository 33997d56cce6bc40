"""ONNX files; requires the extra ``onnx``."""
