"""Tests of comfydeploy-jupyter; a package, so that no other ``tests`` on the path hides it."""
