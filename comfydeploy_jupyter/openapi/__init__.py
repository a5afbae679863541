"""Describes every route in OpenAPI 3.1, from the models that validate the bodies."""
