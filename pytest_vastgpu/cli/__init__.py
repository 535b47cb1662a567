"""The command ``vastgpu``: one module for each group of its subcommands."""
