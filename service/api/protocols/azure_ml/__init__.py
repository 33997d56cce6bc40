"""The inference server of Azure ML."""
