"""The reputation of machines and their operators, stored in one locked YAML file."""
