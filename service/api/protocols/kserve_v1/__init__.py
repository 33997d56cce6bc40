"""The first protocol of KServe, which is TensorFlow Serving's over REST."""
