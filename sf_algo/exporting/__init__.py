"""Policies for programs without torch: ONNX."""
