"""What is remembered of machines and their operators, in one locked YAML file."""
