"""Recipes: strict YAML to objects. The only area that joins all the others."""
