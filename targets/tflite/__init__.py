"""TFLite / LiteRT with the XNNPACK delegate: .tflite files."""
