"""Requests as a fuzzer makes them, against every operation of the OpenAPI page."""
