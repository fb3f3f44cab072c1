"""ONNX for ONNX Runtime: .onnx files."""
