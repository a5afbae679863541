"""The description of every route in OpenAPI 3.1, made from the models that check the bodies."""
