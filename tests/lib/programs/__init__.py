"""What scripts start by `python -m`: the demonstration, lintian, the rules about dependencies."""
