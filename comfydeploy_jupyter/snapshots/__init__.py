"""An environment as a snapshot: read here or elsewhere, written as a Docker build context."""
