"""The KServe V1 protocol, which is the REST API of TensorFlow Serving."""
