"""ONNX and TFLite files, and the gate that every one of them has to pass."""
