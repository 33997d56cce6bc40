"""SageMaker's container contract."""
