"""TFLite / LiteRT with the GPU accelerator: .tflite files in the form that it takes whole."""
